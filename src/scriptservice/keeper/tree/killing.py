"""Kills processes until none of them is left, even if they start new processes fast.

The trees use this module for the end of a command and for orphans without a command; ``recovery``
uses it for the processes of a dead keeper. The caller finds the processes, see `Found`.
"""

import signal
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from scriptservice.keeper.system.linux import (
    ProcessStat,
    SignalResult,
    process_user,
    signal_process,
)
from scriptservice.keeper.tree.process_tree import KillResult, Unkillable

_QUIET_ROUNDS = 3


@dataclass(frozen=True, slots=True)
class Found:
    """The processes that one look at the process table has found.

    Attributes:
        processes: the living processes.
        complete: whether these are certainly all processes that must be killed.
    """

    processes: Iterable[ProcessStat]
    complete: bool = True


@dataclass(slots=True)
class SignalResults:
    """The results of one signal that was sent to several processes.

    Attributes:
        sent: ids of the processes that got the signal.
        forbidden: the processes that may not be signalled.
        others: whether a process had vanished or could not be looked at.
    """

    sent: set[int] = field(default_factory=set)
    forbidden: list[Unkillable] = field(default_factory=list)
    others: bool = False


def signal_all(processes: Iterable[ProcessStat], number: int) -> SignalResults:
    """Signal each of these processes, but no process that reuses the id of one of them."""
    results = SignalResults()
    for stat in processes:
        result = signal_process(stat.pid, stat.start_ticks, number)
        if result is SignalResult.SENT:
            results.sent.add(stat.pid)
        elif result is SignalResult.FORBIDDEN and (uid := process_user(stat.pid)) is not None:
            results.forbidden.append(Unkillable(stat.pid, uid))
        else:
            results.others = True
    return results


def kill_until_quiet(
    look: Callable[[], Found],
    *,
    seconds: float,
    pause_seconds: float = 0.0,
    after_round: Callable[[], None] | None = None,
) -> KillResult:
    """Kill processes in rounds, until three rounds in a row find none that can be killed.

    One round is not enough, because a process may start another process after the look and before
    its own end. A round is quiet if it finds no process that can be killed. If a process was found
    but has vanished before the signal, the round is not quiet: the process may have left children.

    Args:
        look: finds the living processes; called once in each round.
        seconds: the longest time for the rounds. Then the function returns even if processes are
            left.
        pause_seconds: how long to wait after each round.
        after_round: called after the kill of each round.
    """
    quiet = 0
    forbidden: tuple[Unkillable, ...] = ()
    deadline = time.monotonic() + seconds
    # After a quiet round the next round follows even if the time is over. Otherwise a slow machine,
    # on which three rounds take longer than `seconds`, would never find a tree empty.
    while quiet < _QUIET_ROUNDS and (quiet > 0 or time.monotonic() < deadline):
        found = look()
        results = signal_all(found.processes, signal.SIGKILL)
        forbidden = tuple(results.forbidden)
        is_quiet = found.complete and not results.sent and not results.others
        quiet = quiet + 1 if is_quiet else 0
        if after_round is not None:
            after_round()
        if pause_seconds:
            time.sleep(pause_seconds)
    return KillResult(quiet >= _QUIET_ROUNDS and not forbidden, forbidden)
