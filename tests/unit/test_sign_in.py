"""The sign-in code, the limit on attempts, host names and the session cookie."""

from ipaddress import ip_address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scriptservice.server.access.origin_check import parse_host
from scriptservice.server.access.page_sessions import COOKIE, SECURE_COOKIE, session_secret
from scriptservice.server.access.sign_in import (
    ATTEMPT_SECONDS,
    CODE_SECONDS,
    MAX_ATTEMPTS,
    AttemptLimiter,
    OneTimeCode,
)


class Clock:
    """A clock that the test moves, in seconds."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def test_a_code_is_valid_once() -> None:
    code = OneTimeCode(Clock())
    text = code.issue()
    assert not code.use(text + "x")
    assert not code.use("")
    assert code.use(text)
    assert not code.use(text)


def test_a_code_is_valid_for_ten_minutes() -> None:
    clock = Clock()
    code = OneTimeCode(clock)
    text = code.issue()
    clock.now += CODE_SECONDS - 1
    assert code.use(text)
    code.restore(text)  # the session could not be stored
    clock.now += 1
    assert not code.use(text)
    assert CODE_SECONDS == 600


def test_no_code_is_valid_before_one_is_issued() -> None:
    code = OneTimeCode(Clock())
    assert not code.use("")
    first = code.issue()
    assert code.issue() != first
    assert not code.use(first)


def test_attempts_are_limited_by_address() -> None:
    clock = Clock()
    limiter = AttemptLimiter(clock)
    for _ in range(MAX_ATTEMPTS):
        assert limiter.wait_seconds("a") == 0
        limiter.attempt_failed("a")
    assert limiter.wait_seconds("a") == pytest.approx(ATTEMPT_SECONDS)
    assert limiter.wait_seconds("b") == 0
    clock.now += ATTEMPT_SECONDS
    assert limiter.wait_seconds("a") == 0
    limiter.attempt_failed("a")
    assert limiter.wait_seconds("a") > 0
    clock.now += MAX_ATTEMPTS * ATTEMPT_SECONDS
    for _ in range(MAX_ATTEMPTS):
        assert limiter.wait_seconds("a") == 0
        limiter.attempt_failed("a")
    assert limiter.wait_seconds("a") > 0


def test_the_number_of_addresses_in_memory_is_bounded() -> None:
    clock = Clock()
    limiter = AttemptLimiter(clock)
    for _ in range(MAX_ATTEMPTS):
        limiter.attempt_failed("kept")
    for number in range(20_000):
        clock.now += 1e-4
        limiter.attempt_failed(str(number))
        if number % 1000 == 0:
            limiter.attempt_failed("kept")
    assert len(limiter._clear_at) == 10_000
    assert limiter.wait_seconds("kept") > 0


# Hosts


@given(st.ip_addresses(), st.integers(0, 65535) | st.none())
def test_ip_addresses_are_recognized(address: object, port: int | None) -> None:
    found = ip_address(str(address))
    text = f"[{address}]" if found.version == 6 else str(address)
    host = parse_host(text if port is None else f"{text}:{port}")
    assert host is not None
    assert host.is_address
    assert ip_address(host.name.strip("[]")) == found
    assert host.port == ("" if port is None else str(port))


@given(st.text(max_size=30))
def test_no_name_that_browsers_resolve_is_taken_for_an_address(text: str) -> None:
    host = parse_host(text)
    if host is not None and host.is_address:
        ip_address(host.name.strip("[]"))
    assert host is None or not set(host.name) & set("@/,\\ \t?#%")


# Cookies


def secret_of(*lines: bytes) -> bytes | None:
    return session_secret([(b"cookie", line) for line in lines])


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
def test_the_session_cookie_is_found_among_others(line: bytes, found: bool) -> None:
    for name in (COOKIE.encode(), SECURE_COOKIE.encode()):
        assert secret_of(line.replace(b"%s", name)) == (SECRET if found else None)


@given(st.lists(st.binary(max_size=60), max_size=5))
def test_arbitrary_bytes_are_not_a_session(lines: list[bytes]) -> None:
    assert secret_of(*lines) is None
