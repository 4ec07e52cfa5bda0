"""Statuses and their transitions, interpreters from first lines, and names of signals."""

import itertools
import signal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scriptservice.model import (
    FINAL,
    OPEN,
    Status,
    may_become,
    parse_signal,
    predecessors,
    script_interpreter,
    signal_name,
)

ALLOWED = {
    ("queued", "running"), ("queued", "stopped"), ("queued", "failed"), ("queued", "timed_out"),
    ("running", "succeeded"), ("running", "failed"), ("running", "stopping"),
    ("stopping", "stopped"), ("stopping", "timed_out"), ("stopping", "failed"),
    ("queued", "lost"), ("running", "lost"), ("stopping", "lost"),
}  # fmt: skip
"""The transitions of the contract, written down once more."""


@pytest.mark.parametrize(("current", "wanted"), list(itertools.product(Status, Status)))
def test_transitions_are_those_of_the_contract(current: Status, wanted: Status) -> None:
    allowed = (current.value, wanted.value) in ALLOWED
    assert may_become(current, wanted) is allowed
    assert (current in predecessors(wanted)) is allowed


def test_the_five_final_statuses_never_change() -> None:
    assert {status.value for status in FINAL} == {
        "succeeded", "failed", "stopped", "timed_out", "lost",
    }  # fmt: skip
    assert set(Status) == FINAL | OPEN
    assert not FINAL & OPEN
    for status in Status:
        assert status.final is (status in FINAL)
        assert status.final is not any(may_become(status, other) for other in Status)


def test_every_final_status_is_reachable() -> None:
    reached = {Status.QUEUED}
    for _ in Status:
        reached |= {after for before in reached for after in Status if may_become(before, after)}
    assert reached == set(Status)


# Interpreters


@pytest.mark.parametrize(
    ("script", "interpreter"),
    [
        ("", ("/bin/bash",)),
        ("echo", ("/bin/bash",)),
        (" #!/bin/sh", ("/bin/bash",)),
        ("\n#!/bin/sh", ("/bin/bash",)),
        ("#", ("/bin/bash",)),
        ("# !/bin/sh", ("/bin/bash",)),
        ("#!", ("/bin/bash",)),
        ("#!\n/bin/sh", ("/bin/bash",)),
        ("#! \t \necho", ("/bin/bash",)),
        ("#!/bin/sh", ("/bin/sh",)),
        ("#!/bin/sh\n", ("/bin/sh",)),
        ("#! /bin/sh \t\necho", ("/bin/sh",)),
        ("#!\t/bin/sh\techo", ("/bin/sh", "echo")),
        ("#!/bin/sh -e -u", ("/bin/sh", "-e -u")),
        ("#!/bin/sh\t-e  -u\t ", ("/bin/sh", "-e  -u")),
        ("#!/bin/sh \t-e", ("/bin/sh", "-e")),
        ("#!/bin/sh\t\t-e", ("/bin/sh", "-e")),
        ("#!/bin/a\tb c", ("/bin/a", "b c")),
        ("#!/bin/a b\tc", ("/bin/a", "b\tc")),
        ("#!/usr/bin/env -S python3 -u\n", ("/usr/bin/env", "-S python3 -u")),
        ("#!bash", ("bash",)),
        ("#!/bin/sh\r\n", ("/bin/sh\r",)),
        ("#!/bin/ä b\n", ("/bin/ä", "b")),
        ("\ufeff#!/bin/sh", ("/bin/bash",)),
    ],
)
def test_a_first_line_names_its_interpreter(script: str, interpreter: tuple[str, ...]) -> None:
    assert script_interpreter(script) == interpreter


@pytest.mark.parametrize("length", [253, 254, 255, 256, 257, 300])
def test_linux_reads_256_bytes_of_the_first_line(length: int) -> None:
    """The kernel looks for the line's end in 256 bytes; without one it takes 255 of them.

    A path that is cut by that is refused, an argument is used as far as it goes (binfmt_script).
    """
    path = "/bin/" + "x" * (length - 7)
    line = f"#!{path}"
    assert len(line) == length
    wanted = (path,) if length <= 255 else ("/bin/bash",)
    assert script_interpreter(f"{line}\necho") == wanted
    argument = "-" + "a" * (length - len("#!/bin/sh -"))
    cut = argument if length <= 255 else argument[: 255 - len("#!/bin/sh ")]
    assert script_interpreter(f"#!/bin/sh {argument}\necho") == ("/bin/sh", cut)


@given(st.text())
def test_any_script_has_an_interpreter(script: str) -> None:
    for text in (script, f"#!{script}"):
        found = script_interpreter(text)
        assert 1 <= len(found) <= 2
        assert all(found)
        assert not any("\n" in word for word in found)


# Signals


@pytest.mark.parametrize("number", sorted(signal.valid_signals()))
def test_every_signal_has_its_own_name(number: int) -> None:
    name = signal_name(number)
    assert name.startswith("SIG")
    assert "+-" not in name
    others = {signal_name(other) for other in signal.valid_signals() if other != number}
    assert name not in others


def test_real_time_signals_are_counted_from_the_first() -> None:
    assert signal_name(signal.SIGRTMIN) == "SIGRTMIN"
    assert signal_name(signal.SIGRTMIN + 3) == "SIGRTMIN+3"


def test_the_two_signals_reserved_by_the_c_library_have_names_too() -> None:
    assert signal_name(signal.SIGRTMIN - 1) == "SIGRTMIN-1"


@pytest.mark.parametrize("name", sorted(signal.Signals.__members__))
def test_a_signal_may_be_given_with_or_without_sig_in_any_case(name: str) -> None:
    for text in (name, name[3:], name.lower(), name[3:].lower()):
        assert parse_signal(text) == name


@pytest.mark.parametrize(
    "name", ["", "SIG", "15", "SIGSIGTERM", "TERM ", " TERM", "SIG_DFL", "TERM\n", "NO", "ß", "ı"]
)
def test_invalid_signals(name: str) -> None:
    assert parse_signal(name) is None


@given(st.text())
def test_any_text_gives_a_signal_or_none(name: str) -> None:
    assert parse_signal(name) in {None, *signal.Signals.__members__}
