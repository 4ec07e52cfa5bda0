"""Runs containers with what the check needs: namespaces, capabilities, volumes and a process 1."""

import os
import signal
import subprocess
import tempfile
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from support.service import eventually
from tools.image.compose import ComposeService
from tools.image.roots import Root


class Container:
    """One service of the compose file, run in a root directory.

    Args:
        service: the service's entry in the file.
        root: the root directory, which no other container uses.
        volumes: directory that contains one directory for each volume.
        words: the program to run, with its arguments.
    """

    def __init__(
        self, service: ComposeService, root: Root, volumes: Path, words: Sequence[str]
    ) -> None:
        self.service = service
        self._root = root
        self._words = words
        self._log = tempfile.NamedTemporaryFile(prefix="scriptservice-image-")  # noqa: SIM115
        self.process: subprocess.Popen[bytes] | None = None
        self.pid = 0
        for name, (path, read_only) in service.volumes.items():
            directory = volumes / name
            if not directory.exists():
                # A container engine gives a new volume the mode and the owner of the directory in
                # the image. This check does the same.
                inside = root.inside(path)
                directory.mkdir(mode=0o755)
                if inside.is_dir():
                    about = inside.stat()
                    os.chown(directory, about.st_uid, about.st_gid)
                    directory.chmod(about.st_mode & 0o7777)
            root.bind(directory, path, read_only=read_only)

    def start(self) -> "Container":
        outer = ["unshare", "--pid", "--fork", "--kill-child", "--mount", "--ipc", "--uts"]
        outer += [f"--root={self._root.path}", "--mount-proc=/proc"]
        self.process = subprocess.Popen(
            [*outer, "--wd=/", *self._under(), *self._words],
            env=self._root.environment | self.service.environment,
            stdin=subprocess.DEVNULL,
            stdout=self._log,
            stderr=self._log,
        )
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children")
        self.pid = int(eventually(lambda: children.read_text().strip(), "its process 1"))
        return self

    def _under(self) -> list[str]:
        """Return the command that runs a program with the capabilities that the file allows."""
        if self.service.fields.get("cap_drop") != ["ALL"]:
            return []
        kept = ",".join(f"+{name.lower()}" for name in self.service.fields["cap_add"])
        return [
            "setpriv", f"--bounding-set=-all,{kept}", "--inh-caps=-all", "--no-new-privs", "--",
        ]  # fmt: skip

    def run(self, *words: str) -> subprocess.CompletedProcess[str]:
        """Run a program in the container, as ``docker exec`` and health checks do."""
        enter = ["nsenter", f"--target={self.pid}", "--pid", "--mount", "--root", "--wd=/"]
        return subprocess.run(
            [*enter, *self._under(), *words],
            env=self._root.environment | self.service.environment,
            capture_output=True,
            text=True,
            check=False,
        )

    def health(self, test: Sequence[str]) -> bool:
        return self.run(*test).returncode == 0

    def output(self) -> str:
        return Path(self._log.name).read_text(errors="replace")

    def processes(self) -> list[str]:
        """Return the words of the command lines of all processes in the container."""
        listing = self.run("/bin/sh", "-c", "cat /proc/[0-9]*/cmdline | tr '\\0\\n' ' '")
        return listing.stdout.split()

    def stop(self, seconds: float) -> int:
        """Stop the container as a container engine does; return the exit code of process 1.

        Args:
            seconds: longest time to wait after SIGTERM.
        """
        assert self.process is not None
        os.kill(self.pid, signal.SIGTERM)
        return self.process.wait(seconds)

    def close(self) -> None:
        if self.process is not None and self.process.poll() is None:
            with suppress(ProcessLookupError):
                os.kill(self.pid, signal.SIGKILL)
            self.process.wait(20)
        self._log.close()
