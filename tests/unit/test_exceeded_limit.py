"""Which limit has ended a process, and the reason that its command gets."""

import json
import resource
import signal
from typing import Any
from uuid import UUID

import pytest

from scriptservice.fleet.journal_folding import TrackedCommand, apply_record
from scriptservice.keeper.command.exceeded_limit import exceeded_limit
from scriptservice.keeper.spawn.process_limits import resource_limits
from scriptservice.model import UNKNOWN_OUTCOME, Status
from scriptservice.protocol.journal_format import Kind, Record

KILL, XCPU, TERM = signal.SIGKILL, signal.SIGXCPU, signal.SIGTERM
OF_CPU = {"limit": "cpu_seconds", "value": 5}
GIBIBYTE = 1 << 30


@pytest.mark.parametrize(
    ("limits", "status", "soft_seconds", "memory", "expected"),
    [
        ({"cpu_seconds": 5}, XCPU, 6, None, OF_CPU),
        ({"cpu_seconds": 5}, KILL, 6, None, OF_CPU),
        ({"cpu_seconds": 5}, KILL, 5, None, None),
        ({"cpu_seconds": 5}, XCPU, 5, None, None),  # the script has sent it
        ({"cpu_seconds": 5}, XCPU, 2, None, None),  # the script has lowered its limit
        ({"cpu_seconds": 4.2}, XCPU, 5, None, None),  # the kernel counts whole seconds
        ({"cpu_seconds": 5}, XCPU, None, None, None),
        ({"cpu_seconds": 5}, TERM, 6, True, None),
        ({"cpu_seconds": 5}, 3 << 8, 6, True, None),
        ({"nice": 5}, XCPU, 6, None, None),
        ({}, KILL, 6, True, None),
        (
            {"memory_bytes": GIBIBYTE}, KILL, None, True,
            {"limit": "memory_bytes", "value": GIBIBYTE},
        ),
        (
            {"memory_bytes": GIBIBYTE}, KILL, None, False,
            {"limit": "memory_bytes", "value": None},
        ),
        ({"memory_bytes": GIBIBYTE}, KILL, None, None, None),
        ({"memory_bytes": GIBIBYTE}, XCPU, None, True, None),
    ],
)  # fmt: skip
def test_a_limit_is_named_if_the_kernel_has_enforced_it(
    limits: dict[str, Any],
    status: int,
    soft_seconds: int | None,
    memory: bool | None,
    expected: dict[str, Any] | None,
) -> None:
    assert exceeded_limit(limits, status, soft_seconds, lambda: memory) == expected


# The reason


def command() -> TrackedCommand:
    running = Status.RUNNING
    return TrackedCommand(
        1, UUID(int=1), running, running, UNKNOWN_OUTCOME._replace(started_at=1), 1
    )


def record(kind: Kind, **fields: Any) -> Record:
    return Record(kind, bytes(16), 0, 2, 0, json.dumps(fields).encode(), 0)


def exited(status: int, **fields: Any) -> Record:
    usage = {"user_seconds": 1, "system_seconds": 1, "max_rss_bytes": 1}
    return record(Kind.EXITED, status=status, **usage, **fields)


def closed(cause: str | None = None, **fields: Any) -> Record:
    return record(Kind.CLOSED, cause=cause, leftovers_killed=0, discarded_bytes=0, **fields)


@pytest.mark.parametrize(
    ("exceeded", "reason"),
    [
        ({}, "it was ended by SIGKILL"),
        ({"exceeded": OF_CPU}, "killed: it used more than 5 CPU seconds"),
        (
            {"exceeded": {"limit": "cpu_seconds", "value": 1.5}},
            "killed: it used more than 1.5 CPU seconds",
        ),
        (
            {"exceeded": {"limit": "memory_bytes", "value": GIBIBYTE}},
            "killed for memory: its processes needed more than 1073741824 bytes",
        ),
        (
            {"exceeded": {"limit": "memory_bytes", "value": None}},
            "killed for memory: the service or the machine had too little",
        ),
        ({"exceeded": {"limit": "of a later release", "value": 1}}, "it was ended by SIGKILL"),
    ],
)
def test_the_reason_names_the_limit(exceeded: dict[str, Any], reason: str) -> None:
    tracked = command()
    for each in (exited(KILL, **exceeded), closed()):
        apply_record(tracked, each)
    assert (tracked.status, tracked.outcome.reason) == (Status.FAILED, reason)


def test_a_stop_that_came_first_is_the_reason() -> None:
    tracked = command()
    for each in (record(Kind.STOPPING, cause="timeout"), exited(KILL, exceeded=OF_CPU)):
        apply_record(tracked, each)
    assert tracked.outcome.reason is None
    apply_record(tracked, closed("timeout"))
    assert (tracked.status, tracked.outcome.reason) == (Status.TIMED_OUT, "its time-out passed")


def test_the_reason_survives_the_death_of_the_keeper() -> None:
    tracked = command()
    for each in (exited(KILL, exceeded=OF_CPU), closed(interrupted=True)):
        apply_record(tracked, each)
    assert str(tracked.outcome.reason).startswith("killed: it used more than 5 CPU seconds; its ke")


# What the process sets


@pytest.mark.parametrize(
    ("limits", "restores", "expected"),
    [
        ({}, False, ()),
        ({}, True, ((resource.RLIMIT_NOFILE, 1024, 4096),)),
        ({"open_files": 64}, True, ((resource.RLIMIT_NOFILE, 64, 64),)),
        ({"open_files": 2000}, False, ((resource.RLIMIT_NOFILE, 2000, 2000),)),
        ({"open_files": 1 << 30}, False, ((resource.RLIMIT_NOFILE, 4096, 4096),)),
        ({"cpu_seconds": 0.1}, False, ((resource.RLIMIT_CPU, 1, 2),)),
        ({"cpu_seconds": 5.0}, False, ((resource.RLIMIT_CPU, 5, 6),)),
        ({"cpu_seconds": 1e9}, False, ((resource.RLIMIT_CPU, 10**9, 10**9 + 1),)),
    ],
)
def test_no_limit_is_above_that_of_the_service(
    limits: dict[str, Any], restores: bool, expected: tuple[Any, ...]
) -> None:
    found = resource_limits(limits, (1024, 4096), restores_descriptors=restores)
    assert found == expected
