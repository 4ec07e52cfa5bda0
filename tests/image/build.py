"""Carries out the stages of the Dockerfile, each in a root of its own."""

import os
import shlex
import shutil
import subprocess
import time
from collections.abc import Mapping
from pathlib import Path

from image.dockerfile import Instruction, Stage
from image.roots import Root

NOTHING_TO_DO = {"CMD", "ENTRYPOINT", "EXPOSE", "HEALTHCHECK", "LABEL", "VOLUME"}


def build(
    stages: list[Stage], context: Path, base: list[Path], work: Path, pip: Mapping[str, str]
) -> tuple[Root, list[Path]]:
    """Build the last stage.

    Args:
        stages: of the Dockerfile.
        context: the checkout.
        base: layers that stand for every image that is not a stage, the topmost first.
        work: for the layers.
        pip: environment for RUN, so that this machine's packages are found; in no layer.

    Returns:
        The image's root and its layers, the topmost first.
    """
    built: dict[str, tuple[Root, list[Path]]] = {}
    for number, stage in enumerate(stages):
        below = built[stage.base][1] if stage.base in built else base
        root = Root(work / f"stage-{number}", below)
        root.environment |= built[stage.base][0].environment if stage.base in built else {}
        root.use_network()
        for instruction in stage.instructions:
            started = time.monotonic()
            _carry_out(instruction, root, context, {n: r for n, (r, _) in built.items()}, pip)
            seconds = time.monotonic() - started
            print(f"  {seconds:5.1f} s  {instruction.name} {instruction.text[:80]}", flush=True)
        built[stage.name or str(number)] = (root, [root.layer, *below])
    return list(built.values())[-1]


def _carry_out(
    instruction: Instruction,
    root: Root,
    context: Path,
    stages: Mapping[str, Root],
    pip: Mapping[str, str],
) -> None:
    match instruction.name:
        case "RUN":
            # Only what fetches knows this machine's places: the rest takes what was fetched.
            fetches = "pip download" in instruction.text
            for place in _local_places(pip) if fetches else ():
                root.bind(place, str(place), read_only=True)
            root.run("/bin/sh", "-c", instruction.text, environment=pip if fetches else None)
        case "COPY":
            _copy(instruction, root, context, stages)
        case "ENV":
            root.environment |= instruction.pairs
        case "WORKDIR":
            root.directory = os.path.join(root.directory, instruction.text)
            root.inside(root.directory).mkdir(parents=True, exist_ok=True)
        case name:
            if name not in NOTHING_TO_DO:
                raise ValueError(f"cannot carry out {name}: nobody has taught this")


def _local_places(pip: Mapping[str, str]) -> list[Path]:
    """Return what pip's settings name on this machine, packages and certificates."""
    found: set[Path] = set()
    for word in (word for value in pip.values() for word in value.split()):
        if word.startswith("file:///"):
            # The pages of an index lead to files beside it.
            found.add(Path(word.removeprefix("file://")).parent)
        elif word.startswith("/"):
            found.add(Path(word))
    return [place for place in sorted(found) if place.exists() and place != Path("/")]


def _copy(instruction: Instruction, root: Root, context: Path, stages: Mapping[str, Root]) -> None:
    *sources, target = instruction.words
    stage = instruction.flags.get("from")
    into = root.inside(os.path.join(root.directory, target))
    for source in sources:
        found = stages[stage].inside(source) if stage else context / source
        if found.is_dir():
            ignored = None if stage else shutil.ignore_patterns("__pycache__", "*.py[co]")
            shutil.copytree(found, into, symlinks=True, dirs_exist_ok=True, ignore=ignored)
        elif target.endswith(("/", ".")):
            into.mkdir(parents=True, exist_ok=True)
            shutil.copy2(found, into)
        else:
            shutil.copy2(found, into)


def pip_settings() -> dict[str, str]:
    """Return this machine's settings for pip as environment variables."""
    words = ["python3", "-m", "pip", "config", "list"]
    lines = subprocess.run(words, capture_output=True, text=True, check=True).stdout.splitlines()
    found = {}
    for line in lines:
        name, _, value = line.partition("=")
        key = name.split(".")[-1].replace("-", "_").upper()
        found[f"PIP_{key}"] = " ".join(shlex.split(value)[0].split())
    return found
