"""The log of a real service: each change of a command once, complete lines, and no secrets."""

import contextlib
import fcntl
import json
import os
import re
import sqlite3
import threading
import uuid
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest

from support.gates import Gate
from support.service import MAINLY_ON_SQLITE, ON_SQLITE, PATIENCE_SECONDS, Service, eventually

Make = Callable[..., Service]
BASE = ["timestamp", "level", "event", "component", "host"]
CONSOLE = re.compile(
    r"(?P<timestamp>\S{27}) (?P<level>\w+) +(?P<component>keeper|server) (?P<event>\w+)"
    r"(?P<fields>( \w+=([\w./:+@%-]+|\"([^\"\\]|\\.)*\"))* host=\S+)"
)


def lines(service: Service) -> list[str]:
    """Return the log lines: everything that it printed, without the messages at its start."""
    words = ("ScriptService listens", "admin token", "sign in:")
    return [line for line in service.output().splitlines() if not line.startswith(words)]


def json_entries(service: Service) -> list[dict[str, Any]]:
    """Return the log entries; assert that every line is JSON."""
    return [json.loads(line) for line in lines(service)]


def console_entries(service: Service) -> list[dict[str, Any]]:
    found = []
    for line in lines(service):
        match = CONSOLE.fullmatch(line)
        assert match, line
        fields = dict(re.findall(r" (\w+)=(\"(?:[^\"\\]|\\.)*\"|\S+)", match["fields"]))
        fields = {k: json.loads(v) if v[0] == '"' else v for k, v in fields.items()}
        found.append({**{name: match[name] for name in BASE[:-1]}, **fields})
    return found


def changes(entries: list[dict[str, Any]], command: str) -> list[str]:
    return [
        entry["event"].removeprefix("command_")
        for entry in entries
        if entry.get("command_id") == command and entry["component"] == "server"
    ]


def stop(service: Service, command: str) -> None:
    url = f"/v1/commands/{command}/stop"
    assert service.client.post(url, json={"grace_seconds": 0}).status_code == 202


FATES: dict[str, list[str]] = {
    "succeeds": ["queued", "running", "succeeded"],
    "fails": ["queued", "running", "failed"],
    "cannot start": ["queued", "failed"],
    "times out": ["queued", "running", "stopping", "timed_out"],
    "is stopped": ["queued", "running", "stopping", "stopped"],
    "waits too long": ["queued", "timed_out"],
    "is stopped while it waits": ["queued", "stopped", "deleted"],
}


def run_every_fate(service: Service) -> dict[str, str]:
    """Let commands end in every way; return their ids."""
    ids = {
        "succeeds": service.run("echo hi")["id"],
        "fails": service.run("kill -9 $$")["id"],
        "cannot start": service.run("true", interpreter=["/no/such"])["id"],
        "times out": service.run("sleep 3600", timeout_seconds=0.1, grace_seconds=0)["id"],
    }
    ids["is stopped"] = service.submit("exec sleep 3600")["id"]
    service.wait_for(ids["is stopped"], "running")
    ids["waits too long"] = service.run("true", queue_timeout_seconds=0.05)["id"]
    ids["is stopped while it waits"] = service.submit("true")["id"]
    stop(service, ids["is stopped while it waits"])
    stop(service, ids["is stopped"])
    service.wait(ids["is stopped"])
    url = f"/v1/commands/{ids['is stopped while it waits']}"
    assert service.client.delete(url).status_code == 204
    return ids


@MAINLY_ON_SQLITE
@pytest.mark.parametrize("form", ["json", "console", None])
def test_every_change_of_a_command_is_one_line(make_service: Make, form: str | None) -> None:
    flags = [] if form is None else ["--log-format", form]
    service = make_service("--max-running", "1", "--host-name", "alpha", *flags).start()
    ids = run_every_fate(service)
    with_code = fail_with_a_code(service)
    assert service.stop() == 0
    entries = json_entries(service) if form == "json" else console_entries(service)
    assert {fate: changes(entries, command) for fate, command in ids.items()} == FATES
    moments = [datetime.fromisoformat(entry["timestamp"]) for entry in entries]
    for entry, moment in zip(entries, moments, strict=True):
        assert entry["host"] == "alpha"
        assert entry["level"] in ("info", "warning")
        assert entry["component"] in ("keeper", "server")
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z", entry["timestamp"])
        assert abs((datetime.now(UTC) - moment).total_seconds()) < 300
    (shutdown,) = (entry for entry in entries if entry["event"] == "shutting_down")
    assert shutdown["component"] == "keeper"
    if form == "json":
        assert_ends_are_logged(entries, ids, with_code)


