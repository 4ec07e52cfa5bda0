"""The wheel: it has the page where one can be built, and is whole without."""

import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
BUILD_PAGE = """#!/usr/bin/env bash
set -euo pipefail
cd "$(dirname "$0")/.."
npm build
mkdir -p src/scriptservice/ui/assets
echo built >src/scriptservice/ui/index.html
echo "let a" >src/scriptservice/ui/assets/a-1.js
echo stamp >src/scriptservice/ui/.made-from
"""


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A copy of the sources, without a page; its build of one is quick."""
    copy = tmp_path / "checkout"
    shutil.copytree(ROOT / "src", copy / "src", ignore=shutil.ignore_patterns("ui", "__pycache__"))
    for name in ("pyproject.toml", "hatch_build.py", "README.md", "LICENSE", ".gitignore"):
        shutil.copy(ROOT / name, copy / name)
    (copy / "web" / "node_modules").mkdir(parents=True)
    (copy / "scripts").mkdir()
    (copy / "scripts" / "build-page").write_text(BUILD_PAGE)
    return copy


def build(checkout: Path, tmp_path: Path, npm: str | None) -> tuple[set[str], str]:
    """Build a wheel; return the names in it that are the page's, and what was said."""
    programs = tmp_path / "bin"
    programs.mkdir()
    for name in ("bash", "dirname", "mkdir"):
        found = shutil.which(name)
        assert found is not None
        (programs / name).symlink_to(found)
    if npm is not None:
        (programs / "npm").write_text(f"#!{programs}/bash\n{npm}\n")
        (programs / "npm").chmod(0o755)
    done = subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", tmp_path / "dist"],
        cwd=checkout,
        env={"PATH": str(programs)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    (wheel,) = (tmp_path / "dist").glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
    assert "scriptservice/server/page/page_files.py" in names
    assert not [name for name in names if "node_modules" in name or "made-from" in name]
    return {name for name in names if "/ui/" in name}, done.stdout + done.stderr


def test_a_wheel_has_the_page(checkout: Path, tmp_path: Path) -> None:
    page, _ = build(checkout, tmp_path, "exit 0")
    assert page == {"scriptservice/ui/index.html", "scriptservice/ui/assets/a-1.js"}


def test_so_has_one_that_is_built_where_gits_rules_are_not(checkout: Path, tmp_path: Path) -> None:
    (checkout / ".gitignore").unlink()  # as in the image
    page, _ = build(checkout, tmp_path, "exit 0")
    assert page == {"scriptservice/ui/index.html", "scriptservice/ui/assets/a-1.js"}


def test_without_npm_it_says_that_there_is_none(checkout: Path, tmp_path: Path) -> None:
    page, said = build(checkout, tmp_path, None)
    assert page == set()
    assert "without the web page: there is no npm" in said


def test_a_build_that_fails_stops_no_wheel(checkout: Path, tmp_path: Path) -> None:
    page, said = build(checkout, tmp_path, "exit 1")
    assert page == set()
    assert "without the web page: scripts/build-page failed" in said


def test_an_older_page_is_better_than_none(checkout: Path, tmp_path: Path) -> None:
    (checkout / "src/scriptservice/ui").mkdir()
    (checkout / "src/scriptservice/ui/index.html").write_text("older")
    page, said = build(checkout, tmp_path, None)
    assert page == {"scriptservice/ui/index.html"}
    assert "may not be the newest: there is no npm" in said


def test_an_editable_install_builds_no_page(checkout: Path, tmp_path: Path) -> None:
    (checkout / "scripts" / "build-page").write_text("#!/bin/sh\ntouch built\n")
    subprocess.run(
        [sys.executable, "-c", "import hatchling.build as b; b.build_editable('.')"],
        cwd=checkout,
        check=True,
        capture_output=True,
    )
    assert not (checkout / "built").exists()
