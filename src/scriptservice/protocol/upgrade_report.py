"""What became of an upgrade, as a small file in the data directory: the keeper writes, people read.

``scriptservice upgrade`` waits for it to change. It is news, not state: nothing depends on it.
"""

import json
import os
from contextlib import suppress
from dataclasses import asdict, dataclass

_NAME = "upgrade"


@dataclass(frozen=True, slots=True)
class UpgradeReport:
    """How far an upgrade is.

    Attributes:
        number: counts the upgrades of a data directory.
        done: whether it is over.
        ok: whether it went all the way.
        message: one line for a person.
    """

    number: int
    done: bool
    ok: bool
    message: str


def write_upgrade_report(data_dir: str, report: UpgradeReport) -> None:
    """Write how far an upgrade is; on a full disk it stays untold."""
    path = os.path.join(data_dir, _NAME)
    with suppress(OSError):
        descriptor = os.open(
            f"{path}.new", os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600
        )
        try:
            os.write(descriptor, json.dumps(asdict(report)).encode())
        finally:
            os.close(descriptor)
        os.replace(f"{path}.new", path)


def read_upgrade_report(data_dir: str) -> UpgradeReport:
    """Return how far the last upgrade is; number 0 if there was none."""
    path = os.path.join(data_dir, _NAME)
    with suppress(FileNotFoundError, ValueError, TypeError), open(path, "rb") as file:
        return UpgradeReport(**json.load(file))
    return UpgradeReport(0, done=True, ok=True, message="")
