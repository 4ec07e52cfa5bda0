"""How long a client goes on, and how long each try may take: by a clock that the test moves."""

import json
from typing import Any, cast

import httpx2 as httpx
import pytest

from scriptservice.client import exchanges
from scriptservice.client.problems import (
    ConnectionLostError,
    HostUnavailableError,
    OffsetMismatchError,
    StoreUnavailableError,
    TooManyRequestsError,
)
from scriptservice.client.retry import PhaseTimeouts, Retry, held_seconds, silence_seconds_of
from scriptservice.client.types import InputReceipt


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def seconds_until_given_up(retry: Retry, clock: Clock, error: Exception, *, stream: bool) -> float:
    """Return after how many seconds it is given up when every try takes as long as it may."""
    began = clock.now
    while True:
        if not stream:
            timeouts = retry.request_timeouts()
        else:
            timeouts = retry.probe_timeouts() if retry.silent else retry.stream_timeouts()
        for phase in ("connect", "write", "read"):
            clock.now += (timeouts.get(phase) or 0) / 2
        clock.now += timeouts.get("write") or 0
        try:
            clock.now += retry.stream_failed(error) if stream else retry.pause_or_raise(error)
        except ConnectionLostError:
            return clock.now - began


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("seconds", [5, 10, 20, 60, 300])
@pytest.mark.parametrize("error", [httpx.ReadTimeout("silent"), httpx.ConnectTimeout("silent")])
def test_the_time_covers_all_tries(seconds: float, stream: bool, error: Exception) -> None:
    clock = Clock()
    took = seconds_until_given_up(Retry("u", seconds, clock=clock), clock, error, stream=stream)
    assert seconds <= took <= seconds + 2.1


def test_the_phases_of_a_try_share_its_time() -> None:
    clock = Clock()
    timeouts = PhaseTimeouts(15, 20, clock)
    assert timeouts.get("connect") == 10
    clock.now += 9
    assert (timeouts.get("write"), timeouts.get("read")) == (6, 6)
    clock.now += 5
    assert timeouts.get("read") == 20  # of the body: from one piece to the next
    assert timeouts.get("else") is None


def test_the_answer_of_a_proxy_comes_before_the_headers() -> None:
    clock = Clock()
    timeouts = Retry("u", 60, 20, tunnelled=True, clock=clock).stream_timeouts()
    clock.now += 5
    assert timeouts.get("read") == 15  # of the proxy: the tunnel is there
    clock.now += 5
    assert timeouts.get("read") == 10  # of the service's headers
    assert timeouts.get("read") == 20  # of the body


def test_silence_is_asked_after_before_it_counts() -> None:
    clock = Clock()
    retry = Retry("u", 7, clock=clock)
    for _ in range(1000):  # an hour of silence between answers
        clock.now += retry.stream_timeouts()["read"] or 0
        assert retry.stream_failed(httpx.ReadTimeout("silent")) == 0
        assert retry.silent
        retry.answered()
    assert not retry.silent


def test_the_time_counts_from_when_the_service_was_heard_of() -> None:
    clock = Clock()
    retry = Retry("u", 20, clock=clock)
    for _ in range(3):
        clock.now += 15
        retry.pause_or_raise(httpx.ReadError("broken"))
        retry.heard()
    clock.now += 20
    with pytest.raises(ConnectionLostError, match="cannot reach u: broken"):
        retry.pause_or_raise(httpx.ReadError("broken"))


def test_a_service_that_was_never_there_is_told_sooner() -> None:
    refused = httpx.ConnectError("refused")
    clock = Clock()
    retry = Retry("u", 300, first_contact_seconds=10, clock=clock)
    clock.now += 11
    retry.pause_or_raise(httpx.ReadTimeout("it took the connection"))
    with pytest.raises(ConnectionLostError):
        retry.pause_or_raise(refused)
    retry.heard()
    clock.now += 299
    retry.pause_or_raise(refused)


def test_silence_leaves_time_for_a_last_try() -> None:
    assert [silence_seconds_of(each, 20) for each in (300, 20, 10, 1, 0)] == [20, 18, 8, 5, 5]
    assert silence_seconds_of(300, 1) == 1
    assert held_seconds(20) == 15


def test_a_first_contact_that_fails_is_reported_once() -> None:
    clock = Clock()
    reports: list[float] = []
    retry = Retry("u", 300, first_contact_seconds=10, on_unreachable=reports.append, clock=clock)
    clock.now += retry.request_timeouts().get("connect") or 0
    assert clock.now == 1001  # a connection that hangs is reported soon
    retry.pause_or_raise(httpx.ConnectTimeout("silent"))
    assert reports == [10]
    assert retry.request_timeouts().get("connect") == 10
    retry.pause_or_raise(httpx.ConnectError("refused"))
    assert reports == [10]


@pytest.mark.parametrize("error", [httpx.ReadTimeout("busy"), httpx.ReadError("restarted")])
def test_a_service_that_was_reached_is_not_reported(error: Exception) -> None:
    clock = Clock()
    reports: list[float] = []
    retry = Retry("u", 300, on_unreachable=reports.append, clock=clock)
    retry.pause_or_raise(error)
    retry.pause_or_raise(httpx.ConnectError("refused"))
    assert reports == []


# Requests that may not be sent twice


@pytest.mark.parametrize(
    ("error", "is_sent_again"),
    [
        (httpx.ConnectError("refused"), True),
        (httpx.ConnectTimeout("silent"), True),
        (TooManyRequestsError(429, {}), True),
        (StoreUnavailableError(503, {}), True),
        (HostUnavailableError(503, {}), False),
        (httpx.ReadTimeout("silent"), False),
        (httpx.RemoteProtocolError("broke"), False),
    ],
)
def test_only_what_certainly_did_not_arrive_is_sent_again(
    error: Exception, is_sent_again: bool
) -> None:
    retry = Retry("u", 60, clock=Clock())
    assert retry.pause_or_raise(error) > 0
    if is_sent_again:
        assert retry.pause_or_raise(error, may_repeat=False) > 0
        return
    with pytest.raises(ConnectionLostError, match="cannot tell whether u has got the request"):
        retry.pause_or_raise(error, may_repeat=False)


def answer(status: int, tries: int, **members: Any) -> exchanges.Answer:
    body = json.dumps(members).encode()
    return exchanges.Answer("u", status, "application/problem+json", {}, body, tries)


def test_input_whose_answer_was_lost_counts_as_accepted() -> None:
    def send(tries: int, offset: int) -> InputReceipt:
        exchange = exchanges.send_input("id", b"abc", 5, False)
        request = next(exchange)
        assert (request.may_repeat, request.query) == (True, [("offset", "5")])
        mismatch = answer(409, tries, type="/problems/offset-mismatch", offset=offset)
        with pytest.raises(StopIteration) as end:
            exchange.send(mismatch)
        return cast("InputReceipt", end.value.value)

    assert send(2, 8) == InputReceipt(3, 8)
    for tries, offset in ((1, 8), (2, 9), (2, 5)):
        with pytest.raises(OffsetMismatchError):
            send(tries, offset)
    without = next(exchanges.send_input("id", b"abc", None, True))
    assert (without.may_repeat, without.query) == (False, [("close", "true")])
    assert not next(exchanges.signal("id", "HUP")).may_repeat
