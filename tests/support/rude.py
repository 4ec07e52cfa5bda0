"""Scripts that behave badly, each with the result that the service must report."""

import signal

from support.oracle import NOTE_COMPLETE, Script, numbered

ONE = "echo line 0000001; "
_HARMLESS = {
    signal.SIGQUIT, signal.SIGCHLD, signal.SIGCONT, signal.SIGTSTP, signal.SIGTTIN,
    signal.SIGTTOU, signal.SIGURG, signal.SIGWINCH,
}  # fmt: skip
"""Signals that a script survives: bash or the kernel ignores them by default. The three stop
signals of terminals have no effect in an orphaned process group."""


def _name(number: int) -> str:
    """Return the name of a signal; real-time signals are named relative to SIGRTMIN."""
    if number in set(signal.Signals):
        return signal.Signals(number).name
    return f"SIGRTMIN{number - signal.SIGRTMIN:+d}"


def signals_itself(number: int) -> Script:
    """Sends itself a signal, and prints another line if it survives."""
    text = f"{ONE}kill -{number} $$; echo line 0000002"
    if number == signal.SIGSTOP:
        return stops_itself()
    if number in _HARMLESS:
        return Script(f"signal {number}", text, stdout=numbered(1, 2))
    return Script(
        f"signal {number}", text, ("failed", None), stdout=numbered(1, 1), signal=_name(number)
    )


def stops_itself(*, stopped: bool = False) -> Script:
    """Suspends itself with SIGSTOP; its time-out or a stop (``stopped``) ends it."""
    stop = {"grace_seconds": 3600} if stopped else None
    fields = {} if stopped else {"timeout_seconds": 0.3, "grace_seconds": 3600}
    return Script(
        "stops itself",
        f"{ONE}{NOTE_COMPLETE}; kill -STOP $$; echo line 0000002",
        ("stopped" if stopped else "timed_out", None),
        fields,
        stdout=numbered(1, 1),
        stop=stop,
        signal="SIGTERM",
        may_be_cut=not stopped,
    )


def kills_its_group() -> Script:
    """Kills its own process group, including itself, and leaves a process outside of it."""
    text = f"(setsid sleep 3600 >&- 2>&- &); sleep 3600 & {ONE}kill -KILL 0; echo never"
    return Script(
        "kills its group",
        text,
        ("failed", None),
        {"leftover_seconds": 0.2},
        stdout=numbered(1, 1),
        signal="SIGKILL",
    )


def asks_its_group() -> Script:
    """Sends SIGTERM to its own process group, and exits with 9 when it gets the signal itself."""
    text = f"trap 'echo line 0000002; exit 9' TERM; sleep 3600 & {ONE}kill 0; wait; echo never"
    return Script("asks its group", text, ("failed", 9), stdout=numbered(1, 2))


def kills_its_parent() -> Script:
    """Tries to kill the keeper, which belongs to another user."""
    text = f"{ONE}kill -KILL $PPID 2>&- && echo killed; kill -0 $PPID 2>&- && echo could; exit 2"
    return Script("kills its parent", text, ("failed", 2), stdout=numbered(1, 1))


def leaves_nested_daemons() -> Script:
    """Leaves daemons that made a session twice and hold its pipes open."""
    text = (
        f"{ONE}(setsid setsid sleep 3600 &); (setsid bash -c 'setsid sleep 3600 & wait' &); exit 4"
    )
    return Script(
        "leaves nested daemons",
        text,
        ("failed", 4),
        {"leftover_seconds": 0.2},
        stdout=numbered(1, 1),
    )


def forks_endlessly(*, environment: bool) -> Script:
    """Forks and exits endlessly, so that each process is gone before it is looked at.

    The trial stops it.

    Args:
        environment: whether these processes keep the environment by which they can be found.
    """
    clean = "" if environment else "env -i "
    # The mark is an argument as well, so that the trial finds processes without an environment.
    text = f"""trap '' TERM
        {clean}/bin/bash -c 'flee() {{ flee & }}; flee' "$ORACLE_MARK" >&- 2>&- &
        {ONE}sleep 3600"""
    return Script(
        "forks endlessly" if environment else "forks endlessly without environment",
        text,
        ("stopped", None),
        stdout=numbered(1, 1),
        stop={"grace_seconds": 0.1},
        signal="SIGKILL",
    )


def leaves_an_endless_forker() -> Script:
    """Exits, and leaves a child that forks and exits endlessly."""
    text = f"flee() {{ flee & }}; flee >&- 2>&-; {ONE}exit 8"
    return Script(
        "leaves an endless forker",
        text,
        ("failed", 8),
        {"leftover_seconds": 0.2},
        stdout=numbered(1, 1),
    )


def closes_its_streams() -> Script:
    """Closes stdout, prints to stderr, closes stderr too, and continues."""
    text = f"{ONE}exec >&-; echo error 0000001 >&2; exec 2>&-; sleep 0.1; exit 6"
    return Script(
        "closes its streams",
        text,
        ("failed", 6),
        stdout=numbered(1, 1),
        stderr=numbered(1, 1, "error"),
    )


def is_killed_while_its_child_prints() -> Script:
    """Kills itself, while its child prints a lot to both streams."""
    text = f"""(sleep 0.2; seq -f 'line %07.0f' 2 9999; seq -f 'error %07.0f' 9999 >&2) &
        {ONE}kill -KILL $$"""
    return Script(
        "is killed while its child prints",
        text,
        ("failed", None),
        {"leftover_seconds": 3600},
        stdout=numbered(1, 9999),
        stderr=numbered(1, 9999, "error"),
        signal="SIGKILL",
    )


def empties_its_directory() -> Script:
    """Deletes its private directory as far as it can, while one of its processes is inside."""
    text = f"""{ONE}place=$PWD; mkdir -p a/b; cd a/b
        (while [ -e "$place/a" ]; do sleep 0.02; done
        echo line 0000002; touch c 2>&- || exit 0) &
        cd ../..; rm -rf "$PWD" 2>&-; wait; ls -A; exit 5"""
    return Script(
        "empties its directory",
        text,
        ("failed", 5),
        {"working_directory": "private"},
        stdout=numbered(1, 2),
    )


def every_rudeness() -> list[Script]:
    """Return one script of each kind."""
    return [
        kills_its_group(), asks_its_group(), kills_its_parent(), leaves_nested_daemons(),
        forks_endlessly(environment=True), forks_endlessly(environment=False),
        leaves_an_endless_forker(), closes_its_streams(),
        is_killed_while_its_child_prints(), empties_its_directory(), stops_itself(stopped=True),
    ]  # fmt: skip


def every_signal() -> list[Script]:
    """Return one script for each signal."""
    return [signals_itself(number) for number in range(1, 65)]
