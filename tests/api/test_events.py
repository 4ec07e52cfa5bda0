"""A command's event stream: its events, their order, and how it resumes after a break."""

import json
import os
import signal
import time
from typing import Any

import httpx2 as httpx
import pytest

from scriptservice.server.output.event_stream import COMMENT_SECONDS
from support.gates import Gate
from support.problems import assert_invalid, assert_problem
from support.scripts import ask_to_stop, resident_bytes, stop
from support.service import MAINLY_ON_SQLITE, PATIENCE_SECONDS, Service
from support.sse import (
    Event,
    EventStream,
    assert_contiguous,
    event_stream,
    events_of,
    of_stream,
)
from support.upgrades import Installation

MIXED = [
    (r"printf 'a\303\251\342\202\254'", b"a\xc3\xa9\xe2\x82\xac"),
    (r"printf '\377\0\360\237' >&2", b"\xff\0\xf0\x9f"),
    (r"printf 'z\n'", b"z\n"),
]
MIXED_BYTES = b"".join(printed for _, printed in MIXED)


def print_mixed(service: Service, then: str = "true") -> str:
    """Let a script print text and binary data to both streams in turn; return the command id."""
    gates = [Gate(service) for _ in MIXED]
    steps = [f"{gate.wait}; {statement}" for gate, (statement, _) in zip(gates, MIXED, strict=True)]
    command = str(service.submit("\n".join([*steps, then]))["id"])
    so_far = b""
    for gate, (_, printed) in zip(gates, MIXED, strict=True):
        gate.open()
        so_far += printed
        service.wait_for_output(command, so_far)
    assert service.bytes_of(command) == MIXED_BYTES
    return command


@pytest.fixture(scope="module")
def mixed(service: Service) -> str:
    """A finished command with a little text and binary output on both streams."""
    command = print_mixed(service)
    service.wait(command)
    return command


def names(events: list[Event]) -> list[str]:
    return [event.name for event in events]


# Events


def test_headers_and_the_retry_line(service: Service, mixed: str) -> None:
    with event_stream(service, mixed) as stream:
        assert stream.status == 200
        assert stream.headers["content-type"].partition(";")[0] == "text/event-stream"
        assert stream.headers["cache-control"] == "no-store"
        assert "content-length" not in stream.headers
        first = stream.next()
        assert first is not None
        assert (first.name, first.data) == ("retry", 1000)


def test_status_first_then_output_then_the_end_and_it_closes(service: Service, mixed: str) -> None:
    events = events_of(service, mixed)
    assert names(events)[0] == "status"
    assert set(names(events)[1:-1]) == {"output"}
    assert names(events)[-1] == "end"
    assert events[0].id == 0
    assert events[-1].id == len(MIXED_BYTES)
    assert assert_contiguous(events, 0) == MIXED_BYTES
    assert of_stream(events, "stderr") == b"\xff\0\xf0\x9f"
    wanted = service.get(mixed)
    del wanted["script"]
    assert events[0].data == events[-1].data == wanted


def test_each_status_change_is_sent_when_it_happens(service: Service) -> None:
    command = service.submit("trap '' TERM; echo up; while :; do sleep 0.02; done")
    with event_stream(service, command["id"]) as stream:
        seen = [stream.until("status").data["status"]]
        if seen == ["queued"]:
            seen.append(stream.until("status").data["status"])
        assert seen[-1] == "running"
        assert stream.until("output").bytes == b"up\n"
        ask_to_stop(service, command["id"], grace_seconds=3600)
        stopping = stream.until("status")
        assert (stopping.data["status"], stopping.id) == ("stopping", 3)
        ask_to_stop(service, command["id"], grace_seconds=0)
        stopped = stream.until("status")
        assert (stopped.data["status"], stopped.id) == ("stopped", 3)
        end = stream.next()
        assert end is not None
        assert (end.name, end.id, end.data) == ("end", 3, stopped.data)
        assert stream.next() is None
        assert stream.complete


@MAINLY_ON_SQLITE
def test_a_queued_command_waits(make_service: Any) -> None:
    service = make_service("--max-running", "1").start()
    first = service.submit("sleep 3600")
    service.wait_for(first["id"], "running")
    second = service.submit("echo ran")
    with event_stream(service, second["id"]) as stream:
        assert stream.until("status").data["status"] == "queued"
        stop(service, first["id"])
        rest = stream.all()
    assert [e.data["status"] for e in rest if e.name == "status"][-1] == "succeeded"
    assert rest[-1].name == "end"
    assert assert_contiguous(rest, 0) == b"ran\n"


