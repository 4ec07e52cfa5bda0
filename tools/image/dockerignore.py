"""Reads .dockerignore: which files of the checkout the build does not get to see."""

import re
from collections.abc import Callable
from pathlib import Path


class Ignored:
    """The rules of a .dockerignore.

    A rule that holds for a directory holds for what is in it, and the last rule that holds decides.

    Args:
        file: the .dockerignore.

    Attributes:
        rules: in order, each with whether it leaves out; the others let through again.
    """

    def __init__(self, file: Path) -> None:
        lines = [line.strip() for line in file.read_text().splitlines()]
        lines = [line for line in lines if line and line[0] != "#"]
        self.rules = [(line.removeprefix("!"), line[0] != "!") for line in lines]
        self._patterns = [(_pattern(rule), leaves_out) for rule, leaves_out in self.rules]

    def __call__(self, path: str) -> bool:
        """Return whether a path, from the checkout, is left out."""
        parts = path.split("/")
        ways = ["/".join(parts[: end + 1]) for end in range(len(parts))]
        found = False
        for pattern, leaves_out in self._patterns:
            if any(pattern.fullmatch(way) for way in ways):
                found = leaves_out
        return found

    def among(self, checkout: Path) -> Callable[[str, list[str]], set[str]]:
        """Return what tells ``shutil.copytree`` which names of a directory are left out."""

        def left_out(directory: str, names: list[str]) -> set[str]:
            here = Path(directory).relative_to(checkout)
            return {name for name in names if self(str(here / name))}

        return left_out


def _pattern(rule: str) -> re.Pattern[str]:
    """Return a rule as a regular expression: ``**/`` is any directories, ``*`` part of a name."""
    words = {"**/": "(?:.*/)?", "**": ".*", "*": "[^/]*", "?": "[^/]"}
    parts = re.findall(r"\*\*/|\*\*|\*|\?|\[[^\]]+\]|.", rule)
    return re.compile(
        "".join(
            words.get(part, part if part[0] == "[" and len(part) > 1 else re.escape(part))
            for part in parts
        )
    )
