"""Carries out the stages of the Dockerfile, each in a root of its own."""

import os
import shutil
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from tools.image.dockerfile import Instruction, Stage
from tools.image.ignored import Ignored
from tools.image.places import Settings, local_places
from tools.image.roots import Root

NOTHING_TO_DO = {"CMD", "ENTRYPOINT", "EXPOSE", "HEALTHCHECK", "LABEL", "VOLUME"}


@dataclass(frozen=True)
class Given:
    """What the stages are built from.

    Attributes:
        context: the checkout.
        bases: by name without version, the layers that stand for each image that is not a stage,
            the topmost first.
        settings: this machine's, by the words of a RUN that fetches; in no layer.
    """

    context: Path
    bases: Mapping[str, list[Path]]
    settings: Mapping[str, Settings]


def build(stages: list[Stage], given: Given, work: Path) -> tuple[Root, list[Path]]:
    """Build the last stage.

    Args:
        stages: of the Dockerfile.
        given: what they are built from.
        work: for the layers.

    Returns:
        The image's root and its layers, the topmost first.
    """
    built: dict[str, tuple[Root, list[Path]]] = {}
    for number, stage in enumerate(stages):
        print(f"  {stage.name or 'the image'}, from {stage.base}", flush=True)
        is_stage = stage.base in built
        below = built[stage.base][1] if is_stage else given.bases[stage.base.partition(":")[0]]
        root = Root(work / f"stage-{number}", below)
        root.environment |= built[stage.base][0].environment if is_stage else {}
        root.use_network()
        for instruction in stage.instructions:
            started = time.monotonic()
            _carry_out(instruction, root, given, {n: r for n, (r, _) in built.items()})
            seconds = time.monotonic() - started
            print(f"  {seconds:5.1f} s  {instruction.name} {instruction.text[:80]}", flush=True)
        built[stage.name or str(number)] = (root, [root.layer, *below])
    return list(built.values())[-1]


def _carry_out(
    instruction: Instruction, root: Root, given: Given, stages: Mapping[str, Root]
) -> None:
    match instruction.name:
        case "RUN":
            _run(instruction, root, given)
        case "COPY":
            _copy(instruction, root, given.context, stages)
        case "ENV":
            root.environment |= instruction.pairs
        case "WORKDIR":
            root.directory = os.path.join(root.directory, instruction.text)
            root.inside(root.directory).mkdir(parents=True, exist_ok=True)
        case name:
            if name not in NOTHING_TO_DO:
                raise ValueError(f"cannot carry out {name}: nobody has taught this")


def _run(instruction: Instruction, root: Root, given: Given) -> None:
    # Only what fetches knows this machine's places: the rest takes what was fetched.
    settings: dict[str, str] = {}
    for words, more in given.settings.items():
        settings |= more if words in instruction.text else {}
    for place in local_places(settings):
        root.bind(place, str(place), read_only=True)
    root.run("/bin/sh", "-c", instruction.text, environment=settings)


def _copy(instruction: Instruction, root: Root, context: Path, stages: Mapping[str, Root]) -> None:
    *sources, target = instruction.words
    stage = instruction.flags.get("from")
    into = root.inside(os.path.join(root.directory, target))
    ignored = Ignored(context / ".dockerignore")
    for source in sources:
        found = stages[stage].inside(source) if stage else context / source
        if not stage and ignored(source):
            raise ValueError(f"cannot copy {source}: .dockerignore leaves it out")
        if found.is_dir():
            left_out = None if stage else ignored.among(context)
            shutil.copytree(found, into, symlinks=True, dirs_exist_ok=True, ignore=left_out)
        elif target.endswith(("/", ".")):
            into.mkdir(parents=True, exist_ok=True)
            shutil.copy2(found, into)
        else:
            shutil.copy2(found, into)