def fail_with_a_code(service: Service) -> dict[str, Any]:
    """Let a running command exit with code 3; return it."""
    gate = Gate(service)
    failed = service.submit(f"{gate.wait}; exit 3")
    service.wait_for(failed["id"], "running")
    gate.open()
    return service.wait(failed["id"])


def assert_ends_are_logged(
    entries: list[dict[str, Any]], ids: dict[str, str], failed: dict[str, Any]
) -> None:
    """Assert that an end is logged with its exit code, signal, reason and duration."""
    ends = {
        entry["command_id"]: entry
        for entry in entries
        if entry["component"] == "server" and "exit_code" in entry
    }
    for entry in entries:
        assert list(entry)[:5] == BASE
    ended = ends[failed["id"]]
    assert (ended["exit_code"], ended["signal"]) == (3, None)
    assert ended["reason"] == "it exited with code 3"
    started, finished = (
        datetime.fromisoformat(failed[name]) for name in ("started_at", "finished_at")
    )
    assert ended["run_seconds"] == pytest.approx((finished - started).total_seconds(), abs=1e-5)
    killed = ends[ids["fails"]]
    assert (killed["exit_code"], killed["signal"]) == (None, "SIGKILL")
    never = ends[ids["cannot start"]]
    assert (never["reason"], never["run_seconds"]) == ("it could not be started", None)
    assert ends[ids["is stopped while it waits"]]["reason"] == "stopped before it started"


@ON_SQLITE
def test_nothing_that_was_submitted_and_no_token_is_in_the_log(make_service: Make) -> None:
    """Even if the text contains line breaks and escapes, and however the command ends."""
    mark = uuid.uuid4().hex
    evil = f'{mark}\n{{"level":"error"}}\r\x1b[2J\x9b31m"\u2028'
    service = make_service("--log-format", "json", "--log-level", "debug").start()
    fields = {
        "name": evil,
        "labels": {mark: evil},
        "args": [evil],
        "env": {f"X{mark}": evil},
        "stdin": evil,
    }
    script = f'echo {mark}; cat; printf %s "$1" >&2; exit 3 # {evil}'
    service.run(script, **fields)
    service.run(script, **fields, timeout_seconds=0.01, interpreter=["/bin/sleep", "9"])
    service.run("true", working_directory=f"/{mark}", **fields)
    service.run(f"#!/{mark}/bin {mark}\n", **fields)
    for path in (f"/v1/commands/{mark}", f"/{mark}%0a%1b[2J"):
        service.client.get(path, headers={"Idempotency-Key": mark, "Cookie": mark})
    key = {"Idempotency-Key": mark}
    service.client.post("/v1/commands", json={"script": script, **fields}, headers=key)
    service.kill_server()
    service.wait_until_serving()
    # The error of a statement that the database refuses contains the statement's values.
    database = service.data_dir / "scriptservice.db"
    with contextlib.closing(sqlite3.connect(database, timeout=PATIENCE_SECONDS)) as other:
        for table in ("inputs", "output"):
            other.execute(
                f"CREATE TRIGGER no_{table} BEFORE INSERT ON {table} "
                "BEGIN SELECT RAISE(ABORT, 'no more'); END"
            )
        other.commit()
        service.close_client()
        refused = service.client.post("/v1/commands", json={"script": script, **fields})
        assert refused.status_code == 503
        other.execute("DROP TRIGGER no_inputs")
        other.commit()
        service.client.post("/v1/commands", json={"script": script, **fields})
        waits = eventually(
            lambda: [one for one in json_entries(service) if one["event"] == "recording_waits"],
            "it to wait",
        )
        assert "no more" in waits[0]["cause"]
        other.execute("DROP TRIGGER no_output")
        other.commit()
    service.stop()
    text = "\n".join(lines(service))
    assert mark not in text
    assert service.token not in text
    assert text.isascii()
    assert "\x1b" not in text
    assert len(json_entries(service)) > 15


@MAINLY_ON_SQLITE
def test_the_log_level_hides_lower_levels(make_service: Make) -> None:
    service = make_service("--log-format", "json", "--log-level", "warning").start()
    service.run("exit 3")
    service.kill_server()
    service.wait_until_serving()
    service.stop()
    # On a slow machine a start says that it waits.
    others = {"scripts_share_the_user", "start_waits"}
    assert {entry["event"] for entry in json_entries(service)} - others == {"server_ended"}


