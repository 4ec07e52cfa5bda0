"""How long a client tries while nobody answers, and how long each try may take.

Each request and each stream has a `Retry` of its own, for all tries. A `Retry` measures the time
with a monotonic clock and does not only count tries. So the client gives up in time even if a
connection is open but silent. A `Retry` sends no requests: `Client` and `AsyncClient` report to the
`Retry` what happened.
"""

import random
import time
from collections.abc import Callable

import httpx2 as httpx

from scriptservice.client.problems import (
    ClientError,
    ConnectionLostError,
    HostUnavailableError,
    ProblemError,
    StoreUnavailableError,
    TooManyRequestsError,
)

CONNECT_SECONDS = 10.0
ANSWER_SECONDS = 30.0
SILENCE_SECONDS = 20.0
"""The service sends something on an event stream at least every 15 s. If a client receives nothing
for `SILENCE_SECONDS`, it checks on a new connection whether the service answers."""
FIRST_TRY_SECONDS = 1.0
"""How long the first connection may take before a client says that it goes on trying."""
PROBE_SECONDS = 5.0
"""How long the service may take to answer when a client checks whether the service answers."""

_LEAST_SILENCE_SECONDS = 5.0
"""A client waits at least this long for an answer, even if ``retry_seconds`` is shorter, because a
healthy service may need this time."""
_LAST_TRY_SECONDS = 2.0
"""Time that is reserved for a last try on a new connection before a client gives up."""
_HELD_ANSWER_SECONDS = 5.0
"""An answer that the service holds back may arrive this long after the time in ``?wait=``."""

_BACKOFF_SECONDS = (0.1, 0.2, 0.5, 1.0, 2.0)
_WORTH_ANOTHER_TRY = (
    ConnectionLostError,
    HostUnavailableError,
    StoreUnavailableError,
    TooManyRequestsError,
)
_NOT_CONNECTED = (httpx.ConnectError, httpx.ConnectTimeout)
_NOT_DONE = (*_NOT_CONNECTED, StoreUnavailableError, TooManyRequestsError)
"""Failures after which the service has certainly not done what the request asks for."""


def silence_seconds_of(retry_seconds: float, silence_seconds: float) -> float:
    """Return how long a stream may be silent, so that time for a last try remains.

    Args:
        retry_seconds: time after which the client gives up.
        silence_seconds: the longest silence that the user allows.
    """
    patience = max(retry_seconds - _LAST_TRY_SECONDS, _LEAST_SILENCE_SECONDS)
    return min(silence_seconds, patience)


def held_seconds(silence_seconds: float) -> float:
    """Return how long the service may hold an answer back.

    This time is shorter than the silence after which a connection is suspected to be dead.
    """
    return silence_seconds * 3 / 4


class PhaseTimeouts(dict[str, float | None]):
    """The time-outs of one try, in the form that httpx needs, with one deadline for all phases.

    The phases are connect, write, read for the headers, and read for the body. If each phase had a
    fixed time-out, a try could last as long as the sum of these time-outs. But httpcore looks up
    the time-out of a phase when the phase begins, so `get` can return the time that is left.

    Args:
        seconds: time for all phases up to the end of the headers.
        silence_seconds: longest time between two pieces of the body; None for the time that is left
            of ``seconds``.
        clock: returns the monotonic time in seconds.
        header_reads: number of reads before the body: 1, or 2 if a proxy first answers the request
            for a tunnel.
        connect_seconds: time to make a connection.
    """

    def __init__(
        self,
        seconds: float,
        silence_seconds: float | None = None,
        clock: Callable[[], float] = time.monotonic,
        *,
        header_reads: int = 1,
        connect_seconds: float = CONNECT_SECONDS,
    ) -> None:
        # An HTTP client that copies the dictionary uses these values, and never calls `get`. Then a
        # try may last longer than `seconds`, but not for ever.
        connect = min(connect_seconds, seconds)
        read = seconds if silence_seconds is None else silence_seconds
        super().__init__(connect=connect, read=read, write=seconds, pool=connect)
        self._silence_seconds = silence_seconds
        self._clock = clock
        self._deadline = clock() + seconds
        self._header_reads = header_reads
        self._connect_seconds = connect_seconds
        self._reads = 0

    def get(self, key: str, default: float | None = None) -> float | None:  # type: ignore[override]
        """Return the time-out of the phase that begins now, in seconds."""
        if key not in self:
            return default
        rest = max(0.01, self._deadline - self._clock())
        if key == "read":
            self._reads += 1
            if self._reads > self._header_reads:
                return self._silence_seconds or max(rest, _LAST_TRY_SECONDS)
            return rest
        return min(self._connect_seconds, rest) if key in ("connect", "pool") else rest


