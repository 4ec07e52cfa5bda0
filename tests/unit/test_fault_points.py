"""Each fault point is reached in one place, and does nothing unless a test sets its action."""

import errno
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

import scriptservice
from scriptservice.protocol.fault_points import POINTS, VARIABLE, arm, pending, reached

PASSED = "from scriptservice.protocol.fault_points import reached\nreached('journal.append')\n"


def test_each_point_is_reached_in_one_place() -> None:
    source = Path(scriptservice.__file__).parent
    code = "\n".join(
        path.read_text() for path in source.rglob("*.py") if path.name != "fault_points.py"
    )
    assert sorted(re.findall(r"reached\(\s*\"([\w.]+)\"", code)) == sorted(POINTS)


def test_a_point_does_nothing_without_the_variable(tmp_path: Path) -> None:
    for point in POINTS:
        arm(str(tmp_path), point, "kill")
        reached(point)
        assert pending(str(tmp_path), point)


def test_an_unknown_point_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(KeyError):
        arm(str(tmp_path), "journal.nowhere", "kill")


def passed(directory: Path, code: str = PASSED) -> subprocess.CompletedProcess[str]:
    """Run a process that reaches a point."""
    environment = {VARIABLE: str(directory), "PYTHONPATH": ":".join(sys.path)}
    return subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False
    )


def test_an_action_is_performed_once(tmp_path: Path) -> None:
    arm(str(tmp_path), "journal.append", "kill")
    assert passed(tmp_path).returncode == -signal.SIGKILL
    assert not pending(str(tmp_path), "journal.append")
    assert passed(tmp_path).returncode == 0


def test_fail_raises_the_named_error(tmp_path: Path) -> None:
    arm(str(tmp_path), "journal.append", "fail ENOSPC")
    assert f"[Errno {errno.ENOSPC}]" in passed(tmp_path).stderr


def test_an_action_is_performed_after_some_passings(tmp_path: Path) -> None:
    arm(str(tmp_path), "journal.append", "kill 2")
    assert [passed(tmp_path).returncode for _ in range(4)] == [0, 0, -signal.SIGKILL, 0]