@MAINLY_ON_SQLITE
def test_after_a_kill_no_line_is_repeated_and_lost_commands_are_warnings(
    make_service: Make,
) -> None:
    service = make_service("--log-format", "json").start()
    done = service.run("true")["id"]
    gate = Gate(service)
    running = service.submit(f"{gate.wait}; exit 3")["id"]
    service.wait_for(running, "running")
    eventually(lambda: "running" in changes(json_entries(service), running), "its line")
    service.kill_server()
    gate.open()
    assert service.wait(running)["status"] == "failed"
    eventually(lambda: "failed" in changes(json_entries(service), running), "its last line")
    lost = service.submit("exec sleep 3600")["id"]
    service.wait_for(lost, "running")
    service.kill_keeper()
    service.close_client()
    service.start()
    assert service.wait(lost)["status"] == "lost"
    service.run("true")
    service.stop()
    entries = json_entries(service)
    assert changes(entries, done) == ["queued", "running", "succeeded"]
    assert changes(entries, running) == ["queued", "running", "failed"]
    (ended,) = (entry for entry in entries if entry["event"] == "server_ended")
    assert (ended["code"], ended["level"]) == (-9, "warning")
    # A lost command is a warning.
    assert changes(entries, lost) == ["queued", "running", "lost"]
    assert [e["level"] for e in entries if e["event"] == "command_lost"] == ["warning"] * 2


@ON_SQLITE
def test_our_errors_and_those_of_libraries_have_the_same_form(make_service: Make) -> None:
    service = make_service("--log-format", "json").start()
    command = service.run("true")["id"]
    with contextlib.closing(sqlite3.connect(service.data_dir / "scriptservice.db")) as other:
        other.execute("UPDATE commands SET status = 'odd'")
        other.commit()
    assert service.client.get(f"/v1/commands/{command}").status_code == 500
    eventually(
        lambda: [one for one in json_entries(service) if "exception" in one][1:], "two lines"
    )
    service.stop()
    entries = {entry["event"]: entry for entry in json_entries(service) if "exception" in entry}
    ours = entries["request_failed"]
    assert (ours["level"], ours["component"]) == ("error", "server")
    assert ours["path"] == f"/v1/commands/{command}"
    assert "'odd' is not a valid Status" in ours["exception"]
    theirs = next(entry for event, entry in entries.items() if "ASGI" in event)
    assert (theirs["level"], theirs["logger"]) == ("error", "uvicorn.error")


# A stderr that nobody reads


@MAINLY_ON_SQLITE
def test_a_full_log_pipe_delays_nothing_and_drops_whole_lines(make_service: Make) -> None:
    reading, writing = os.pipe()
    fcntl.fcntl(writing, fcntl.F_SETPIPE_SZ, 4096)
    service = make_service("--log-format", "json", stderr=writing).start()
    os.close(writing)
    for _ in range(30):
        assert service.run("true")["status"] == "succeeded"
    parts: list[bytes] = []

    def read() -> None:
        while part := os.read(reading, 4096):
            parts.append(part)

    reader = threading.Thread(target=read)
    reader.start()
    eventually(lambda: parts, "what the pipe held")
    service.run("true")
    eventually(lambda: b"log_lines_dropped" in b"".join(parts), "the number of lost lines")
    last = service.run("exit 3")["id"]
    service.stop()
    reader.join(PATIENCE_SECONDS)
    os.close(reading)
    entries = [json.loads(line) for line in b"".join(parts).splitlines()]
    dropped = [entry["lines"] for entry in entries if entry["event"] == "log_lines_dropped"]
    assert dropped
    assert all(count > 0 for count in dropped)
    assert changes(entries, last) == ["queued", "running", "failed"]


@MAINLY_ON_SQLITE
def test_a_closed_log_pipe_does_not_end_the_service(make_service: Make) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    service = make_service("--log-format", "json", stderr=writing).start()
    os.close(writing)
    for _ in range(5):
        assert service.run("true")["status"] == "succeeded"
    pid = service.kill_server()
    eventually(lambda: service.server_pid != pid, "another server")
    service.wait_until_serving()
    assert service.run("true")["status"] == "succeeded"
    assert service.stop() == 0
