"""``scriptservice upgrade``: asks a running keeper to upgrade to the installed release."""

import fcntl
import os
import select
import signal
import sys
import time

from scriptservice.cli.exit_codes import INTERRUPTED, fail
from scriptservice.cli.settings_options import takes_settings
from scriptservice.errors import ConfigurationError
from scriptservice.protocol.upgrade_report import UpgradeReport, read_upgrade_report
from scriptservice.settings import Settings

WAIT_SECONDS = 300.0
_STEP_SECONDS = 0.05


@takes_settings("config", "data_dir")
def upgrade(settings: Settings) -> None:
    """Upgrade the running service to the installed release.

    Scripts keep running, and no request fails. If the new release cannot take over, the old
    release continues.
    """
    try:
        report = _request_upgrade(settings.data_dir)
    except KeyboardInterrupt as error:
        raise fail("interrupted; the upgrade continues", INTERRUPTED) from error
    if not report.ok:
        raise fail(f"cannot upgrade: {report.message}")
    print(report.message)


def _request_upgrade(data_dir: str) -> UpgradeReport:
    """Ask the keeper of a data directory for an upgrade, and wait for the result.

    Raises:
        ConfigurationError: no keeper runs, this user may not signal the keeper, or the keeper
            reports no result.
    """
    pid = _keeper_pid(data_dir)
    try:
        pidfd = os.pidfd_open(pid)
    except OSError as error:
        message = f"cannot upgrade {data_dir}: process {pid} is gone"
        raise ConfigurationError(message) from error
    try:
        # A pidfd always refers to the same process. The pidfd is open, so check now that its
        # process is the keeper. Then the signal cannot reach another process that gets the same
        # process id later.
        _check_is_keeper(data_dir, pid)
        try:
            before = read_upgrade_report(data_dir)
            signal.pidfd_send_signal(pidfd, signal.SIGHUP)
        except OSError as error:
            message = f"cannot upgrade {data_dir}: {error.strerror}"
            raise ConfigurationError(message) from error
        return _wait_for_report(data_dir, pidfd, before)
    finally:
        os.close(pidfd)


def _keeper_pid(data_dir: str) -> int:
    """Return the id of the process that holds a data directory's lock.

    Raises:
        ConfigurationError: no process holds the lock, or the lock's file cannot be opened.
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


def _check_is_keeper(data_dir: str, pid: int) -> None:
    """Refuse to signal a process that is not a keeper.

    Raises:
        ConfigurationError: the process with this id is another program. This happens, for example,
            if the service runs in a container, because process ids have another meaning there.
    """
    try:
        with open(f"/proc/{pid}/cmdline", "rb") as file:
            words = file.read().split(b"\0")
    except OSError:
        words = []
    if b"scriptservice.keeper" not in words:
        message = f"cannot upgrade {data_dir}: process {pid} is not a keeper of this machine"
        raise ConfigurationError(message)


def _wait_for_report(data_dir: str, pidfd: int, before: UpgradeReport) -> UpgradeReport:
    """Wait until an upgrade later than ``before`` is done; print the steps to stderr meanwhile."""
    deadline = time.monotonic() + WAIT_SECONDS
    last = before
    keeper = select.poll()
    keeper.register(pidfd, select.POLLIN)
    while time.monotonic() < deadline:
        ended = keeper.poll(_STEP_SECONDS * 1000)
        report = read_upgrade_report(data_dir)
        if report.number > before.number and report.done:
            return report
        if ended:
            message = f"cannot upgrade {data_dir}: the service has ended"
            raise ConfigurationError(message)
        if report != last:
            last = report
            print(f"{report.message} ...", file=sys.stderr)
    message = f"cannot tell how the upgrade ended: no report came within {WAIT_SECONDS:g} s"
    raise ConfigurationError(message)