class Retry:
    """Decides how long a client tries while nobody answers.

    Attributes:
        tries: how many tries have failed since the last answer.
        silent: whether the stream has been silent for too long. The client must then check on a new
            connection whether the service answers.
        new_connection: whether the next try needs a new connection, because a try has failed. The
            idle connections may be dead, like the connection of that try.

    Args:
        url: URL of the service, for the error message.
        seconds: time after which the client gives up, counted from the last time that the service
            sent something.
        silence_seconds: how long a stream may be silent.
        first_contact_seconds: how long to try while no connection can be made, if this time is
            shorter than ``seconds``; None if the service has answered before.
        on_unreachable: called once if the first connection cannot be made and further tries follow,
            with the number of seconds that all tries take; None for no call.
        tunnelled: whether a proxy passes on the bytes without reading them (``CONNECT``).
        clock: returns the monotonic time in seconds.
    """

    def __init__(
        self,
        url: str,
        seconds: float,
        silence_seconds: float = SILENCE_SECONDS,
        *,
        first_contact_seconds: float | None = None,
        on_unreachable: Callable[[float], None] | None = None,
        tunnelled: bool = False,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._url = url
        self._seconds = seconds
        self._silence_seconds = silence_seconds_of(seconds, silence_seconds)
        self._first_contact_seconds = first_contact_seconds
        self._on_unreachable = on_unreachable
        self._header_reads = 2 if tunnelled else 1
        self._clock = clock
        self._heard_at = clock()
        self.tries = 0
        self.silent = False
        self.new_connection = False

    def heard(self) -> None:
        """Restart the time after which the client gives up, because the service sent something."""
        self._heard_at = self._clock()
        self._first_contact_seconds = None
        self._on_unreachable = None

    def answered(self) -> None:
        """Restart that time and the count of tries.

        The clients call this method when the service has answered or has sent data. They also call
        it when a caller asks for the next piece of a stream, so the time that the caller worked
        does not count.
        """
        self.heard()
        self.tries, self.silent = 0, False

    def request_timeouts(self, wait_seconds: float = 0) -> PhaseTimeouts:
        """Return the time-outs of the next try of a request.

        Args:
            wait_seconds: how long the service may hold the answer back.
        """
        most = wait_seconds + _HELD_ANSWER_SECONDS if wait_seconds else ANSWER_SECONDS
        if self.tries == 0:
            # The first try may reuse an idle connection, which may be dead. Leave time for a try
            # on a new connection.
            most = min(most, max(self._seconds - _LAST_TRY_SECONDS, _LEAST_SILENCE_SECONDS))
        return self._timeouts(most)

    def stream_timeouts(self) -> PhaseTimeouts:
        """Return the time-outs of the next try of a stream."""
        return self._timeouts(self._silence_seconds, self._silence_seconds)

    def probe_timeouts(self) -> PhaseTimeouts:
        """Return the time-outs of the request that checks whether the service answers."""
        return self._timeouts(PROBE_SECONDS)

    def _timeouts(self, most: float, body_seconds: float | None = None) -> PhaseTimeouts:
        patience = max(self._seconds, _LEAST_SILENCE_SECONDS)
        rest = max(patience - (self._clock() - self._heard_at), _LAST_TRY_SECONDS)
        return PhaseTimeouts(
            min(most, rest),
            body_seconds,
            self._clock,
            header_reads=self._header_reads,
            connect_seconds=FIRST_TRY_SECONDS if self._on_unreachable else CONNECT_SECONDS,
        )

    def stream_failed(self, error: Exception) -> float:
        """Return how many seconds to wait before a stream's next try.

        Silence alone is not a failure, because a script may print rarely. After a silence this
        method returns 0 and sets `silent`, so the client checks whether the service answers.

        Args:
            error: why the stream broke.

        Raises:
            ClientError: see `pause_or_raise`.
        """
        if isinstance(error, httpx.ReadTimeout) and not self.silent:
            self.silent = self.new_connection = True
            return 0.0
        return self.pause_or_raise(error)

    def pause_or_raise(self, error: Exception, *, may_repeat: bool = True) -> float:
        """Return how many seconds to wait before the next try.

        Args:
            error: why the last try failed.
            may_repeat: whether the request may be sent again although it may have arrived.

        Raises:
            ClientError: the service refused the request, and would refuse it again.
            ConnectionLostError: the time is over.
        """
        if isinstance(error, ClientError) and not isinstance(error, _WORTH_ANOTHER_TRY):
            raise error
        if not may_repeat and not isinstance(error, _NOT_DONE):
            why = str(error) or type(error).__name__
            message = f"cannot tell whether {self._url} has got the request: {why}"
            raise ConnectionLostError(message) from error
        limit = self._limit(error)
        rest = limit - (self._clock() - self._heard_at)
        if rest <= 0:
            if isinstance(error, ProblemError):
                raise error
            why = str(error) or type(error).__name__
            raise ConnectionLostError(f"cannot reach {self._url}: {why}") from error
        if self._on_unreachable is not None and isinstance(error, _NOT_CONNECTED):
            self._on_unreachable(limit)
        self._on_unreachable = None
        pause = _BACKOFF_SECONDS[min(self.tries, len(_BACKOFF_SECONDS) - 1)]
        self.tries += 1
        self.new_connection = True
        # The pause is random. Otherwise all clients would ask a restarted service at the same
        # moment.
        return min(pause * random.uniform(0.5, 1.0), rest)  # noqa: S311 - not a secret

    def _limit(self, error: Exception) -> float:
        if self._first_contact_seconds is not None and isinstance(error, _NOT_CONNECTED):
            return min(self._seconds, self._first_contact_seconds)
        return self._seconds
