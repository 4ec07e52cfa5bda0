"""What the keeper keeps of a command, in one place.

A running command and its output read and write these fields. An upgrade hands all of them to the
keeper's next program. A SNAPSHOT record of the journal has those that the next keeper needs if this
one dies (`KeptCommand.snapshot`), and `keeper.previous_keeper` finds the same fields again in the
journal of a dead keeper.
"""

from dataclasses import dataclass, field
from typing import Any

from scriptservice.keeper.life.life import Life, Phase


@dataclass(slots=True)
class KeptInput:
    """The input of an interactive command, and what only a terminal has.

    Attributes:
        descriptor: the write end of the script's stdin, or of its terminal; None once it is closed.
        is_terminal: whether the script has a terminal, which is also the stream of its output.
        accepted: how many bytes were accepted from clients.
        ends: whether the input was closed, so that no more is accepted.
        waiting: in a hand-over, the bytes that wait until the script reads, in base64.
        unwritten: in a hand-over, the output that was read from the terminal and is not in the
            journal, in base64.
    """

    descriptor: int | None
    is_terminal: bool = False
    accepted: int = 0
    ends: bool = False
    waiting: str = ""
    unwritten: str = ""


@dataclass(slots=True)
class KeptCommand:
    """A command from the moment its process is made until it is closed.

    Times are times of the monotonic clock, in seconds. A start is in clock ticks from boot.
    Descriptors are None or absent where there is none, or where the keeper that had it is dead.

    Attributes:
        id: the command's UUID.
        life: the phase, and all that decides what comes next.
        pid: process id of the script, None if the journal of a dead keeper does not tell it.
        start_ticks: when that process started.
        pipes: inode numbers of the pipes for stdout and stderr.
        handle: the process's pidfd, None once the process was reaped.
        status: the read end of the process's status pipe, None once the start is decided.
        streams: the pipes that are still read, each as its descriptor and 1 (stdout) or 2 (stderr).
        started: when the process was made.
        private_directory: the path of the directory to remove at the end, None if there is none.
        interpreter: the script's interpreter, for the reason of a failed start.
        working_directory: the working directory that was submitted, for the same reason.
        limit: how many bytes of output are kept, None for all.
        stop_on_limit: whether the script is stopped when it has printed more than the limit.
        position: how many bytes of both streams together are in the journal.
        stream_bytes: how many bytes of each stream are in the journal, by the stream's number.
        discarded: how many bytes of both streams together were discarded.
        window_bytes: see `output_pipes.WINDOW_BYTES`.
        window_mark: the journal position before the present window.
        discard_news_at: when the next DISCARDED record is due, None if none is pending.
        leftover_pids: ids of the processes that were signalled after the script's exit.
        leftovers_killed: how many processes were signalled then.
        input: the input, None if the script takes none.
    """

    id: str
    life: Life = field(default_factory=Life)
    pid: int | None = None
    start_ticks: int = 0
    pipes: list[int] = field(default_factory=lambda: [0, 0])
    handle: int | None = None
    status: int | None = None
    streams: list[list[int]] = field(default_factory=list)
    started: float = 0.0
    private_directory: str | None = None
    interpreter: str = ""
    working_directory: str | None = None
    limit: int | None = None
    stop_on_limit: bool = False
    position: int = 0
    stream_bytes: list[int] = field(default_factory=lambda: [0, 0, 0])
    discarded: int = 0
    window_bytes: int = 0
    window_mark: int = 0
    discard_news_at: float | None = None
    leftover_pids: list[int] = field(default_factory=list)
    leftovers_killed: int = 0
    input: KeptInput | None = None

    @property
    def exited(self) -> bool:
        """Whether the script's own process was reaped, or its exit is in the journal."""
        return not self.life.is_live

    def add_leftovers(self, pids: set[int]) -> None:
        """Count processes that were signalled after the script's exit, each once."""
        if pids:
            self.leftover_pids = sorted(pids.union(self.leftover_pids))
            self.leftovers_killed = len(self.leftover_pids)

    def process_fields(self) -> dict[str, Any]:
        """Return the payload of the record STARTED."""
        return {
            "pid": self.pid,
            "start_ticks": self.start_ticks,
            "pipes": self.pipes,
            "output_limit_bytes": self.limit,
        }

    def take_process(self, fields: dict[str, Any]) -> None:
        """Set what the record STARTED or a SNAPSHOT of an older keeper says of the process."""
        self.pid, self.start_ticks = fields["pid"], fields["start_ticks"]
        self.pipes = list(fields["pipes"])
        self.limit = fields.get("output_limit_bytes")

    def mark_stopping(self, cause: str) -> None:
        """Note that the journal of a dead keeper has the begin of a stop."""
        self.life = self.life._replace(cause=cause)

    def mark_exited(self) -> None:
        """Note that the journal of a dead keeper has the script's exit."""
        self.life = self.life._replace(phase=Phase.EXITED)

    def snapshot(self) -> dict[str, Any]:
        """Return this command's entry in a SNAPSHOT record."""
        return {
            "id": self.id,
            **self.process_fields(),
            "position": self.position,
            "exited": self.exited,
            "cause": self.life.cause,
            "leftovers_killed": self.leftovers_killed,
            "discarded_bytes": self.discarded,
        }

    @classmethod
    def from_snapshot(cls, entry: dict[str, Any]) -> "KeptCommand":
        """Return the command that an entry in a SNAPSHOT record describes."""
        phase = Phase.EXITED if entry["exited"] else Phase.RUNNING
        command = cls(
            id=entry["id"],
            life=Life(phase=phase, cause=entry["cause"]),
            position=entry["position"],
            leftovers_killed=entry["leftovers_killed"],
            discarded=entry["discarded_bytes"],
        )
        command.take_process(entry)
        return command

    @classmethod
    def present_fields(cls, fields: dict[str, Any]) -> dict[str, Any]:
        """Return the fields of a hand-over of any release as this release names them.

        Releases before the explicit life had a flag for each step, in place of the phase.
        """
        if "life" in fields:
            return fields
        kept = {name: value for name, value in fields.items() if name not in _FLAGS}
        kept["leftover_pids"] = kept.get("leftover_pids") or []
        kept["leftovers_killed"] = len(kept["leftover_pids"])
        flags = {name: fields[name] for name in _FLAGS}
        phase, wake_at = _phase_of(flags)
        kept["life"] = {
            "phase": phase,
            "wake_at": wake_at,
            "has_private_directory": kept["private_directory"] is not None,
            "leftovers_signalled": flags["termed"],
            **{name: flags[name] for name in _KEPT_FLAGS},
        }
        return kept


_KEPT_FLAGS = (
    "grace_seconds", "leftover_seconds", "cause", "kill_at", "killing", "leftover_at", "timeout_at",
)  # fmt: skip
_FLAGS = (*_KEPT_FLAGS, "exited", "removing", "termed", "tree_gone")


def _phase_of(flags: dict[str, Any]) -> tuple[Phase, float | None]:
    """Return the phase that the flags of an earlier release stand for, and when it goes on."""
    if flags["removing"]:
        return Phase.REMOVING, 0.0
    if flags["tree_gone"]:
        return Phase.DRAINING, 0.0
    if flags["exited"]:
        return Phase.LEFTOVERS, 0.0
    if flags["cause"] is not None:
        return Phase.STOPPING, 0.0 if flags["killing"] else flags["kill_at"]
    return Phase.RUNNING, flags["timeout_at"]
