"""The state of an upgrade in a small file of the data directory, for the command line.

The keeper writes the file, and ``scriptservice upgrade`` reads the file until the upgrade is over.
The file is only a report: the service itself does not depend on the file.
"""

import json
import os
from contextlib import suppress
from dataclasses import asdict, dataclass

_NAME = "upgrade"


@dataclass(frozen=True, slots=True)
class UpgradeReport:
    """The state of an upgrade.

    Attributes:
        number: the number of this upgrade; the first upgrade of a data directory has the number 1.
        done: whether the upgrade is over.
        ok: whether the upgrade is over and has succeeded.
        message: one line for the user.
    """

    number: int
    done: bool
    ok: bool
    message: str


def write_upgrade_report(data_dir: str, report: UpgradeReport) -> None:
    """Write the report of an upgrade; if the file cannot be written, do nothing."""
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
    """Return the report of the last upgrade, or a report with the number 0 if there was none."""
    path = os.path.join(data_dir, _NAME)
    with suppress(FileNotFoundError, ValueError, TypeError), open(path, "rb") as file:
        return UpgradeReport(**json.load(file))
    return UpgradeReport(0, done=True, ok=True, message="")
