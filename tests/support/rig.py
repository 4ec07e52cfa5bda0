"""A real keeper whose child is in the test's hands: the test itself speaks to the keeper."""

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

PUPPET = """
import socket, sys
keeper = int(sys.argv[sys.argv.index("--keeper-fd") + 1])
test = socket.socket(socket.AF_UNIX)
test.connect(sys.argv[1])
socket.send_fds(test, [b"x"], [keeper])
test.recv(1)
"""


class Rig:
    """One keeper, and the ends of the sockets that its children were given.

    Args:
        settings: more of the keeper's configuration.
    """

    def __init__(self, **settings: Any) -> None:
        self.directory = new_directory()
        self.data_dir = self.directory / "data"
        puppet = self.directory / "puppet.py"
        puppet.write_text(PUPPET)
        self._meeting = socket.socket(socket.AF_UNIX)
        self._meeting.bind(str(self.directory / "meeting"))
        self._meeting.listen()
        self._meeting.settimeout(PATIENCE_SECONDS)
        self._sending = threading.Lock()
        self._strings: list[socket.socket] = []
        self.socket = socket.socket()
        self._log = (self.directory / "log").open("wb")
        config = KeeperConfig(
            data_dir=str(self.data_dir),
            listen_host=None,
            listen_port=0,
            child_argv=[sys.executable, "-I", str(puppet), str(self.directory / "meeting")],
            run_as=str(os.geteuid()),
            **{"use_cgroups": False, **settings},
        )
        descriptor = config.to_descriptor()
        words = ["-I", "-m", "scriptservice.keeper", "--config-fd", str(descriptor)]
        self.process = subprocess.Popen(
            [sys.executable, *words],
            pass_fds=[descriptor],
            stdin=subprocess.DEVNULL,
            stderr=self._log,
        )
        os.close(descriptor)
        self.meet()

    def upgrade_child(self, protocol: int) -> None:
        """Meet a successor, let it be prepared, let the present child retire, be greeted."""
        successor = self.meet_successor()
        successor.sendall(encode({"type": "prepared", "protocol": protocol, "release": "the next"}))
        self.receive("retire")
        old = self._strings.pop(-2)
        self.socket.close()
        old.close()
        self._become(successor)

    def meet(self) -> None:
        """Take over the socket of the keeper's next child."""
        self._become(self.meet_successor())

    def meet_successor(self) -> socket.socket:
        """Return the socket of a child that the keeper has started, and does not greet yet."""
        string, _ = self._meeting.accept()
        _, (descriptor, *_), _, _ = socket.recv_fds(string, 1, 1)
        self._strings.append(string)
        met = socket.socket(fileno=descriptor)
        met.settimeout(PATIENCE_SECONDS)
        return met

    def _become(self, child: socket.socket) -> None:
        self._frames = FrameBuffer()
        self.socket.close()
        self.socket = child
        self.hello = self.receive("hello")

    def let_child_die(self) -> None:
        """End the child, and the socket that it shares with the test."""
        self.socket.close()
        self._strings.pop().close()

    def let_only_child_die(self) -> socket.socket:
        """End the child; return its socket, which still lives."""
        held = self.socket.dup()
        self.let_child_die()
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

    def spawn(self, script: str, **fields: Any) -> str:
        """Ask for a script to be run; return its id."""
        spec = SpawnSpec(str(uuid4()), script, ["/bin/bash"], **fields)
        self.send(spec.to_frame())
        return spec.id

    def records(self, command: str = "") -> list[Record]:
        """Return what the journal says, of one command or of all."""
        directory = str(self.data_dir / "journal")
        found = [record for base in segment_bases(directory) for record in scan(directory, base)]
        return [
            each
            for each in found
            if each.command_id.hex() == command.replace("-", "") or not command
        ]

    def kinds(self, command: str) -> list[Kind]:
        return [record.kind for record in self.records(command)]

    def end(self) -> int:
        return self.records()[-1].end

    def output_bytes(self, command: str) -> int:
        """Return how many bytes of a command the journal's first segment holds."""
        total, start = 0, SEGMENT_HEADER_BYTES
        for record in self.records():
            if record.kind == Kind.OUTPUT and record.command_id.hex() == command.replace("-", ""):
                total += output_length(record, start)
            start = record.end
        return total

    def wait_for(self, command: str, kind: Kind) -> Record:
        """Wait until the journal has a record of a kind of a command."""

        def there() -> Record | None:
            return next((each for each in self.records(command) if each.kind == kind), None)

        found = eventually(there, f"{kind.name} of {command}")
        assert isinstance(found, Record)
        return found

    def log(self) -> str:
        return (self.directory / "log").read_text()

    def close(self) -> None:
        self.process.terminate()
        with contextlib.suppress(OSError, AssertionError):
            self.receive("finish")
        for string in self._strings:
            string.close()
        try:
            self.process.wait(PATIENCE_SECONDS)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.socket.close()
        self._meeting.close()
        self._log.close()
        shutil.rmtree(self.directory, ignore_errors=True)


def lines_of(path: Path) -> list[str]:
    return path.read_text().split() if path.exists() else []
