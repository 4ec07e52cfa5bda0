"""A start that fails, at whatever line, leaves no process, descriptor or directory."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from support import spawn_exceptions
from support.needs import require


@pytest.mark.parametrize("method", ["launcher", "fork"])
def test_an_exception_at_any_line_leaves_nothing(method: str, directory: Path) -> None:
    require("root")
    (directory / "data").mkdir()
    directory.chmod(0o711)
    (directory / "data").chmod(0o711)
    words = [sys.executable, spawn_exceptions.__file__, method, str(directory)]
    environment = {**os.environ, "PYTHONPATH": str(Path(spawn_exceptions.__file__).parents[1])}
    done = subprocess.run(words, capture_output=True, text=True, check=False, env=environment)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["left"] == []
    assert found["starts"] > 500
