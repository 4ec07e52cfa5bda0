"""The result of a soak: counts, and each promise that was broken."""

import platform
import threading
from collections import Counter
from dataclasses import dataclass, field
from typing import Any


@dataclass
class Verdict:
    """Counts of a running soak.

    Attributes:
        seed: the seed that repeats the faults.
        database: the kind of database, or its URL.
        seconds: how long faults were injected.
        statuses: how many commands ended with each status.
        faults: how many faults of each kind were injected.
        compared_bytes: bytes of stored output that were compared with what the scripts printed.
        followed: how many commands were followed live.
        followed_bytes: bytes of output that the followers received.
        problems: each promise that was broken, in words.
    """

    seed: int
    database: str
    seconds: float = 0.0
    statuses: Counter[str] = field(default_factory=Counter)
    faults: Counter[str] = field(default_factory=Counter)
    compared_bytes: int = 0
    followed: int = 0
    followed_bytes: int = 0
    problems: list[str] = field(default_factory=list)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def ended(self, status: str) -> None:
        """Count a command that has ended."""
        with self._lock:
            self.statuses[status] += 1

    def problem(self, text: str) -> None:
        """Add a broken promise to the verdict, and print it."""
        with self._lock:
            self.problems.append(text)
        print(f"PROBLEM: {text}", flush=True)

    def line(self) -> str:
        """Return the counts so far on one line."""
        return (
            f"{self.seconds:6.0f} s: {self.statuses.total()} commands, {self.faults.total()} "
            f"faults, {self.compared_bytes / 1e6:.0f} MB compared, {len(self.problems)} problems"
        )

    def members(self) -> dict[str, Any]:
        """Return the counts as JSON values."""
        return {
            "seed": self.seed,
            "database": self.database,
            "seconds": round(self.seconds, 1),
            "commands": dict(sorted(self.statuses.items())),
            "faults": dict(sorted(self.faults.items())),
            "compared_bytes": self.compared_bytes,
            "followed": self.followed,
            "followed_bytes": self.followed_bytes,
            "problems": self.problems,
        }

    def table(self) -> str:
        """Return a Markdown table of the counts, and below it the verdict and the problems."""
        statuses = ", ".join(f"{count} {status}" for status, count in sorted(self.statuses.items()))
        rows = [
            ("database, minutes", f"{self.database}, {self.seconds / 60:.1f}"),
            ("commands", f"{self.statuses.total()}: {statuses}"),
            ("faults", str(self.faults.total())),
            *((f"· {name}", str(count)) for name, count in sorted(self.faults.items())),
            ("bytes of output, each compared", f"{self.compared_bytes:,}"),
            ("commands followed live, bytes", f"{self.followed}, {self.followed_bytes:,}"),
            ("promises broken", str(len(self.problems))),
        ]
        lines = ["| | |", "|---|---|", *(f"| {name} | {value} |" for name, value in rows)]
        lines += ["", "Every promise was kept." if not self.problems else "PROMISES WERE BROKEN."]
        lines += [f"- {problem}" for problem in self.problems]
        return "\n".join([f"Python {platform.python_version()}, seed {self.seed}", "", *lines])
