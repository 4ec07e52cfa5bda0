"""Executes the stages of the Dockerfile, each in a root directory of its own."""

import os
import shutil
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from tools.image.dockerfile import Instruction, Stage
from tools.image.dockerignore import DockerIgnore
from tools.image.package_settings import Settings, local_paths
from tools.image.roots import Root

WITHOUT_EFFECT = {"CMD", "ENTRYPOINT", "EXPOSE", "HEALTHCHECK", "LABEL", "VOLUME"}


@dataclass(frozen=True)
class BuildInputs:
    """What the stages are built from.

    Attributes:
        context: the checkout.
        bases: the layers that are used in place of each base image, the topmost first. The key is
            the image's name without its tag.
        settings: this machine's settings for RUN instructions that fetch packages. A RUN that
            contains the key gets the settings. No layer contains them.
    """

    context: Path
    bases: Mapping[str, list[Path]]
    settings: Mapping[str, Settings]


def build(stages: list[Stage], inputs: BuildInputs, work: Path) -> tuple[Root, list[Path]]:
    """Build all stages.

    Args:
        stages: the stages of the Dockerfile.
        inputs: what the stages are built from.
        work: a directory for the layers.

    Returns:
        The image's root and its layers, the topmost first.
    """
    built: dict[str, tuple[Root, list[Path]]] = {}
    for number, stage in enumerate(stages):
        print(f"  {stage.name or 'the image'}, from {stage.base}", flush=True)
        is_stage = stage.base in built
        below = built[stage.base][1] if is_stage else inputs.bases[stage.base.partition(":")[0]]
        root = Root(work / f"stage-{number}", below)
        root.environment |= built[stage.base][0].environment if is_stage else {}
        root.use_network()
        for instruction in stage.instructions:
            started = time.monotonic()
            _execute(instruction, root, inputs, {n: r for n, (r, _) in built.items()})
            seconds = time.monotonic() - started
            print(f"  {seconds:5.1f} s  {instruction.name} {instruction.text[:80]}", flush=True)
        built[stage.name or str(number)] = (root, [root.layer, *below])
    return list(built.values())[-1]


def _execute(
    instruction: Instruction, root: Root, inputs: BuildInputs, stages: Mapping[str, Root]
) -> None:
    match instruction.name:
        case "RUN":
            _run(instruction, root, inputs)
        case "COPY":
            _copy(instruction, root, inputs.context, stages)
        case "ENV":
            root.environment |= instruction.pairs
        case "WORKDIR":
            root.directory = os.path.join(root.directory, instruction.text)
            root.inside(root.directory).mkdir(parents=True, exist_ok=True)
        case name:
            if name not in WITHOUT_EFFECT:
                raise ValueError(f"cannot execute {name}: this check does not support it")


def _run(instruction: Instruction, root: Root, inputs: BuildInputs) -> None:
    # Only a RUN that fetches packages gets this machine's settings.
    settings: dict[str, str] = {}
    for words, more in inputs.settings.items():
        settings |= more if words in instruction.text else {}
    for path in local_paths(settings):
        root.bind(path, str(path), read_only=True)
    root.run("/bin/sh", "-c", instruction.text, environment=settings)


def _copy(instruction: Instruction, root: Root, context: Path, stages: Mapping[str, Root]) -> None:
    *sources, target = instruction.words
    stage = instruction.flags.get("from")
    into = root.inside(os.path.join(root.directory, target))
    ignored = DockerIgnore(context / ".dockerignore")
    for source in sources:
        found = stages[stage].inside(source) if stage else context / source
        if not stage and ignored(source):
            raise ValueError(f"cannot copy {source}: .dockerignore excludes it")
        if found.is_dir():
            ignore = None if stage else ignored.for_copytree(context)
            shutil.copytree(found, into, symlinks=True, dirs_exist_ok=True, ignore=ignore)
        elif target.endswith(("/", ".")):
            into.mkdir(parents=True, exist_ok=True)
            shutil.copy2(found, into)
        else:
            shutil.copy2(found, into)
