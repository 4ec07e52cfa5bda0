"""A command's event stream: what comes, in which order, and how it goes on after a break."""

import json
import os
import signal
import time
from typing import Any

import httpx2 as httpx
import pytest

from support.problems import assert_invalid, assert_problem
from support.scripts import ask_to_stop, resident_bytes, stop
from support.service import PATIENCE_SECONDS, Service, eventually
from support.sse import (
    Event,
    EventStream,
    assert_contiguous,
    event_stream,
    events_of,
    of_stream,
)

MIXED = r"""
printf 'a\303\251\342\202\254'
sleep 0.08
printf '\377\0\360\237' >&2
sleep 0.08
printf 'z\n'
"""
MIXED_BYTES = b"a\xc3\xa9\xe2\x82\xac" + b"\xff\0\xf0\x9f" + b"z\n"


@pytest.fixture(scope="module")
def mixed(service: Service) -> str:
    """A finished command with a small output of text and binary on both streams."""
    command = service.run(MIXED)
    assert service.bytes_of(command["id"]) == MIXED_BYTES
    return str(command["id"])


def names(events: list[Event]) -> list[str]:
    return [event.name for event in events]


# What comes


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


def test_each_change_of_status_is_told_while_it_happens(service: Service) -> None:
    command = service.submit("trap '' TERM; echo up; while :; do sleep 0.02; done")
    with event_stream(service, command["id"]) as stream:
        seen = [stream.until("status").data["status"]]
        if seen == ["queued"]:
            seen.append(stream.until("status").data["status"])
        assert seen[-1] == "running"
        assert stream.until("output").bytes == b"up\n"
        ask_to_stop(service, command["id"], grace_seconds=0.3)
        stopping = stream.until("status")
        assert (stopping.data["status"], stopping.id) == ("stopping", 3)
        stopped = stream.until("status")
        assert (stopped.data["status"], stopped.id) == ("stopped", 3)
        end = stream.next()
        assert end is not None
        assert (end.name, end.id, end.data) == ("end", 3, stopped.data)
        assert stream.next() is None
        assert stream.complete


def test_a_queued_command_waits(make_service: Any) -> None:
    service = make_service("--max-running", "1").start()
    first = service.submit("sleep 100")
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
    command = service.submit("while read -r _; do :; done; echo now; sleep 100")
    with event_stream(service, command["id"]) as stream:
        printed = stream.until("output")
        delay = time.time() - _seconds(printed.data["time"])
        assert delay < 2
        assert service.get(command["id"])["status"] == "running"
    stop(service, command["id"])


def _seconds(text: str) -> float:
    from datetime import datetime

    return datetime.fromisoformat(text).timestamp()


def test_a_comment_every_fifteen_seconds(service: Service) -> None:
    command = service.submit("sleep 100")
    service.wait_for(command["id"], "running")
    with event_stream(service, command["id"], seconds=20) as stream:
        stream.until("status")
        began = time.monotonic()
        assert stream.until(":").text
        assert 14 < time.monotonic() - began < 17
    stop(service, command["id"])


# Characters


def test_a_character_in_two_prints_close_together_is_whole(service: Service) -> None:
    command = service.submit(r"printf 'a\342\202'; sleep 0.01; printf '\254b'; sleep 0.3")
    events = events_of(service, command["id"])
    assert assert_contiguous(events, 0).decode() == "a€b"
    assert all("text" in event.data for event in events if event.name == "output")


def test_a_character_in_two_prints_far_apart_is_told_in_pieces(service: Service) -> None:
    command = service.submit(r"printf 'a\342\202'; sleep 0.3; printf '\254b'; sleep 0.1")
    with event_stream(service, command["id"]) as stream:
        outputs = [event for event in stream.all() if event.name == "output"]
    assert [("base64" in event.data, event.bytes) for event in outputs] == [
        (False, b"a"),
        (True, b"\xe2\x82"),
        (True, b"\xac"),
        (False, b"b"),
    ]


