"""A real keeper whose child is the test: a puppet process gives its socket to the test."""

import contextlib
import os
import shutil
import socket
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any
from uuid import uuid4

from scriptservice.keeper.config import KeeperConfig
from scriptservice.keeper.journal.journal_repair import output_length, scan
from scriptservice.protocol.frames import Frame, FrameBuffer, SpawnSpec, encode
from scriptservice.protocol.journal_format import SEGMENT_HEADER_BYTES, Kind, Record, segment_bases
from support.service import PATIENCE_SECONDS, eventually, new_directory
from support.watched_keeper import FORGOTTEN

PUPPET = """
import socket, sys
keeper = int(sys.argv[sys.argv.index("--keeper-fd") + 1])
test = socket.socket(socket.AF_UNIX)
test.connect(sys.argv[1])
socket.send_fds(test, [b"x"], [keeper])
test.recv(1)
"""

WATCHED_KEEPER = f"""
import os, runpy, sys
sys.path.insert(0, {str(Path(__file__).parent.parent)!r})
from support.watched_keeper import watch_keepers
del sys.path[0]
watch_keepers()
exec(os.environ.pop("RIG_INJECTION", ""))
runpy.run_module("scriptservice.keeper", run_name="__main__", alter_sys=True)
"""


class Rig:
    """One keeper, and the child's end of the socket to it.

    Each child that the keeper starts is a puppet: it sends its socket to the test and then lives
    for as long as its connection to the test is open.

    Args:
        injection: code that runs in the keeper's process before the keeper, to let something fail.
        settings: fields of `KeeperConfig`, in place of the ones chosen here.

    Attributes:
        data_dir: the data directory.
        process: the keeper.
        socket: the present child's end.
        hello: the frame with which the keeper greeted that child.
    """

    def __init__(self, *, injection: str = "", **settings: Any) -> None:
        self.directory = new_directory()
        self.data_dir = self.directory / "data"
        puppet = self.directory / "puppet.py"
        puppet.write_text(PUPPET)
        self._puppet_listener = socket.socket(socket.AF_UNIX)
        self._puppet_listener.bind(str(self.directory / "puppets"))
        self._puppet_listener.listen()
        self._puppet_listener.settimeout(PATIENCE_SECONDS)
        self._sending = threading.Lock()
        self._puppets: list[socket.socket] = []
        self.socket = socket.socket()
        self._log = (self.directory / "log").open("wb")
        config = KeeperConfig(
            data_dir=str(self.data_dir),
            listen_host=None,
            listen_port=0,
            child_argv=[sys.executable, "-I", str(puppet), str(self.directory / "puppets")],
            **{"run_as": str(os.geteuid()), "use_cgroups": False, **settings},
        )
        descriptor = config.to_descriptor()
        arguments = ["-I", "-c", WATCHED_KEEPER, "--config-fd", str(descriptor)]
        self.process = subprocess.Popen(
            [sys.executable, *arguments],
            pass_fds=[descriptor],
            stdin=subprocess.DEVNULL,
            stderr=self._log,
            env={**os.environ, "RIG_INJECTION": injection},
        )
        os.close(descriptor)
        self.accept_child()

    def upgrade_child(self, protocol: int) -> None:
        """Play the server's part of an upgrade: prepare a successor, retire, be greeted."""
        successor = self.accept_successor()
        successor.sendall(encode({"type": "prepared", "protocol": protocol, "release": "the next"}))
        self.receive("retire")
        old = self._puppets.pop(-2)
        self.socket.close()
        old.close()
        self._be_child(successor)

    def accept_child(self) -> None:
        """Wait for the keeper's next child, and be that child."""
        self._be_child(self.accept_successor())

    def accept_successor(self) -> socket.socket:
        """Wait for a child that the keeper does not greet yet; return its socket."""
        puppet, _ = self._puppet_listener.accept()
        _, (descriptor, *_), _, _ = socket.recv_fds(puppet, 1, 1)
        self._puppets.append(puppet)
        child = socket.socket(fileno=descriptor)
        child.settimeout(PATIENCE_SECONDS)
        return child

    def _be_child(self, child: socket.socket) -> None:
        self._frames = FrameBuffer()
        self.socket.close()
        self.socket = child
        self.hello = self.receive("hello")

    def end_child(self) -> None:
        """End the child's process and close its socket."""
        self.socket.close()
        self._puppets.pop().close()

    def end_child_but_keep_socket(self) -> socket.socket:
        """End the child's process; return its socket, which stays open."""
        held = self.socket.dup()
        self.end_child()
        return held

    def send(self, *frames: Frame) -> None:
        with self._sending:
            self.socket.sendall(b"".join(encode(frame) for frame in frames))

    def receive(self, kind: str) -> Frame:
        while True:
            data = self.socket.recv(1 << 16)
            assert data, "the keeper closed the socket"
            for frame in self._frames.feed(data):
                if frame["type"] == kind:
                    return frame

    def spawn(self, script: str, interpreter: list[str] | None = None, **fields: Any) -> str:
        """Request that a script is run; return the command's id."""
        spec = SpawnSpec(str(uuid4()), script, interpreter or ["/bin/bash"], **fields)
        self.send(spec.to_frame())
        return spec.id

    def records(self, command_id: str = "") -> list[Record]:
        """Return the journal's records, of one command or of all."""
        directory = str(self.data_dir / "journal")
        found = [record for base in segment_bases(directory) for record in scan(directory, base)]
        return [
            each
            for each in found
            if each.command_id.hex() == command_id.replace("-", "") or not command_id
        ]

    def kinds(self, command_id: str) -> list[Kind]:
        return [record.kind for record in self.records(command_id)]

    def end(self) -> int:
        return self.records()[-1].end

    def output_bytes(self, command_id: str) -> int:
        """Return how many bytes of a command the journal's first segment holds."""
        total, start = 0, SEGMENT_HEADER_BYTES
        for record in self.records():
            if record.kind == Kind.OUTPUT and record.command_id.hex() == command_id.replace(
                "-", ""
            ):
                total += output_length(record, start)
            start = record.end
        return total

    def wait_for(self, command_id: str, kind: Kind) -> Record:
        """Wait until the journal has a record of this kind for a command; return it."""

        def find() -> Record | None:
            return next((each for each in self.records(command_id) if each.kind == kind), None)

        found = eventually(find, f"{kind.name} of {command_id}")
        assert isinstance(found, Record)
        return found

    def log(self) -> str:
        return (self.directory / "log").read_text()

    def close(self) -> None:
        self.process.terminate()
        with contextlib.suppress(OSError, AssertionError):
            self.receive("finish")
        for puppet in self._puppets:
            puppet.close()
        try:
            self.process.wait(PATIENCE_SECONDS)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.socket.close()
        self._puppet_listener.close()
        self._log.close()
        forgotten = FORGOTTEN in self.log()
        shutil.rmtree(self.directory, ignore_errors=True)
        assert not forgotten


def words_in(path: Path) -> list[str]:
    return path.read_text().split() if path.exists() else []
