"""The handshake of a WebSocket, and the text messages of attached clients."""

import json
from typing import Any

import pytest

from scriptservice.errors import ValidationError
from scriptservice.server.http.problem_responses import ProblemError
from scriptservice.server.http.websocket_handshake import accepting_answer, handshake_key
from scriptservice.server.websocket.control_messages import control_of

KEY = b"dGhlIHNhbXBsZSBub25jZQ=="  # the example of RFC 6455
GOOD = {
    b"upgrade": b"websocket",
    b"connection": b"keep-alive, Upgrade",
    b"sec-websocket-version": b"13",
    b"sec-websocket-key": KEY,
}


def test_a_good_handshake_has_a_key() -> None:
    assert handshake_key(list(GOOD.items())) == KEY
    upper = GOOD | {b"upgrade": b"h2c, WebSocket"}
    assert handshake_key(list(upper.items())) == KEY


@pytest.mark.parametrize(
    ("name", "value"),
    [
        (b"upgrade", b"h2c"),
        (b"connection", b"keep-alive"),
        (b"sec-websocket-version", b"12"),
        (b"sec-websocket-key", b"short"),
        (b"sec-websocket-key", b"AAAA"),
        (b"sec-websocket-key", b"\xff" * 24),
    ],
)
def test_another_request_has_none(name: bytes, value: bytes) -> None:
    assert handshake_key(list((GOOD | {name: value}).items())) is None
    assert handshake_key([each for each in GOOD.items() if each[0] != name]) is None


def test_two_keys_are_none() -> None:
    assert handshake_key([*GOOD.items(), (b"sec-websocket-key", KEY)]) is None


def test_the_answer_is_that_of_the_rfc() -> None:
    answer = accepting_answer(KEY, [(b"x-a", b"b"), (b"connection", b"close")])
    head, _, rest = answer.partition(b"\r\n\r\n")
    assert rest == b""
    assert head.splitlines() == [
        b"HTTP/1.1 101 Switching Protocols",
        b"upgrade: websocket",
        b"connection: Upgrade",
        b"sec-websocket-accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=",
        b"x-a: b",
    ]


def test_a_size_and_a_signal() -> None:
    assert control_of('{"resize": {"rows": 24, "cols": 65535}}') == (24, 65535)
    assert control_of('{"signal": "SIGINT"}') == "SIGINT"
    assert control_of('{"signal": "usr1"}') == "SIGUSR1"


@pytest.mark.parametrize(
    "text",
    ["", "x", "{", "[]", "1", '"a"', "{}", '{"resize": {}, "signal": "INT"}', '{"stdin": "x"}',
     "[" * 100_000],
)  # fmt: skip
def test_text_that_is_not_understood(text: str) -> None:
    with pytest.raises(ProblemError, match=r"cannot (read|understand) the text"):
        control_of(text)


@pytest.mark.parametrize(
    ("message", "field"),
    [
        ({"resize": None}, "resize"),
        ({"resize": {"rows": 1}}, "resize"),
        ({"resize": {"rows": 1, "cols": 1, "x": 1}}, "resize"),
        ({"resize": {"rows": 0, "cols": 1}}, "resize.rows"),
        ({"resize": {"rows": 1, "cols": 65536}}, "resize.cols"),
        ({"resize": {"rows": True, "cols": 1}}, "resize.rows"),
        ({"resize": {"rows": 1.5, "cols": 1}}, "resize.rows"),
        ({"signal": "SIGNOTHING"}, "signal"),
        ({"signal": 9}, "signal"),
    ],
)
def test_a_value_that_is_not_accepted(message: dict[str, Any], field: str) -> None:
    with pytest.raises(ValidationError) as caught:
        control_of(json.dumps(message))
    assert [each.field for each in caught.value.errors] == [field]
