"""Fixtures of the keeper's suites."""

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.service import new_directory


@pytest.fixture
def directory() -> Iterator[Path]:
    """A directory that every user may pass through."""
    made = new_directory()
    yield made
    subprocess.run(["rm", "-rf", made], check=True)