def test_the_beginning_of_a_character_is_not_held_for_long(service: Service) -> None:
    command = service.submit(r"printf '\342\202'; sleep 100")
    with event_stream(service, command["id"], seconds=10) as stream:
        assert stream.until("output").bytes == b"\xe2\x82"
    stop(service, command["id"])


# Going on


def test_from_every_position_it_is_exactly_the_rest(service: Service, mixed: str) -> None:
    for position in range(len(MIXED_BYTES) + 1):
        events = events_of(service, mixed, last=position)
        assert (events[0].name, events[0].id) == ("status", position)
        assert assert_contiguous(events, position) == MIXED_BYTES[position:]
        assert (events[-1].name, events[-1].id) == ("end", len(MIXED_BYTES))
    assert names(events_of(service, mixed, last=len(MIXED_BYTES))) == ["status", "end"]


def test_from_every_position_while_it_runs_and_after_a_kill(make_service: Any) -> None:
    service = make_service().start()
    command = service.submit(MIXED + "sleep 100")
    service.wait_for_output(command["id"], b"z\n")
    streams = []
    for position in range(len(MIXED_BYTES) + 1):
        with event_stream(service, command["id"], last=str(position)) as stream:
            seen: list[Event] = []
            while not seen or seen[-1].id != len(MIXED_BYTES):
                event = stream.next()
                assert event is not None
                seen += [event] if event.name != "retry" else []
            streams.append(assert_contiguous(seen, position))
            assert seen[0].id == position
    assert streams == [MIXED_BYTES[position:] for position in range(len(MIXED_BYTES) + 1)]
    service.close_client()
    service.kill_server()
    service.get(command["id"])
    stop(service, command["id"])
    for position in range(len(MIXED_BYTES) + 1):
        events = events_of(service, command["id"], last=position)
        assert assert_contiguous(events, position) == MIXED_BYTES[position:]


def test_the_id_of_any_event_is_where_to_go_on(service: Service, mixed: str) -> None:
    events = events_of(service, mixed)
    for number, event in enumerate(events):
        rest = events_of(service, mixed, last=event.id)
        told = assert_contiguous(events[: number + 1], 0)
        assert told + assert_contiguous(rest, len(told)) == MIXED_BYTES


def test_last_event_id_beats_after(service: Service, mixed: str) -> None:
    with event_stream(service, mixed, query="?after=2") as stream:
        assert assert_contiguous(stream.all(), 2) == MIXED_BYTES[2:]
    for query in ("?after=2", "?after=9999999"):
        with event_stream(service, mixed, last="5", query=query) as stream:
            assert stream.status == 200
            assert assert_contiguous(stream.all(), 5) == MIXED_BYTES[5:]


@pytest.mark.parametrize(
    "last", ["", "x", "-1", "+1", "1.0", "0x1", "1 1", "²", "9" * 19, "9" * 500, "13"]
)
def test_a_last_event_id_that_is_no_position(service: Service, mixed: str, last: str) -> None:
    answer = service.client.get(
        f"/v1/commands/{mixed}/events", headers={"Last-Event-ID": last.encode("utf-8")}
    )
    assert_invalid(answer, "Last-Event-ID")


@pytest.mark.parametrize("after", ["", "x", "-1", "1.5", "13", "9" * 19, "9" * 500])
def test_an_after_that_is_no_position(service: Service, mixed: str, after: str) -> None:
    url = f"/v1/commands/{mixed}/events"
    assert_invalid(service.client.get(url, params={"after": after}), "after")


def test_other_parameters(service: Service, mixed: str) -> None:
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
    assert_problem(httpx.get(f"{service.url}/v1/commands/{mixed}/events"), "unauthenticated")


