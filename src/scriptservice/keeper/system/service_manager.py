"""Tells the service manager (systemd) the state of the service: ready, stopping, alive.

The protocol is that of ``sd_notify``: the keeper sends lines in a datagram to a socket that the
manager names. No function of this module waits, and no failure is fatal, so a manager that is gone
or slow does not affect scripts. Lines that could not be sent are sent with the next datagram. The
keeper's event loop feeds the watchdog, so the manager ends the service only if that loop hangs. A
server that hangs does not stop the watchdog, because the scripts must run on.
"""

import os
import socket
import time
from collections.abc import Callable

from scriptservice.keeper.system.event_loop import EventLoop, Timer
from scriptservice.keeper.system.keeper_log import logger
from scriptservice.keeper.upgrade_state import ServiceManagerState

STATUS_SECONDS = 1.0
"""The shortest time between two status lines, and between two attempts to send the same lines."""

_LONGEST_STATUS = 300


class ServiceManager:
    """Sends notifications to the service manager.

    Args:
        address: address of the manager's datagram socket: a path, or an abstract name after
            ``@``; None if there is no service manager.
        watchdog_seconds: the manager ends the service after this time without a notification;
            None if the manager has no watchdog.
        loop: runs timers.
        status: returns one line about the service, for people.
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
        self._loop = loop.supervised(self)
        self._status = status
        self._sent_status = ""
        self._is_ready = False
        self._unsent: dict[str, str] = {}
        self._pause_timer: Timer | None = None
        self._watchdog_timer: Timer | None = None
        self._failed = False
        self._socket: socket.socket | None = None
        if self._address is not None:
            kind = socket.SOCK_DGRAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC
            self._socket = socket.socket(socket.AF_UNIX, kind)

    def callback_failed(self, error: Exception) -> None:  # noqa: ARG002 - it is logged
        """Send the unsent lines later; `_feed_watchdog` has already set its next timer."""
        if self._pause_timer is None:
            self._pause_timer = self._loop.after(STATUS_SECONDS, self._retry)

    def to_state(self) -> ServiceManagerState:
        """Return whether READY was sent, and the unsent lines, for the keeper's next program."""
        return ServiceManagerState(is_ready=self._is_ready, owed=dict(self._unsent))

    def restore(self, state: ServiceManagerState) -> None:
        """Take over the state of the keeper's previous program."""
        self._is_ready = state.is_ready
        self._unsent = dict(state.owed)

    def start_watchdog(self) -> None:
        """Feed the watchdog from now on, if there is one."""
        if self._socket is not None and self._watchdog_seconds is not None:
            self._feed_watchdog()

    def _feed_watchdog(self) -> None:
        assert self._watchdog_seconds is not None  # noqa: S101 - for the type checker
        self._loop.cancel(self._watchdog_timer)
        seconds = self._watchdog_seconds / 2
        self._watchdog_timer = self._loop.after(seconds, self._feed_watchdog)
        self._notify(WATCHDOG="1")

    def notify_ready(self) -> None:
        """Tell the manager that the service can be used; this also ends a reload."""
        self._is_ready = True
        # A datagram with both RELOADING and READY would be ambiguous.
        self._unsent.pop("RELOADING", None)
        self._sent_status = self._status()
        self._notify(READY="1", STATUS=self._sent_status)

    def notify_reloading(self) -> None:
        """Tell the manager that the service reloads, until `notify_ready` is called.

        The service reloads by an upgrade in place.
        """
        if self._is_ready:
            self._notify(RELOADING="1", MONOTONIC_USEC=str(time.monotonic_ns() // 1000))

    def notify_stopping(self, seconds: float) -> None:
        """Tell the manager that the service stops, and that this may take ``seconds`` seconds."""
        self._unsent.pop("READY", None)
        self._sent_status = self._status()
        extension = str(int(seconds * 1_000_000))
        self._notify(STOPPING="1", EXTEND_TIMEOUT_USEC=extension, STATUS=self._sent_status)

    def notify_status(self) -> None:
        """Send the status line if it has changed.

        The keeper calls this method after every batch of events, so the method must be cheap.
        """
        if self._socket is None or self._pause_timer is not None:
            return
        status = self._status()
        if status != self._sent_status:
            self._sent_status = status
            self._notify(STATUS=status)

    def _notify(self, **lines: str) -> None:
        if self._socket is None:
            return
        self._unsent |= lines
        self._send()
        if self._pause_timer is None:
            self._pause_timer = self._loop.after(STATUS_SECONDS, self._retry)

    def _retry(self) -> None:
        self._pause_timer = None
        if self._unsent:
            self._notify()

    def _send(self) -> None:
        assert self._socket is not None  # noqa: S101 - for the type checker
        text = "\n".join(f"{name}={_one_line(value)}" for name, value in self._unsent.items())
        try:
            self._socket.sendto(text.encode(errors="replace"), self._address or b"")
        except OSError as error:
            # The manager is gone, or its queue is full. Scripts must not wait for the manager.
            if not self._failed:
                logger.warning("manager_not_told", detail=str(error))
            self._failed = True
        else:
            self._unsent.clear()
            self._failed = False


def _socket_address(address: str | None) -> bytes | None:
    if address is None:
        return None
    if address[:1] not in {"/", "@"}:
        logger.warning("manager_not_told", detail=f"{address} is not a path")
        return None
    name = os.fsencode(address)
    return b"\0" + name[1:] if name[:1] == b"@" else name


def _one_line(text: str) -> str:
    return " ".join(text.split())[:_LONGEST_STATUS]
