"""The one-time code and the limit of tries, by the clock; and what is a host."""

from ipaddress import ip_address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scriptservice.server.access.origin_check import parse_host
from scriptservice.server.access.page_sessions import COOKIE, SECURE_COOKIE, SessionCookies
from scriptservice.server.access.sign_in import (
    CODE_SECONDS,
    TRIES,
    TRY_SECONDS,
    AttemptLimiter,
    OneTimeCode,
)


class Clock:
    """Seconds that pass when a test says so."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def test_a_code_is_good_once() -> None:
    code = OneTimeCode(Clock())
    text = code.issue()
    assert not code.take(text + "x")
    assert not code.take("")
    assert code.take(text)
    assert not code.take(text)


def test_a_code_is_good_for_ten_minutes() -> None:
    clock = Clock()
    code = OneTimeCode(clock)
    text = code.issue()
    clock.now += CODE_SECONDS - 1
    assert code.take(text)
    code.give_back(text)  # the session could not be stored
    clock.now += 1
    assert not code.take(text)
    assert CODE_SECONDS == 600


def test_before_one_is_issued_no_code_is_good() -> None:
    code = OneTimeCode(Clock())
    assert not code.take("")
    first = code.issue()
    assert code.issue() != first
    assert not code.take(first)


def test_tries_are_limited_by_address() -> None:
    clock = Clock()
    tries = AttemptLimiter(clock)
    for _ in range(TRIES):
        assert tries.wait_seconds("a") == 0
        tries.failed("a")
    assert tries.wait_seconds("a") == pytest.approx(TRY_SECONDS)
    assert tries.wait_seconds("b") == 0
    clock.now += TRY_SECONDS
    assert tries.wait_seconds("a") == 0
    tries.failed("a")
    assert tries.wait_seconds("a") > 0
    clock.now += TRIES * TRY_SECONDS
    for _ in range(TRIES):
        assert tries.wait_seconds("a") == 0
        tries.failed("a")
    assert tries.wait_seconds("a") > 0


def test_many_addresses_take_no_more_than_so_much_memory() -> None:
    clock = Clock()
    tries = AttemptLimiter(clock)
    for _ in range(TRIES):
        tries.failed("kept")
    for number in range(20_000):
        clock.now += 1e-4
        tries.failed(str(number))
        if number % 1000 == 0:
            tries.failed("kept")
    assert len(tries._paid_at) == 10_000
    assert tries.wait_seconds("kept") > 0


# Hosts


@given(st.ip_addresses(), st.integers(0, 65535) | st.none())
def test_addresses_are_addresses(address: object, port: int | None) -> None:
    found = ip_address(str(address))
    text = f"[{address}]" if found.version == 6 else str(address)
    host = parse_host(text if port is None else f"{text}:{port}")
    assert host is not None
    assert host.is_address
    assert ip_address(host.name.strip("[]")) == found
    assert host.port == ("" if port is None else str(port))


@given(st.text(max_size=30))
def test_no_text_is_an_address_that_browsers_would_look_up(text: str) -> None:
    host = parse_host(text)
    if host is not None and host.is_address:
        ip_address(host.name.strip("[]"))
    assert host is None or not set(host.name) & set("@/,\\ \t?#%")


# Cookies


def secret_of(*lines: bytes) -> bytes | None:
    return SessionCookies([(b"cookie", line) for line in lines]).secret


SECRET = b"s" * 43


@pytest.mark.parametrize(
    ("line", "found"),
    [
        (b"%s=" + SECRET, True),
        (b"a=b; %s=" + SECRET + b" ;c", True),
        (b"a%s=" + SECRET, False),
        (b"%s =" + SECRET, False),
        (b"%s=" + SECRET + b"s", False),
        (b'%s="' + SECRET + b'"', False),
        (b"a=%s=" + SECRET, False),
        (b"%s=" + SECRET + b"; %s=" + b"t" * 43, False),
        (b"", False),
    ],
)
def test_the_cookie_is_found_among_others(line: bytes, found: bool) -> None:
    for name in (COOKIE.encode(), SECURE_COOKIE.encode()):
        assert secret_of(line.replace(b"%s", name)) == (SECRET if found else None)


@given(st.lists(st.binary(max_size=60), max_size=5))
def test_no_cookies_are_too_odd(lines: list[bytes]) -> None:
    assert secret_of(*lines) is None