def test_output_comes_within_a_moment(service: Service) -> None:
    """The fastest of several counts, since the machine may delay any of them."""
    gates = [Gate(service) for _ in range(5)]
    steps = [f"{gate.wait}; echo now" for gate in gates]
    command = service.submit("\n".join([*steps, "sleep 3600"]))
    delays = []
    with event_stream(service, command["id"]) as stream:
        for gate in gates:
            gate.open()
            printed = stream.until("output")
            delays.append(time.time() - _seconds(printed.data["time"]))
        assert service.get(command["id"])["status"] == "running"
    assert min(delays) < 2
    stop(service, command["id"])


def _seconds(text: str) -> float:
    from datetime import datetime

    return datetime.fromisoformat(text).timestamp()


@MAINLY_ON_SQLITE
def test_a_comment_every_fifteen_seconds(make_service: Any, installation: Installation) -> None:
    """In this test every half second."""
    assert COMMENT_SECONDS == 15
    installation.change(
        "server/output/event_stream.py", "COMMENT_SECONDS = 15.0", "COMMENT_SECONDS = 0.5"
    )
    service = make_service(python=installation.python).start()
    command = service.submit("sleep 3600")
    service.wait_for(command["id"], "running")
    began = time.monotonic()
    with event_stream(service, command["id"]) as stream:
        for number in range(1, 4):
            assert stream.until(":").text
            assert time.monotonic() - began >= number * 0.5


# Characters


def test_a_character_in_two_prints_close_together_is_whole(service: Service) -> None:
    script = r"printf 'a\342\202'; sleep 0.01; printf '\254b'"
    # On a slow machine the two prints are close together only sometimes.
    for _ in range(30):
        events = events_of(service, service.submit(script)["id"])
        assert assert_contiguous(events, 0).decode() == "a€b"
        if all("text" in event.data for event in events if event.name == "output"):
            return
    pytest.fail(f"never whole: {events}")


def test_a_character_in_two_prints_far_apart_is_sent_in_pieces(service: Service) -> None:
    gate = Gate(service)
    command = service.submit(rf"printf 'a\342\202'; {gate.wait}; printf '\254b'")
    with event_stream(service, command["id"]) as stream:
        outputs = [stream.until("output"), stream.until("output")]
        gate.open()
        outputs += [event for event in stream.all() if event.name == "output"]
    assert [("base64" in event.data, event.bytes) for event in outputs] == [
        (False, b"a"),
        (True, b"\xe2\x82"),
        (True, b"\xac"),
        (False, b"b"),
    ]


def test_the_beginning_of_a_character_is_not_held_for_long(service: Service) -> None:
    command = service.submit(r"printf '\342\202'; sleep 3600")
    with event_stream(service, command["id"]) as stream:
        before = []
        while (event := stream.next()) is not None and event.name != "output":
            before.append(event.name)
        assert event is not None
        assert event.bytes == b"\xe2\x82"
        assert ":" not in before  # a comment would mean that it was held for long
    stop(service, command["id"])


# Resuming


def test_a_stream_from_any_position_is_exactly_the_rest(service: Service, mixed: str) -> None:
    for position in range(len(MIXED_BYTES) + 1):
        events = events_of(service, mixed, last=position)
        assert (events[0].name, events[0].id) == ("status", position)
        assert assert_contiguous(events, position) == MIXED_BYTES[position:]
        assert (events[-1].name, events[-1].id) == ("end", len(MIXED_BYTES))
    assert names(events_of(service, mixed, last=len(MIXED_BYTES))) == ["status", "end"]


@MAINLY_ON_SQLITE
def test_a_stream_from_any_position_while_running_and_after_a_kill(service: Service) -> None:
    command = print_mixed(service, then="sleep 3600")
    streams = []
    for position in range(len(MIXED_BYTES) + 1):
        with event_stream(service, command, last=str(position)) as stream:
            seen: list[Event] = []
            while not seen or seen[-1].id != len(MIXED_BYTES):
                event = stream.next()
                assert event is not None
                seen += [event] if event.name not in ("retry", ":") else []
            streams.append(assert_contiguous(seen, position))
            assert seen[0].id == position
    assert streams == [MIXED_BYTES[position:] for position in range(len(MIXED_BYTES) + 1)]
    service.close_client()
    service.kill_server()
    service.get(command)
    stop(service, command)
    for position in range(len(MIXED_BYTES) + 1):
        events = events_of(service, command, last=position)
        assert assert_contiguous(events, position) == MIXED_BYTES[position:]


