"""Scripts that behave badly, each with what must be said of it all the same."""

import signal

from support.oracle import WHOLE, Script, numbered

ONE = "echo line 0000001; "
_HARMLESS = {
    signal.SIGQUIT, signal.SIGCHLD, signal.SIGCONT, signal.SIGTSTP, signal.SIGTTIN,
    signal.SIGTTOU, signal.SIGURG, signal.SIGWINCH,
}  # fmt: skip
"""What bash ignores, in a script, or the kernel does for whoever does not say otherwise; the three
that stop do nothing to a group that no shell watches."""


def _name(number: int) -> str:
    """Return what a signal is called; those of real time have no names but by their distance."""
    if number in set(signal.Signals):
        return signal.Signals(number).name
    return f"SIGRTMIN{number - signal.SIGRTMIN:+d}"


def signals_itself(number: int) -> Script:
    """Sends itself a signal, and would go on."""
    text = f"{ONE}kill -{number} $$; echo line 0000002"
    if number == signal.SIGSTOP:
        return stops_itself()
    if number in _HARMLESS:
        return Script(f"signal {number}", text, stdout=numbered(1, 2))
    return Script(
        f"signal {number}", text, ("failed", None), stdout=numbered(1, 1), signal=_name(number)
    )


def stops_itself(*, asked: bool = False) -> Script:
    """Stops itself like Ctrl-Z; ended by its time-out, or by who asks."""
    stop = {"grace_seconds": 3600} if asked else None
    fields = {} if asked else {"timeout_seconds": 0.3, "grace_seconds": 3600}
    return Script(
        "stops itself",
        f"{ONE}{WHOLE}; kill -STOP $$; echo line 0000002",
        ("stopped" if asked else "timed_out", None),
        fields,
        stdout=numbered(1, 1),
        stop=stop,
        signal="SIGTERM",
        cut=not asked,
    )


def kills_its_group() -> Script:
    """Kills its own process group, itself among it, and leaves somebody outside."""
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
    """Asks its own process group to end, and exits with 9 when it hears that itself."""
    text = f"trap 'echo line 0000002; exit 9' TERM; sleep 3600 & {ONE}kill 0; wait; echo never"
    return Script("asks its group", text, ("failed", 9), stdout=numbered(1, 2))


def kills_its_parent() -> Script:
    """Tries to kill the keeper, which is another user's."""
    text = f"{ONE}kill -KILL $PPID 2>&- && echo killed; kill -0 $PPID 2>&- && echo could; exit 2"
    return Script("kills its parent", text, ("failed", 2), stdout=numbered(1, 1))


def twice_away() -> Script:
    """Leaves a daemon in a session of a session's, which holds its pipes open."""
    text = (
        f"{ONE}(setsid setsid sleep 3600 &); (setsid bash -c 'setsid sleep 3600 & wait' &); exit 4"
    )
    return Script(
        "twice away", text, ("failed", 4), {"leftover_seconds": 0.2}, stdout=numbered(1, 1)
    )


def flees(*, environment: bool) -> Script:
    """Forks and exits for ever, so that whoever is looked at is gone already; it is stopped."""
    clean = "" if environment else "env -i "
    # By name of the mark, so that one without an environment is found too.
    text = f"""trap '' TERM
        {clean}/bin/bash -c 'flee() {{ flee & }}; flee' "$ORACLE_MARK" >&- 2>&- &
        {ONE}sleep 3600"""
    return Script(
        "flees" if environment else "flees without environment",
        text,
        ("stopped", None),
        stdout=numbered(1, 1),
        stop={"grace_seconds": 0.1},
        signal="SIGKILL",
    )


def flees_on() -> Script:
    """Exits, and what it left forks and exits for ever."""
    text = f"flee() {{ flee & }}; flee >&- 2>&-; {ONE}exit 8"
    return Script("flees on", text, ("failed", 8), {"leftover_seconds": 0.2}, stdout=numbered(1, 1))


def closes_its_streams() -> Script:
    """Closes stdout, goes on to speak on stderr, closes that, and goes on."""
    text = f"{ONE}exec >&-; echo error 0000001 >&2; exec 2>&-; sleep 0.1; exit 6"
    return Script(
        "closes its streams",
        text,
        ("failed", 6),
        stdout=numbered(1, 1),
        stderr=numbered(1, 1, "error"),
    )


def speaks_after_its_death() -> Script:
    """Is killed, and its child goes on to print a lot on both streams."""
    text = f"""(sleep 0.2; seq -f 'line %07.0f' 2 9999; seq -f 'error %07.0f' 9999 >&2) &
        {ONE}kill -KILL $$"""
    return Script(
        "speaks after its death",
        text,
        ("failed", None),
        {"leftover_seconds": 3600},
        stdout=numbered(1, 9999),
        stderr=numbered(1, 9999, "error"),
        signal="SIGKILL",
    )


def empties_its_directory() -> Script:
    """Deletes what it can of a directory of its own while somebody of it is inside."""
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
    """Return one of each."""
    return [
        kills_its_group(), asks_its_group(), kills_its_parent(), twice_away(),
        flees(environment=True), flees(environment=False), flees_on(), closes_its_streams(),
        speaks_after_its_death(), empties_its_directory(), stops_itself(asked=True),
    ]  # fmt: skip


def every_signal() -> list[Script]:
    """Return one for each signal that there is."""
    return [signals_itself(number) for number in range(1, 65)]
