"""Commands as JSON."""

import json
from datetime import UTC, datetime
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scriptservice.model import (
    Command,
    Concurrency,
    Limits,
    OnOutputLimit,
    Outcome,
    Status,
    Submission,
)
from scriptservice.server.http.command_json import command_view, time_text, to_json

EXAMPLE = """{
  "id": "0199c0de-7f3a-7c41-9d0e-2b7f6f1c9a55",
  "status": "running",
  "name": "nightly backup",
  "labels": {"team": "db"},
  "script": "pg_dump app > app.sql\\n",
  "interpreter": ["/bin/bash"],
  "args": [],
  "env": {"PGHOST": "db1"},
  "working_directory": null,
  "stdin_bytes": 0,
  "interactive": false,
  "pty": null,
  "timeout_seconds": 3600,
  "queue_timeout_seconds": null,
  "grace_seconds": 10,
  "leftover_seconds": 2,
  "output_limit_bytes": null,
  "on_output_limit": "discard",
  "limits": null,
  "priority": 0,
  "concurrency": {"key": "backup", "limit": 1, "when_busy": "queue"},
  "waiting_for": null,
  "host": "alpha",
  "created_by": "admin",
  "rerun_of": null,
  "created_at": "2026-11-23T16:20:00.123456Z",
  "started_at": "2026-11-23T16:20:00.131007Z",
  "exited_at": null,
  "finished_at": null,
  "exit_code": null,
  "signal": null,
  "reason": null,
  "leftovers_killed": 0,
  "output": {"bytes": 0, "stdout_bytes": 0, "stderr_bytes": 0, "discarded_bytes": 0},
  "usage": {"user_seconds": null, "system_seconds": null, "max_rss_bytes": null}
}"""
"""The contract's."""

CREATED = 1_795_450_800_123_456
COMMAND = Command(
    number=1,
    id=UUID("0199c0de-7f3a-7c41-9d0e-2b7f6f1c9a55"),
    submission=Submission(
        script="pg_dump app > app.sql\n",
        name="nightly backup",
        labels={"team": "db"},
        env={"PGHOST": "db1"},
        timeout_seconds=3600.0,
        grace_seconds=10.0,
        leftover_seconds=2.0,
        concurrency=Concurrency("backup"),
    ),
    status=Status.RUNNING,
    host="alpha",
    created_by="admin",
    rerun_of=None,
    created_at=CREATED,
    stdin_bytes=0,
    outcome=Outcome(started_at=CREATED + 7551),
)


def test_the_example_of_the_contract() -> None:
    assert json.dumps(command_view(COMMAND), indent=0) == json.dumps(json.loads(EXAMPLE), indent=0)


def test_in_a_list_the_preview_stands_where_the_script_does() -> None:
    whole, item = list(command_view(COMMAND)), command_view(COMMAND, item=True)
    left = [name for name in whole if name not in ("args", "env")]
    assert list(item) == [name.replace("script", "script_preview") for name in left]
    assert item["script_preview"] == COMMAND.submission.script


def test_everything_that_is_known_is_shown() -> None:
    rerun_of = UUID(int=7)
    command = Command(
        number=2,
        id=UUID(int=1),
        submission=Submission(
            script="x",
            interpreter=("/bin/sh", "-e"),
            args=("a",),
            working_directory="private",
            timeout_seconds=0.25,
            queue_timeout_seconds=5,
            output_limit_bytes=9,
            on_output_limit=OnOutputLimit.STOP,
            limits=Limits(cpu_seconds=5.0, processes=7),
            priority=-5,
        ),
        status=Status.FAILED,
        host=None,
        created_by="ci",
        rerun_of=rerun_of,
        created_at=0,
        stdin_bytes=12,
        outcome=Outcome(
            started_at=1,
            exited_at=2,
            finished_at=3,
            exit_code=4,
            signal="SIGHUP",
            reason="why",
            leftovers_killed=5,
            stdout_bytes=6,
            stderr_bytes=7,
            discarded_bytes=8,
            user_seconds=0.5,
            system_seconds=1.0,
            max_rss_bytes=9,
        ),
    )
    view = command_view(command)
    assert view["rerun_of"] == str(rerun_of)
    assert view["output"] == {
        "bytes": 13,
        "stdout_bytes": 6,
        "stderr_bytes": 7,
        "discarded_bytes": 8,
    }
    assert view["usage"] == {"user_seconds": 0.5, "system_seconds": 1.0, "max_rss_bytes": 9}
    assert view["finished_at"] == "1970-01-01T00:00:00.000003Z"
    shown = [
        view[name]
        for name in ("interpreter", "args", "working_directory", "stdin_bytes", "timeout_seconds",
                     "queue_timeout_seconds", "output_limit_bytes", "on_output_limit", "limits",
                     "priority", "host", "exit_code", "signal", "reason", "leftovers_killed")
    ]  # fmt: skip
    assert shown == [
        ["/bin/sh", "-e"], ["a"], "private", 12, 0.25, 5, 9, "stop",
        {"cpu_seconds": 5, "processes": 7}, -5, None, 4, "SIGHUP", "why", 5,
    ]  # fmt: skip


@given(st.integers(0, 4_102_444_800_000_000))
def test_times_are_utc_with_six_digits_and_nothing_is_rounded(microseconds: int) -> None:
    text = time_text(microseconds)
    assert text is not None
    assert len(text) == len("2026-11-23T16:20:00.123456Z")
    moment = datetime.fromisoformat(text)
    epoch = datetime(1970, 1, 1, tzinfo=UTC)
    delta = moment - epoch
    assert (delta.days * 86_400 + delta.seconds) * 1_000_000 + delta.microseconds == microseconds


def test_no_time_is_null() -> None:
    assert time_text(None) is None


@pytest.mark.parametrize("value", [{"a": [1, None, "ä €"]}, {}, [], "x"])
def test_json_is_compact_and_in_utf_8(value: object) -> None:
    raw = to_json(value)
    assert json.loads(raw) == value
    assert b", " not in raw
    assert b"\\u" not in raw
