"""The wheel: it has the page where one can be built, is whole without, and needs little."""

import importlib.metadata
import shutil
import subprocess
import sys
import sysconfig
import zipfile
from collections.abc import Iterator
from email.parser import HeaderParser
from pathlib import Path

import httpx2 as httpx
import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from support.service import PATIENCE_SECONDS, Service, new_directory

ROOT = Path(__file__).parents[2]
BUILD_PAGE = """#!/usr/bin/env bash
set -euo pipefail
cd "$(dirname "$0")/.."
npm build
mkdir -p src/scriptservice/ui/assets
echo built >src/scriptservice/ui/index.html
echo reference >src/scriptservice/ui/docs.html
echo "let a" >src/scriptservice/ui/assets/a-1.js
echo stamp >src/scriptservice/ui/.made-from
"""

PAGE = {f"scriptservice/ui/{name}" for name in ("index.html", "docs.html", "assets/a-1.js")}


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
    assert page == PAGE


def test_so_has_one_that_is_built_where_gits_rules_are_not(checkout: Path, tmp_path: Path) -> None:
    (checkout / ".gitignore").unlink()  # as in the image
    page, _ = build(checkout, tmp_path, "exit 0")
    assert page == PAGE


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


# What it needs

HEAVY = {
    "alembic", "psycopg", "pydantic", "pydantic-core", "sqlalchemy",
    "starlette", "uvicorn", "uvloop",
}  # fmt: skip


def wheel_of(tmp_path: Path) -> Path:
    (wheel,) = (tmp_path / "dist").glob("*.whl")
    return wheel


def requirements(wheel: Path) -> list[Requirement]:
    with zipfile.ZipFile(wheel) as archive:
        (name,) = [each for each in archive.namelist() if each.endswith(".dist-info/METADATA")]
        metadata = HeaderParser().parsestr(archive.read(name).decode())
    return [Requirement(each) for each in metadata.get_all("Requires-Dist", [])]


def needed(asked: list[Requirement], extras: set[str]) -> set[str]:
    """Return the names of all packages that requirements bring, with those that these need."""
    found: dict[str, set[str]] = {}
    waiting = [(each, extras) for each in asked]
    while waiting:
        requirement, extras = waiting.pop()
        marker = requirement.marker
        if marker and not any(marker.evaluate({"extra": extra}) for extra in {"", *extras}):
            continue
        name = canonicalize_name(requirement.name)
        if name in found and requirement.extras <= found[name]:
            continue
        found.setdefault(name, set()).update(requirement.extras)
        installed = importlib.metadata.distribution(name)
        version = importlib.metadata.version(name)
        assert requirement.specifier.contains(version, prereleases=True), requirement
        more = [Requirement(each) for each in installed.requires or []]
        waiting += [(each, found[name]) for each in more]
    return set(found)


def test_the_client_needs_few_packages(checkout: Path, tmp_path: Path) -> None:
    build(checkout, tmp_path, None)
    asked = requirements(wheel_of(tmp_path))
    client = needed(asked, set())
    assert {"httpx2", "typer", "rich"} <= client
    assert len(client) < 15, sorted(client)
    assert not client & HEAVY
    assert needed(asked, {"server", "postgresql"}) >= HEAVY
    assert "psycopg" not in needed(asked, {"server"})


def test_the_lock_has_the_service_with_postgresql(checkout: Path, tmp_path: Path) -> None:
    build(checkout, tmp_path, None)
    lock = (ROOT / "requirements.lock").read_text()
    locked = {line.partition("==")[0] for line in lock.splitlines() if line[:1].isalpha()}
    assert needed(requirements(wheel_of(tmp_path)), {"server", "postgresql"}) <= locked
    assert "://" not in lock


# Installed


@pytest.fixture
def installed(checkout: Path, tmp_path: Path) -> Iterator[Path]:
    """An environment outside the checkout, where the wheel is installed."""
    page, _ = build(checkout, tmp_path, "exit 0")
    assert page
    directory = new_directory()
    environment = directory / "environment"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", environment], check=True)
    python = environment / "bin" / "python"
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--python", python]
    words = ["install", "--quiet", "--root-user-action=ignore", "--no-deps", "--no-index"]
    subprocess.run([*pip, *words, wheel_of(tmp_path)], check=True)
    version = f"python{sys.version_info[0]}.{sys.version_info[1]}"
    site = environment / "lib" / version / "site-packages"
    # What it needs: from the environment of the tests, in which the package itself is not a copy.
    (site / "needed.pth").write_text(sysconfig.get_path("purelib") + "\n")
    yield environment
    shutil.rmtree(directory)


def test_an_installed_wheel_serves_the_page(installed: Path) -> None:
    where = subprocess.run(
        [installed / "bin" / "python", "-c", "import scriptservice; print(scriptservice.__file__)"],
        check=True,
        capture_output=True,
        text=True,
        cwd=installed,
    )
    assert where.stdout.startswith(f"{installed}/lib/")
    program = subprocess.run(
        [installed / "bin" / "scriptservice", "version"],
        check=True,
        capture_output=True,
        text=True,
        timeout=PATIENCE_SECONDS,
    )
    assert program.stdout == f"{importlib.metadata.version('scriptservice')}\n"
    service = Service(python=str(installed / "bin" / "python")).start()
    try:
        page = httpx.get(f"{service.url}/")
        assert (page.status_code, page.text) == (200, "built\n")
        assert page.headers["content-type"].startswith("text/html")
        assert httpx.get(f"{service.url}/docs").text == "reference\n"
        assert service.run("echo ran")["status"] == "succeeded"
        assert service.stop() == 0
    finally:
        service.close()
