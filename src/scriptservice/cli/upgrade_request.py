"""``scriptservice upgrade``: asks a running keeper to go on as the code on the disk."""

import fcntl
import os
import select
import signal
import sys
import time
from typing import Any

import click

from scriptservice.cli.serve import setting_option
from scriptservice.errors import ConfigurationError
from scriptservice.protocol.upgrade_report import UpgradeReport, read_upgrade_report
from scriptservice.settings import load_settings

WAIT_SECONDS = 300.0
_STEP_SECONDS = 0.05
_HELP = (
    "Let the running service go on as the release that is installed now: its server is replaced "
    "without breaking a connection, its scripts run on. If the new one cannot, the old one stays."
)


def upgrade(words: list[str]) -> int:
    """Upgrade the service of a data directory in place; return the exit code.

    Args:
        words: the arguments after the verb.
    """

    def collect(**given: Any) -> dict[str, Any]:
        return given

    options: list[click.Parameter] = [setting_option(name) for name in ("config", "data_dir")]
    command = click.Command("upgrade", params=options, callback=collect, help=_HELP)
    try:
        given = command.main(words, prog_name="scriptservice upgrade", standalone_mode=False)
        if not isinstance(given, dict):
            return 0  # help was asked for and shown
        report = _upgrade(load_settings(given).data_dir)
    except click.ClickException as error:
        print(f"scriptservice: {error.format_message()}", file=sys.stderr)
        return 2
    except ConfigurationError as error:
        print(f"scriptservice: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("scriptservice: interrupted; the upgrade goes on", file=sys.stderr)
        return 130
    if report.ok:
        print(report.message)
        return 0
    print(f"scriptservice: cannot upgrade: {report.message}", file=sys.stderr)
    return 1


def _upgrade(data_dir: str) -> UpgradeReport:
    """Ask for an upgrade, and wait for how it went.

    Raises:
        ConfigurationError: there is no keeper, it may not be asked, or it does not say.
    """
    pid = _keeper_of(data_dir)
    try:
        handle = os.pidfd_open(pid)
    except OSError as error:
        message = f"cannot upgrade {data_dir}: process {pid} is gone"
        raise ConfigurationError(message) from error
    try:
        # The descriptor pins whoever has the id now; only then is it looked at.
        _must_be_keeper(data_dir, pid)
        try:
            before = read_upgrade_report(data_dir)
            signal.pidfd_send_signal(handle, signal.SIGHUP)
        except OSError as error:
            message = f"cannot upgrade {data_dir}: {error.strerror}"
            raise ConfigurationError(message) from error
        return _wait(data_dir, handle, before)
    finally:
        os.close(handle)


def _keeper_of(data_dir: str) -> int:
    """Return the id of the process that holds a data directory's lock.

    Raises:
        ConfigurationError: nobody does.
    """
    try:
        lock = os.open(os.path.join(data_dir, "lock"), os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError as error:
        message = f"cannot upgrade {data_dir}: no service was ever started there"
        raise ConfigurationError(message) from error
    except OSError as error:
        message = f"cannot upgrade {data_dir}: {error.strerror}"
        raise ConfigurationError(message) from error
    try:
        fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return int(os.pread(lock, 20, 0) or b"0")
    finally:
        os.close(lock)
    message = f"cannot upgrade {data_dir}: no service runs there"
    raise ConfigurationError(message)


def _must_be_keeper(data_dir: str, pid: int) -> None:
    """Refuse to signal what is no keeper.

    Raises:
        ConfigurationError: the lock's process, seen from here, is another program: the service
            is in a container, say.
    """
    try:
        with open(f"/proc/{pid}/cmdline", "rb") as file:
            words = file.read().split(b"\0")
    except OSError:
        words = []
    if b"scriptservice.keeper" not in words:
        message = f"cannot upgrade {data_dir}: process {pid} is no keeper of this machine"
        raise ConfigurationError(message)


def _wait(data_dir: str, handle: int, before: UpgradeReport) -> UpgradeReport:
    """Wait for the first upgrade that began after ``before``, telling its steps."""
    deadline = time.monotonic() + WAIT_SECONDS
    told = before
    ended = select.poll()
    ended.register(handle, select.POLLIN)
    while time.monotonic() < deadline:
        gone = ended.poll(_STEP_SECONDS * 1000)
        report = read_upgrade_report(data_dir)
        if report.number > before.number and report.done:
            return report
        if gone:
            message = f"cannot upgrade {data_dir}: the service has ended"
            raise ConfigurationError(message)
        if report != told:
            told = report
            print(f"{report.message} ...", file=sys.stderr)
    message = f"cannot say how the upgrade went: nothing was heard for {WAIT_SECONDS:g} s"
    raise ConfigurationError(message)
