"""Processes that are hard to attribute or to kill."""

import contextlib
import shutil
import subprocess
from pathlib import Path

import psutil

from support.gates import Gate
from support.service import Service, eventually, new_directory, processes_with

BECOME_ROOT = """
#define _GNU_SOURCE
#include <unistd.h>
int main(int count, char **words) {
    (void)count;
    if (setresuid(0, 0, 0) != 0) return 1;
    execv(words[1], words + 1);
    return 1;
}
"""


def unattributed_orphan(service: Service, mark: str) -> psutil.Process:
    """Return an orphan whose script has ended and is unknown to the keeper.

    The keeper may see a process before that loses its environment, and kill it with its script. So
    this tries again.
    """
    for _ in range(50):
        gate = Gate(service)
        made = service.submit(f"(setsid env -i /bin/sleep {mark} >/dev/null 2>&1 &); {gate.block}")
        orphan = eventually(lambda: without_environment(mark), "the orphan")
        gate.open()
        assert service.wait(made["id"])["status"] == "succeeded"
        if processes_with(mark):
            assert isinstance(orphan, psutil.Process)
            return orphan
    raise AssertionError("the keeper always knew its script")


def without_environment(mark: str) -> psutil.Process | None:
    for process in processes_with(mark):
        with contextlib.suppress(psutil.Error):
            if process.name() == "sleep" and not process.environ():
                return process
    return None


class BecomeRoot:
    """A set-uid program that runs another program as root, as ``sudo`` does.

    Only root may signal the other program. The test must run as root, and must not forget `close`.

    Attributes:
        path: the path of the program; its arguments are the other program and that one's arguments.
    """

    def __init__(self) -> None:
        self._directory = new_directory()
        self.path = self._directory / "become-root"
        source = Path(f"{self.path}.c")
        source.write_text(BECOME_ROOT)
        subprocess.run(["cc", "-o", str(self.path), str(source)], check=True)
        self.path.chmod(0o4755)

    def close(self) -> None:
        """Remove the program."""
        shutil.rmtree(self._directory)
