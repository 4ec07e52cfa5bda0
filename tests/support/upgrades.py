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
    """Return how far the service's last upgrade is."""
    return read_upgrade_report(str(service.data_dir))


def ask_for_upgrade(service: Service) -> int:
    """Send SIGHUP; return the number of the upgrade that comes of it."""
    assert service.process is not None
    number = report_of(service).number + 1
    os.kill(service.process.pid, signal.SIGHUP)
    return number


def end_of_upgrade(service: Service, number: int) -> UpgradeReport:
    """Wait until an upgrade is over."""

    def over() -> UpgradeReport | None:
        report = report_of(service)
        return report if report.number >= number and report.done else None

    report = eventually(over, f"the end of upgrade {number}")
    assert isinstance(report, UpgradeReport)
    service.close_client()  # its connections were the old server's
    return report


def upgrade(service: Service) -> UpgradeReport:
    """Upgrade, and wait until that is over."""
    return end_of_upgrade(service, ask_for_upgrade(service))


def wait_for_step(service: Service, number: int, text: str) -> None:
    """Wait until an upgrade says that it does something, which must last until it is seen."""

    def there() -> bool:
        report = report_of(service)
        assert report.number < number or not report.done, report
        return report.number == number and text in report.message

    eventually(there, f"{text} in upgrade {number}")


def descriptors(pid: int) -> list[str]:
    """Return what a process has open, without the numbers that pipes, sockets and segments have.

    Nothing where the tests do not run as root: our programs show that to nobody else.
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
"""The file in its directory for which a script looks that goes on until it is told to end."""


def let_end(service: Service, command: str) -> None:
    """Tell a script to end that looks for `UNTIL_TOLD`."""
    (service.data_dir / "work" / f"end-{command}").touch()


def servers(service: Service) -> list[int]:
    """Return the process ids of the living servers: one, and two during an upgrade."""
    assert service.process is not None
    found = []
    for child in psutil.Process(service.process.pid).children():
        with contextlib.suppress(psutil.Error):  # a zombie has no command line
            if "scriptservice.server" in child.cmdline():
                found.append(child.pid)
    return found


class HeldUpgrade:
    """An upgrade that stands still at a step, since the process stands still that has it to do.

    Of the steps by themselves some are over before a test can look.

    Args:
        service: that is upgraded. Its server is stopped by SIGSTOP, and so it does not retire.

    Attributes:
        number: the upgrade's.
        old: process id of the server that retires.
        held: the process that stands still, by its id.
    """

    def __init__(self, service: Service) -> None:
        self._service = service
        self.old = self.held = service.server_pid
        os.kill(self.old, signal.SIGSTOP)
        self.number = ask_for_upgrade(service)
        wait_for_step(service, self.number, "retires")

    def take_over(self) -> None:
        """Let the old server retire, and the new one stand still when its turn has come."""
        (successor,) = set(servers(self._service)) - {self.old}
        os.kill(successor, signal.SIGSTOP)
        self.go_on()
        self.held = successor
        wait_for_step(self._service, self.number, "takes over")

    def go_on(self) -> None:
        """Let the process go on that stands still."""
        os.kill(self.held, signal.SIGCONT)


class Installation:
    """A copy of the code with an interpreter of its own, as an upgrade on the disk meets it."""

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
        """Replace a piece of a file by another, as a new release might."""
        path = self.code / name
        text = path.read_text()
        assert text.count(old) == 1, (name, old, text.count(old))
        path.write_text(text.replace(old, new))
        self._changed.add(name)

    def hold_servers(self) -> Path:
        """Let every server that prepares wait until there is a file; return where."""
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