def test_head_returns_at_once(service: Service) -> None:
    command = service.submit("sleep 100")
    began = time.monotonic()
    answer = service.client.head(f"/v1/commands/{command['id']}/events")
    assert (answer.status_code, answer.content) == (200, b"")
    assert answer.headers["content-type"].startswith("text/event-stream")
    assert time.monotonic() - began < 5
    with event_stream(service, command["id"], last="7", method="HEAD") as stream:
        assert stream.status == 422
    stop(service, command["id"])


# Slow readers, deletion, shutdown


def test_a_slow_reader_costs_no_memory(make_service: Any) -> None:
    service = make_service().start()
    command = service.run("head -c 60000000 /dev/zero | tr '\\0' x", seconds=60)
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


def test_deleted_while_a_slow_reader_reads_ends(make_service: Any) -> None:
    service = make_service().start()
    command = service.run("head -c 60000000 /dev/zero | tr '\\0' x", seconds=60)
    with event_stream(service, command["id"], receive_bytes=4096) as stream:
        stream.until("output")
        assert service.client.delete(f"/v1/commands/{command['id']}").status_code == 204
        events = stream.all()
    assert "end" not in names(events)
    got = sum(len(event.bytes) for event in events if event.name == "output")
    assert got < 60_000_000


def test_streams_end_soon_at_a_shutdown(make_service: Any) -> None:
    service = make_service("--max-running", "1").start()
    running = service.submit("echo up; exec sleep 100")
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
        began = time.monotonic()
        end = followed.all()
        assert [e.data["status"] for e in end if e.name == "end"] == ["stopped"]
        assert "end" not in names(waiting.all())
        assert time.monotonic() - began < 3
        assert service.process.wait(PATIENCE_SECONDS) == 0
    service.start()
    assert events_of(service, queued["id"])[-1].data["status"] == "succeeded"


def test_a_slow_reader_does_not_hold_a_shutdown_up(make_service: Any) -> None:
    service = make_service().start()
    command = service.run("head -c 60000000 /dev/zero | tr '\\0' x", seconds=60)
    with event_stream(service, command["id"], receive_bytes=4096) as stream:
        stream.until("output")
        began = time.monotonic()
        assert service.stop() == 0
        assert time.monotonic() - began < 8


def test_nobody_is_left_waiting_when_many_follow(service: Service) -> None:
    """Followers share reads: one that began before the news must not be taken for the news."""
    command = service.submit("for i in {1..300}; do echo $i; sleep 0.005; done")
    wanted = b"".join(b"%d\n" % number for number in range(1, 301))
    with _many(service, command["id"], 60) as streams:
        service.wait(command["id"])
        ended = time.monotonic()
        for stream in streams:
            assert assert_contiguous(stream.all(), 0) == wanted
            assert stream.complete
        # 15 s later a comment would have woken them.
        assert time.monotonic() - ended < 10


class _many:  # noqa: N801 - reads as a function
    def __init__(self, service: Service, command: str, count: int) -> None:
        self._made = [event_stream(service, command) for _ in range(count)]

    def __enter__(self) -> list[EventStream]:
        return [each.__enter__() for each in self._made]

    def __exit__(self, *error: object) -> None:
        for each in self._made:
            each.__exit__(None, None, None)


def test_a_server_kill_cuts_the_stream_and_it_goes_on(make_service: Any) -> None:
    service = make_service().start()
    command = service.submit("for i in {1..2000}; do echo line $i; done; sleep 1")
    wanted = b"".join(b"line %d\n" % number for number in range(1, 2001))
    with event_stream(service, command["id"]) as stream:
        seen = [stream.until("output")]
        os.kill(service.server_pid, signal.SIGKILL)
        seen += stream.all()
        assert not stream.complete
    at = seen[-1].id
    assert at is not None
    service.close_client()
    service.get(command["id"])
    rest = events_of(service, command["id"], last=at)
    assert assert_contiguous(seen, 0) + assert_contiguous(rest, at) == wanted
    assert rest[-1].data["status"] == "succeeded"
    assert json.dumps(rest[-1].data)
    eventually(lambda: service.get(command["id"])["status"] == "succeeded", "its end")