def test_a_stream_resumes_after_any_event(service: Service, mixed: str) -> None:
    events = events_of(service, mixed)
    for number, event in enumerate(events):
        rest = events_of(service, mixed, last=event.id)
        before = assert_contiguous(events[: number + 1], 0)
        assert before + assert_contiguous(rest, len(before)) == MIXED_BYTES


def test_last_event_id_overrides_after(service: Service, mixed: str) -> None:
    with event_stream(service, mixed, query="?after=2") as stream:
        assert assert_contiguous(stream.all(), 2) == MIXED_BYTES[2:]
    for query in ("?after=2", "?after=9999999"):
        with event_stream(service, mixed, last="5", query=query) as stream:
            assert stream.status == 200
            assert assert_contiguous(stream.all(), 5) == MIXED_BYTES[5:]


@pytest.mark.parametrize(
    "last", ["", "x", "-1", "+1", "1.0", "0x1", "1 1", "²", "9" * 19, "9" * 500, "13"]
)
def test_an_invalid_last_event_id_is_refused(service: Service, mixed: str, last: str) -> None:
    answer = service.client.get(
        f"/v1/commands/{mixed}/events", headers={"Last-Event-ID": last.encode("utf-8")}
    )
    assert_invalid(answer, "Last-Event-ID")


@pytest.mark.parametrize("after", ["", "x", "-1", "1.5", "13", "9" * 19, "9" * 500])
def test_an_invalid_after_is_refused(service: Service, mixed: str, after: str) -> None:
    url = f"/v1/commands/{mixed}/events"
    assert_invalid(service.client.get(url, params={"after": after}), "after")


def test_unknown_and_repeated_parameters_are_refused(service: Service, mixed: str) -> None:
    url = f"/v1/commands/{mixed}/events"
    assert_invalid(service.client.get(url, params={"colour": "red"}), "colour")
    assert_invalid(service.client.get(f"{url}?after=1&after=1"), "after")
    assert_invalid(
        service.client.get(url, headers=[("Last-Event-ID", "1"), ("Last-Event-ID", "1")]),
        "Last-Event-ID",
    )


@pytest.mark.parametrize("command", ["0199c0de-7f3a-7c41-9d0e-2b7f6f1c9a55", "no-id"])
def test_an_unknown_command(service: Service, command: str) -> None:
    assert_problem(service.client.get(f"/v1/commands/{command}/events"), "not-found")
    assert_problem(
        service.client.get(f"/v1/commands/{command}/events", headers={"Last-Event-ID": "1"}),
        "not-found",
    )


def test_it_needs_a_token(service: Service, mixed: str) -> None:
    url = f"{service.url}/v1/commands/{mixed}/events"
    assert_problem(httpx.get(url, timeout=PATIENCE_SECONDS, verify=False), "unauthenticated")


def test_head_returns_at_once(service: Service) -> None:
    command = service.submit("sleep 3600")
    answer = service.client.head(f"/v1/commands/{command['id']}/events")
    assert (answer.status_code, answer.content) == (200, b"")
    assert answer.headers["content-type"].startswith("text/event-stream")
    assert service.get(command["id"])["status"] in ("queued", "running")
    with event_stream(service, command["id"], last="7", method="HEAD") as stream:
        assert stream.status == 422
    stop(service, command["id"])


# Slow readers, deletion, shutdown

BIG_BYTES = 30_000_000
BIG = f"head -c {BIG_BYTES} /dev/zero | tr '\\0' x"


@MAINLY_ON_SQLITE
def test_a_slow_reader_costs_no_memory(service: Service) -> None:
    command = service.run(BIG)
    before = resident_bytes(service.server_pid)
    with (
        event_stream(service, command["id"], receive_bytes=4096) as one,
        event_stream(service, command["id"], receive_bytes=4096) as other,
    ):
        deadline = time.monotonic() + 2
        while time.monotonic() < deadline:
            assert one.socket.recv(1)
            assert other.socket.recv(1)
        assert resident_bytes(service.server_pid) - before < 20_000_000


