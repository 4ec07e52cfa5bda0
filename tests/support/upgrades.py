"""Upgrades of a real service, and installations whose code a test may change under it."""

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import sysconfig
from pathlib import Path

import psutil

import scriptservice
from scriptservice.protocol.upgrade_report import UpgradeReport, read_upgrade_report
from support.service import Service, eventually, new_directory


def report_of(service: Service) -> UpgradeReport:
    """Return the report of the service's latest upgrade."""
    return read_upgrade_report(str(service.data_dir))


def ask_for_upgrade(service: Service) -> int:
    """Send SIGHUP; return the number of the upgrade that follows."""
    assert service.process is not None
    number = report_of(service).number + 1
    os.kill(service.process.pid, signal.SIGHUP)
    return number


def end_of_upgrade(service: Service, number: int) -> UpgradeReport:
    """Wait until an upgrade has ended; return its report."""

    def ended() -> UpgradeReport | None:
        report = report_of(service)
        return report if report.number >= number and report.done else None

    report = eventually(ended, f"the end of upgrade {number}")
    assert isinstance(report, UpgradeReport)
    service.close_client()  # Its connections were to the old server.
    return report


def upgrade(service: Service) -> UpgradeReport:
    """Upgrade, and wait for the end."""
    return end_of_upgrade(service, ask_for_upgrade(service))


def wait_for_step(service: Service, number: int, text: str) -> None:
    """Wait until an upgrade reports a step, which must last until it is seen.

    Args:
        service: the service.
        number: of the upgrade.
        text: a part of the report's message.
    """

    def reported() -> bool:
        report = report_of(service)
        assert report.number < number or not report.done, report
        return report.number == number and text in report.message

    eventually(reported, f"{text} in upgrade {number}")


def descriptors(pid: int) -> list[str]:
    """Return a process's open files, without the numbers of pipes, sockets and segments.

    Empty if the tests do not run as root: only root may see the descriptors of the service.
    """
    if os.geteuid() != 0:
        return []
    found = []
    for name in os.listdir(f"/proc/{pid}/fd"):
        with contextlib.suppress(FileNotFoundError):
            target = os.readlink(f"/proc/{pid}/fd/{name}").partition("[")[0]
            found.append("journal" if target.endswith(".journal") else target)
    return sorted(found)


UNTIL_TOLD = "end-$SCRIPTSERVICE_COMMAND_ID"
"""A file in the working directory; a script that runs until it exists ends by `let_end`."""


def let_end(service: Service, command: str) -> None:
    """Create the file `UNTIL_TOLD` of a command, so that its script ends."""
    (service.data_dir / "work" / f"end-{command}").touch()


def servers(service: Service) -> list[int]:
    """Return the process ids of the living servers: one, and two during an upgrade."""
    assert service.process is not None
    found = []
    for child in psutil.Process(service.process.pid).children():
        with contextlib.suppress(psutil.Error):  # A zombie has no command line.
            if "scriptservice.server" in child.cmdline():
                found.append(child.pid)
    return found


class HeldUpgrade:
    """An upgrade that is held at a step by a SIGSTOP of the process whose step it is.

    Otherwise some steps end before a test can see them.

    Args:
        service: the service to upgrade. Its server is stopped, and so does not retire.

    Attributes:
        number: of the upgrade.
        old: process id of the server that retires.
        held: process id of the stopped process.
    """

    def __init__(self, service: Service) -> None:
        self._service = service
        self.old = self.held = service.server_pid
        os.kill(self.old, signal.SIGSTOP)
        self.number = ask_for_upgrade(service)
        wait_for_step(service, self.number, "retires")

    def take_over(self) -> None:
        """Let the old server retire, and hold the new one when it takes over."""
        (successor,) = set(servers(self._service)) - {self.old}
        os.kill(successor, signal.SIGSTOP)
        self.go_on()
        self.held = successor
        wait_for_step(self._service, self.number, "takes over")

    def go_on(self) -> None:
        """Continue the stopped process."""
        os.kill(self.held, signal.SIGCONT)


class Installation:
    """A copy of the code with a virtual environment of its own, which a test can change."""

    def __init__(self) -> None:
        self.directory = new_directory()
        venv = self.directory / "venv"
        subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(venv)], check=True)
        self.code = self.directory / "src" / "scriptservice"
        original = Path(scriptservice.__file__).parent
        shutil.copytree(original, self.code)
        version = f"python{sys.version_info[0]}.{sys.version_info[1]}"
        site = venv / "lib" / version / "site-packages"
        libraries = sysconfig.get_path("purelib")
        (site / "copy.pth").write_text(f"{self.code.parent}\n{libraries}\n")
        self.python = str(venv / "bin" / "python")
        self._changed: set[str] = set()

    def change(self, name: str, old: str, new: str) -> None:
        """Replace a text that occurs once in a file, as a new release might."""
        path = self.code / name
        text = path.read_text()
        assert text.count(old) == 1, (name, old, text.count(old))
        path.write_text(text.replace(old, new))
        self._changed.add(name)

    def hold_servers(self) -> Path:
        """Make every server that prepares wait until a file exists; return the file's path."""
        gate = self.directory / "prepare"
        waits = f"    while not __import__('os').path.exists({str(gate)!r}):\n"
        held = f"{waits}        await asyncio.sleep(0.02)\n    web.load()\n"
        self.change("server/startup/takeover.py", "    web.load()\n", held)
        return gate

    def restore(self, name: str) -> None:
        """Undo the changes of a file."""
        shutil.copy(Path(scriptservice.__file__).parent / name, self.code / name)
        self._changed.discard(name)

    def restore_all(self) -> None:
        """Undo all changes."""
        for name in list(self._changed):
            self.restore(name)

    def remove(self) -> None:
        shutil.rmtree(self.directory, ignore_errors=True)
