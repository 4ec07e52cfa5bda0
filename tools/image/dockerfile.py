"""Reads a Dockerfile: its stages and their instructions.

The module knows only the instructions that this project's Dockerfile uses, and refuses all others.
If it skipped an unknown instruction, the check would test another image than the Dockerfile builds.
"""

import json
import re
import shlex
from dataclasses import dataclass, field
from pathlib import Path

KNOWN = frozenset({
    "ARG", "CMD", "COPY", "ENTRYPOINT", "ENV", "EXPOSE", "FROM", "HEALTHCHECK", "LABEL", "RUN",
    "USER", "VOLUME", "WORKDIR",
})  # fmt: skip


@dataclass(frozen=True)
class Instruction:
    """One instruction.

    Attributes:
        name: name of the instruction, in capitals.
        flags: values of the flags (``--name=value``), by the flag's name.
        text: the arguments, joined to one line.
    """

    name: str
    flags: dict[str, str]
    text: str

    @property
    def words(self) -> list[str]:
        """The arguments of an exec form, or of a plain list of words."""
        return json.loads(self.text) if self.is_exec_form else shlex.split(self.text)

    @property
    def is_exec_form(self) -> bool:
        return self.text.startswith("[")

    @property
    def pairs(self) -> dict[str, str]:
        """The names and values of ENV, LABEL and ARG."""
        return {name: value for name, _, value in (word.partition("=") for word in self.words)}


@dataclass
class Stage:
    """One stage: the instructions from one FROM to the next.

    Attributes:
        base: the base image, or the name of an earlier stage.
        name: the name after AS, or empty.
        instructions: the instructions in order, without FROM.
    """

    base: str
    name: str
    instructions: list[Instruction] = field(default_factory=list)

    def all(self, name: str) -> list[Instruction]:
        return [each for each in self.instructions if each.name == name]

    def last(self, name: str) -> Instruction:
        return self.all(name)[-1]

    @property
    def environment(self) -> dict[str, str]:
        return {name: value for each in self.all("ENV") for name, value in each.pairs.items()}


def parse(path: Path) -> list[Stage]:
    """Return the stages of a Dockerfile.

    Raises:
        ValueError: the Dockerfile contains an unknown instruction.
    """
    stages: list[Stage] = []
    for name, rest in _logical_lines(path.read_text()):
        if name not in KNOWN:
            raise ValueError(f"cannot read {path}: unknown instruction {name}")
        flags = {}
        text = rest
        while match := re.match(r"--([a-z-]+)=(\S+)\s+", text):
            flags[match[1]] = match[2]
            text = text[match.end() :]
        if name == "FROM":
            image, _, stage = re.fullmatch(r"(\S+)( AS (\S+))?", text).groups()  # type: ignore[union-attr]
            stages.append(Stage(image, stage or ""))
        else:
            stages[-1].instructions.append(Instruction(name, flags, text))
    return stages


def _logical_lines(text: str) -> list[tuple[str, str]]:
    lines = [line for line in text.splitlines() if not line.lstrip().startswith("#")]
    joined = re.sub(r"\\\n\s*", "", "\n".join(lines))
    found = []
    for line in joined.splitlines():
        if line.strip():
            name, _, rest = line.strip().partition(" ")
            found.append((name, rest.strip()))
    return found
