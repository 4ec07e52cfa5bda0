"""Tells the service manager (systemd) how the keeper is: ready, stopping, alive.

The protocol of ``sd_notify``: lines in a datagram to the socket that the manager named. Nothing
here waits and nothing here is fatal: a manager that is gone or slow costs scripts nothing. What
could not be sent is owed, and sent with what comes next. The watchdog is fed from the keeper's loop
and judges that alone: a server that hangs is no reason to end the scripts.
"""

import os
import socket
import time
from collections.abc import Callable

from scriptservice.keeper.system.event_loop import EventLoop, Timer
from scriptservice.keeper.system.keeper_log import logger
from scriptservice.keeper.upgrade_state import ServiceManagerState

STATUS_SECONDS = 1.0
"""News of how many scripts run goes out this often at most, and what is owed is tried again."""

_LONGEST_STATUS = 300


class ServiceManager:
    """The service manager, as far as it listens.

    Args:
        address: its datagram socket, a path or an abstract name after ``@``; None: there is none.
        watchdog_seconds: it ends the service that is silent for so long; None: it does not.
        loop: timers.
        status: returns one line for a person.
    """

    def __init__(
        self,
        address: str | None,
        watchdog_seconds: float | None,
        loop: EventLoop,
        status: Callable[[], str],
    ) -> None:
        self._address = _socket_address(address)
        self._watchdog_seconds = watchdog_seconds
        self._loop = loop
        self._status = status
        self._sent_status = ""
        self._is_ready = False
        self._owed: dict[str, str] = {}
        self._pause_timer: Timer | None = None
        self._failed = False
        self._socket: socket.socket | None = None
        if self._address is not None:
            kind = socket.SOCK_DGRAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC
            self._socket = socket.socket(socket.AF_UNIX, kind)

    def to_state(self) -> ServiceManagerState:
        """Return what it knows and is owed, for the keeper's next program."""
        return ServiceManagerState(is_ready=self._is_ready, owed=dict(self._owed))

    def restore(self, state: ServiceManagerState) -> None:
        """Go on where the keeper's program before this one was."""
        self._is_ready = state.is_ready
        self._owed = dict(state.owed)

    def start_watchdog(self) -> None:
        """Begin to show that the loop turns."""
        if self._socket is not None and self._watchdog_seconds is not None:
            self._feed_watchdog()

    def _feed_watchdog(self) -> None:
        assert self._watchdog_seconds is not None  # noqa: S101 - for the type checker
        self._notify(WATCHDOG="1")
        self._loop.after(self._watchdog_seconds / 2, self._feed_watchdog)

    def notify_ready(self) -> None:
        """The service can be used; also after `reloading`."""
        self._is_ready = True
        self._owed.pop("RELOADING", None)  # in one datagram with READY it would be ambiguous
        self._sent_status = self._status()
        self._notify(READY="1", STATUS=self._sent_status)

    def notify_reloading(self) -> None:
        """The configuration is being read again; `ready` ends it."""
        if self._is_ready:
            self._notify(RELOADING="1", MONOTONIC_USEC=str(time.monotonic_ns() // 1000))

    def notify_stopping(self, seconds: float) -> None:
        """The service ends, within so many seconds, for which the manager is to wait."""
        self._owed.pop("READY", None)
        self._sent_status = self._status()
        extension = str(int(seconds * 1_000_000))
        self._notify(STOPPING="1", EXTEND_TIMEOUT_USEC=extension, STATUS=self._sent_status)

    def notify_status(self) -> None:
        """Something may have changed: called after every batch, so cheap when nothing has."""
        if self._socket is None or self._pause_timer is not None:
            return
        status = self._status()
        if status != self._sent_status:
            self._sent_status = status
            self._notify(STATUS=status)

    def _notify(self, **lines: str) -> None:
        if self._socket is None:
            return
        self._owed |= lines
        self._send()
        if self._pause_timer is None:
            self._pause_timer = self._loop.after(STATUS_SECONDS, self._retry)

    def _retry(self) -> None:
        self._pause_timer = None
        if self._owed:
            self._notify()

    def _send(self) -> None:
        assert self._socket is not None  # noqa: S101 - for the type checker
        text = "\n".join(f"{name}={_one_line(value)}" for name, value in self._owed.items())
        try:
            self._socket.sendto(text.encode(errors="replace"), self._address or b"")
        except OSError as error:
            # Gone, or its queue is full: it is owed. The scripts matter more than who watches.
            if not self._failed:
                logger.warning("manager_not_told", detail=str(error))
            self._failed = True
        else:
            self._owed.clear()
            self._failed = False


def _socket_address(address: str | None) -> bytes | None:
    if address is None:
        return None
    if address[:1] not in {"/", "@"}:
        logger.warning("manager_not_told", detail=f"{address} is no path")
        return None
    name = os.fsencode(address)
    return b"\0" + name[1:] if name[:1] == b"@" else name


def _one_line(text: str) -> str:
    return " ".join(text.split())[:_LONGEST_STATUS]
