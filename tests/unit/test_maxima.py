"""The service's maxima, and the limits that a keeper cannot set."""

import asyncio
from typing import Any

import pytest

from scriptservice.errors import StoreUnavailableError, ValidationError
from scriptservice.fleet.transport import HostState
from scriptservice.model import Limits, Submission
from scriptservice.server.commands.limit_support import LimitSupport
from scriptservice.server.commands.maxima import Maxima, SubmitDefaults

GIBIBYTE = 1 << 30
ALL = Maxima(
    timeout_seconds=60.0,
    grace_seconds=5.0,
    output_limit_bytes=1000,
    script_bytes=10,
    interactive=2,
)
FITTING = Submission(script="ä" * 5, timeout_seconds=60.0, grace_seconds=5, output_limit_bytes=1000)


def refused(**fields: Any) -> dict[str, str]:
    """Return what is wrong with a submission that would fit otherwise, by field."""
    values = {name: getattr(FITTING, name) for name in FITTING.__dataclass_fields__}
    with pytest.raises(ValidationError) as caught:
        ALL.apply(Submission(**{**values, **fields}))
    return {error.field: error.message for error in caught.value.errors}


def test_without_maxima_nothing_changes() -> None:
    submission = Submission(script="x" * 1000, timeout_seconds=1e300, grace_seconds=3600)
    assert Maxima().apply(submission) is submission
    Maxima().check_grace(3600)
    Maxima().check_interactive(10**6)
    assert Maxima().lower(SubmitDefaults(10, GIBIBYTE)) == SubmitDefaults(10, GIBIBYTE)
    assert Maxima().lower(SubmitDefaults(10, None)) == SubmitDefaults(10, None)


def test_a_maximum_itself_is_allowed() -> None:
    assert ALL.apply(FITTING) == FITTING
    ALL.check_grace(5)
    ALL.check_grace(None)
    ALL.check_interactive(1)


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        (
            "timeout_seconds",
            60.1,
            "must be at most 60, the service's maximum (--max-timeout-seconds)",
        ),
        ("grace_seconds", 6, "must be at most 5, the service's maximum (--max-grace-seconds)"),
        (
            "output_limit_bytes",
            1001,
            "must be at most 1000, the service's maximum (--max-output-limit-bytes)",
        ),
        (
            "output_limit_bytes",
            None,
            "must not be null: the service's maximum is 1000 (--max-output-limit-bytes)",
        ),
        (
            "script",
            "ä" * 5 + "x",
            "must have at most 10 bytes of UTF-8, the service's maximum (--max-script-bytes)",
        ),
    ],
)
def test_a_value_above_a_maximum_is_refused_and_the_maximum_named(
    field: str, value: Any, message: str
) -> None:
    assert refused(**{field: value}) == {field: message}


def test_every_value_above_its_maximum_is_named() -> None:
    found = refused(timeout_seconds=1e9, grace_seconds=3600, output_limit_bytes=GIBIBYTE)
    assert found.keys() == {"timeout_seconds", "grace_seconds", "output_limit_bytes"}


def test_a_command_without_a_timeout_gets_the_maximum() -> None:
    assert ALL.apply(Submission(script="x", grace_seconds=0, output_limit_bytes=0)) == Submission(
        script="x", grace_seconds=0, output_limit_bytes=0, timeout_seconds=60.0
    )


def test_defaults_are_lowered_to_the_maxima() -> None:
    assert ALL.lower(SubmitDefaults(10, GIBIBYTE)) == SubmitDefaults(5.0, 1000)
    assert ALL.lower(SubmitDefaults(10, None)) == SubmitDefaults(5.0, 1000)
    assert ALL.lower(SubmitDefaults(1, 10)) == SubmitDefaults(1, 10)


def test_a_stop_has_no_longer_grace_than_the_maximum() -> None:
    with pytest.raises(ValidationError, match="grace_seconds: must be at most 5"):
        ALL.check_grace(5.5)


def test_one_interactive_command_too_many_is_refused() -> None:
    with pytest.raises(ValidationError, match=r"maximum is 2 \(--max-interactive\)"):
        ALL.check_interactive(2)


# Limits that the keeper cannot set


def support(*answers: tuple[str, ...] | None) -> LimitSupport:
    """Return the check for a keeper that reports these limits, one after the other.

    Args:
        answers: the limits of each answer; None if the keeper does not answer.
    """
    rest = list(answers)

    async def state() -> HostState:
        limits = rest.pop(0)
        if limits is None:
            raise TimeoutError
        return HostState("walk", 0, 0, False, 0, (), limits=limits)

    return LimitSupport(state)


OF_PROCESSES = ("cpu_seconds", "open_files", "nice")


def check(checked: LimitSupport, **limits: Any) -> None:
    asyncio.run(checked.check(Limits(**limits)))


def test_a_keeper_is_asked_only_for_limits_that_it_has_not_named() -> None:
    checked = support(OF_PROCESSES, (*OF_PROCESSES, "processes"))
    asyncio.run(checked.check(None))
    check(checked, nice=1)
    check(checked, cpu_seconds=1.0, open_files=100)
    check(checked, processes=5)


def test_a_limit_without_its_controller_is_refused() -> None:
    checked = support(OF_PROCESSES, OF_PROCESSES)
    with pytest.raises(ValidationError, match=r"limits\.memory_bytes: cannot be set .* memory"):
        check(checked, nice=1, memory_bytes=GIBIBYTE)
    with pytest.raises(ValidationError, match=r"limits\.processes: cannot be set .* pids"):
        check(checked, processes=1)


def test_a_keeper_of_an_earlier_release_sets_no_limit() -> None:
    with pytest.raises(ValidationError, match=r"limits\.nice: .* keeper is of an earlier release"):
        check(support(()), nice=1)


def test_without_an_answer_of_the_keeper_the_command_may_be_sent_again() -> None:
    with pytest.raises(StoreUnavailableError, match="the keeper does not answer"):
        check(support(None), nice=1)