@MAINLY_ON_SQLITE
def test_a_deletion_ends_the_stream_of_a_slow_reader(service: Service) -> None:
    command = service.run(BIG)
    with event_stream(service, command["id"], receive_bytes=4096) as stream:
        stream.until("output")
        assert service.client.delete(f"/v1/commands/{command['id']}").status_code == 204
        events = stream.all()
    assert "end" not in names(events)
    got = sum(len(event.bytes) for event in events if event.name == "output")
    assert got < BIG_BYTES


@MAINLY_ON_SQLITE
def test_streams_end_soon_at_a_shutdown(make_service: Any, installation: Installation) -> None:
    """The streams end by themselves: in this test nothing would cut them within an hour."""
    installation.change("server/server_process.py", "GRACE_SECONDS = 3\n", "GRACE_SECONDS = 3600\n")
    let_the_keeper_wait_an_hour(installation)
    service = make_service("--max-running", "1", python=installation.python).start()
    running = service.submit("echo up; exec sleep 3600")
    service.wait_for_output(running["id"], b"up\n")
    queued = service.submit("echo never")
    big = service.submit("true")
    with (
        event_stream(service, running["id"]) as followed,
        event_stream(service, queued["id"]) as waiting,
        event_stream(service, big["id"], receive_bytes=4096),
    ):
        assert followed.until("output").bytes == b"up\n"
        assert waiting.until("status").data["status"] == "queued"
        assert service.process is not None
        service.process.send_signal(signal.SIGTERM)
        end = followed.all()
        assert [e.data["status"] for e in end if e.name == "end"] == ["stopped"]
        assert "end" not in names(waiting.all())
        assert service.process.wait(PATIENCE_SECONDS) == 0
    service.start()
    assert events_of(service, queued["id"])[-1].data["status"] == "succeeded"


def let_the_keeper_wait_an_hour(installation: Installation) -> None:
    """Let the keeper wait an hour before it kills a server that does not finish."""
    installation.change("keeper/shutdown.py", "FINISH_SECONDS = 15.0", "FINISH_SECONDS = 3600.0")


@MAINLY_ON_SQLITE
def test_a_slow_reader_does_not_delay_a_shutdown(
    make_service: Any, installation: Installation
) -> None:
    let_the_keeper_wait_an_hour(installation)
    service = make_service(python=installation.python).start()
    command = service.run(BIG)
    with event_stream(service, command["id"], receive_bytes=4096) as stream:
        stream.until("output")
        assert service.stop() == 0


def test_no_follower_misses_output_when_many_follow(service: Service) -> None:
    """Followers share reads; a read that began before new output must not count as reading it."""
    command = service.submit("for i in {1..300}; do echo $i; sleep 0.005; done")
    wanted = b"".join(b"%d\n" % number for number in range(1, 301))
    with _ManyStreams(service, command["id"], 60) as streams:
        service.wait(command["id"])
        for stream in streams:
            events = stream.all()
            assert assert_contiguous(events, 0) == wanted
            assert stream.complete
            # A follower that missed output would wake up 15 s later and send a comment.
            assert ":" not in names(events)


class _ManyStreams:
    def __init__(self, service: Service, command: str, count: int) -> None:
        self._made = [event_stream(service, command) for _ in range(count)]

    def __enter__(self) -> list[EventStream]:
        return [each.__enter__() for each in self._made]

    def __exit__(self, *error: object) -> None:
        for each in self._made:
            each.__exit__(None, None, None)


@MAINLY_ON_SQLITE
def test_a_stream_resumes_after_a_server_kill(service: Service) -> None:
    gate = Gate(service)
    command = service.submit(f"for i in {{1..2000}}; do echo line $i; done; {gate.wait}")
    wanted = b"".join(b"line %d\n" % number for number in range(1, 2001))
    with event_stream(service, command["id"]) as stream:
        seen = [stream.until("output")]
        os.kill(service.server_pid, signal.SIGKILL)
        seen += stream.all()
        assert not stream.complete
    at = next(event.id for event in reversed(seen) if event.id is not None)
    service.close_client()
    service.get(command["id"])
    gate.open()
    rest = events_of(service, command["id"], last=at)
    assert assert_contiguous(seen, 0) + assert_contiguous(rest, at) == wanted
    assert rest[-1].data["status"] == "succeeded"
    assert json.dumps(rest[-1].data)
    assert service.wait(command["id"])["status"] == "succeeded"
