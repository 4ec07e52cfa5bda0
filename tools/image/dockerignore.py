"""Reads .dockerignore, which excludes files of the checkout from the build."""

import re
from collections.abc import Callable
from pathlib import Path


class DockerIgnore:
    """The rules of a .dockerignore.

    A rule that matches a directory matches everything in it. The last rule that matches decides.

    Args:
        file: path of the .dockerignore.

    Attributes:
        rules: the rules in order. Each has a bool: True if the rule excludes paths, False if it
            includes paths again.
    """

    def __init__(self, file: Path) -> None:
        lines = [line.strip() for line in file.read_text().splitlines()]
        lines = [line for line in lines if line and line[0] != "#"]
        self.rules = [(line.removeprefix("!"), line[0] != "!") for line in lines]
        self._patterns = [(_pattern(rule), excludes) for rule, excludes in self.rules]

    def __call__(self, path: str) -> bool:
        """Return whether a path, relative to the checkout, is excluded."""
        parts = path.split("/")
        prefixes = ["/".join(parts[: end + 1]) for end in range(len(parts))]
        excluded = False
        for pattern, excludes in self._patterns:
            if any(pattern.fullmatch(prefix) for prefix in prefixes):
                excluded = excludes
        return excluded

    def for_copytree(self, checkout: Path) -> Callable[[str, list[str]], set[str]]:
        """Return an ``ignore`` argument for ``shutil.copytree`` from the checkout."""

        def ignore(directory: str, names: list[str]) -> set[str]:
            parent = Path(directory).relative_to(checkout)
            return {name for name in names if self(str(parent / name))}

        return ignore


def _pattern(rule: str) -> re.Pattern[str]:
    """Return a rule as a regular expression.

    ``**/`` matches any number of directories, and ``*`` matches a part of a name.
    """
    words = {"**/": "(?:.*/)?", "**": ".*", "*": "[^/]*", "?": "[^/]"}
    parts = re.findall(r"\*\*/|\*\*|\*|\?|\[[^\]]+\]|.", rule)
    return re.compile(
        "".join(
            words.get(part, part if part[0] == "[" and len(part) > 1 else re.escape(part))
            for part in parts
        )
    )
