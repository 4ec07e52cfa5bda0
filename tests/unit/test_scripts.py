"""The scripts of the checkout say plainly what a machine lacks."""

import os
import subprocess
from pathlib import Path

import pytest

SCRIPTS = Path(__file__).parents[2] / "scripts"


def run_with_node(version: str | None, tmp_path: Path) -> "subprocess.CompletedProcess[str]":
    """Run ``scripts/node-version`` where node has a version, or where there is none."""
    programs = tmp_path / "bin"
    programs.mkdir()
    for name in ("bash", "env", "head", "sort", "tr"):
        (programs / name).symlink_to(f"/usr/bin/{name}")
    if version is not None:
        node = programs / "node"
        node.write_text(f"#!/usr/bin/env bash\necho {version}\n")
        node.chmod(0o755)
    return subprocess.run(
        [SCRIPTS / "node-version"],
        env={**os.environ, "PATH": str(programs)},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize("version", ["v20.19.0", "v20.20.2", "v22.1.0", "v100.0.0"])
def test_a_node_that_is_new_enough_is_taken(version: str, tmp_path: Path) -> None:
    done = run_with_node(version, tmp_path)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize(
    ("version", "said"),
    [
        ("v18.20.4", "node 18.20.4 is too old (20.19 or later is needed)"),
        ("v20.9.0", "node 20.9.0 is too old (20.19 or later is needed)"),
        (None, "node is not installed (20.19 or later is needed)"),
    ],
)
def test_an_older_one_is_told_in_one_line(version: str | None, said: str, tmp_path: Path) -> None:
    done = run_with_node(version, tmp_path)
    assert done.returncode == 1
    assert done.stderr == f"scriptservice: cannot build the web page: {said}\n"


def test_a_way_to_be_slow_that_there_is_not_is_refused() -> None:
    done = subprocess.run(
        [SCRIPTS / "slowly", "sometimes", "true"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    assert done.stderr.startswith("usage: scripts/slowly any|quota|busy")


@pytest.mark.parametrize("code", [0, 7])
def test_beside_busy_loops_a_command_ends_as_it_does_alone(code: int) -> None:
    words = [SCRIPTS / "slowly", "busy", "bash", "-c", f"echo ran; exit {code}"]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (code, "ran\n")
