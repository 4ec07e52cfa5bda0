"""Upgrades of a real service, and installations whose code a test may change under it."""

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import sysconfig
from pathlib import Path

import scriptservice
from scriptservice.keeper.report import Report, read_report
from support.service import Service, eventually, new_directory

UPGRADE_SECONDS = 90


def report_of(service: Service) -> Report:
    """Return how far the service's last upgrade is."""
    return read_report(str(service.data_dir))


def ask_for_upgrade(service: Service) -> int:
    """Send SIGHUP; return the number of the upgrade that comes of it."""
    assert service.process is not None
    number = report_of(service).number + 1
    os.kill(service.process.pid, signal.SIGHUP)
    return number


def end_of_upgrade(service: Service, number: int) -> Report:
    """Wait until an upgrade is over."""

    def over() -> Report | None:
        report = report_of(service)
        return report if report.number >= number and report.done else None

    report = eventually(over, f"the end of upgrade {number}", UPGRADE_SECONDS)
    assert isinstance(report, Report)
    service.close_client()  # its connections were the old server's
    return report


def upgrade(service: Service) -> Report:
    """Upgrade, and wait until that is over."""
    return end_of_upgrade(service, ask_for_upgrade(service))


def wait_for_step(service: Service, number: int, text: str) -> None:
    """Wait until an upgrade says that it does something."""

    def there() -> bool:
        report = report_of(service)
        assert report.number < number or not report.done, report
        return report.number == number and text in report.message

    eventually(there, f"{text} in upgrade {number}")


def descriptors(pid: int) -> list[str]:
    """Return what a process has open, without the numbers that pipes, sockets and segments have."""
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


class Installation:
    """A copy of the code with an interpreter of its own, as an upgrade on the disk meets it."""

    def __init__(self) -> None:
        self.directory = new_directory()
        venv = self.directory / "venv"
        subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(venv)], check=True)
        self.code = self.directory / "src" / "scriptservice"
        original = Path(scriptservice.__file__).parent
        shutil.copytree(original, self.code, ignore=shutil.ignore_patterns("__pycache__"))
        version = f"python{sys.version_info[0]}.{sys.version_info[1]}"
        site = venv / "lib" / version / "site-packages"
        libraries = sysconfig.get_path("purelib")
        (site / "copy.pth").write_text(f"{self.code.parent}\n{libraries}\n")
        self.python = str(venv / "bin" / "python")

    def change(self, name: str, old: str, new: str) -> None:
        """Replace a piece of a file by another, as a new release might."""
        path = self.code / name
        text = path.read_text()
        assert text.count(old) == 1, (name, old, text.count(old))
        path.write_text(text.replace(old, new))

    def restore(self, name: str) -> None:
        """Undo the changes of a file."""
        shutil.copy(Path(scriptservice.__file__).parent / name, self.code / name)

    def remove(self) -> None:
        shutil.rmtree(self.directory, ignore_errors=True)
