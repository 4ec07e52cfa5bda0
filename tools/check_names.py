"""Fails if one name stands for two things, or a folder holds too many files.

``scripts/check`` calls this module. No two classes and no two modules in the source tree may have
the same name. So a reader who looks for a name finds one place.
"""

import ast
import sys
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

CHECKOUT = Path(__file__).parents[1]
TREES = ("src/scriptservice", "bench")
MOST_FILES = 12

UNCOUNTED = ("cli", "routes", "versions")
"""Folders with one file for each verb, route or migration. They may have any number of files."""

CLIENT = "src/scriptservice/client/"
"""The client's folder. Its classes are the nouns of the API, so they may have the same names as
classes of the service."""

BY_NOUN = ("server/routes", "store/queries")
"""Folders with one module for each noun, so two modules in different folders may have one name."""


def main() -> int:
    """Print each finding; return the exit code."""
    findings = [*_same_classes(), *_same_modules(), *_full_folders()]
    for finding in findings:
        print(finding, file=sys.stderr)
    return 1 if findings else 0


def _sources() -> Iterator[Path]:
    for tree in TREES:
        yield from sorted((CHECKOUT / tree).rglob("*.py"))


def _relative(path: Path) -> str:
    return str(path.relative_to(CHECKOUT))


def _same_classes() -> Iterator[str]:
    found: dict[str, list[str]] = defaultdict(list)
    for path in _sources():
        if _relative(path).startswith(CLIENT):
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ClassDef):
                found[node.name].append(f"{_relative(path)}:{node.lineno}")
    for name, places in found.items():
        if len(places) > 1:
            yield f"two classes have the name {name}: {', '.join(places)}"


def _same_modules() -> Iterator[str]:
    found: dict[str, list[str]] = defaultdict(list)
    for path in _sources():
        folder = _relative(path.parent)
        if not folder.startswith("src/"):
            continue
        if path.name.startswith("__") or path.parent.name == "versions":
            continue
        kind = "by noun" if folder.endswith(BY_NOUN) else folder
        if kind != "by noun" or path.stem not in found:
            found[path.stem].append(_relative(path))
    for name, places in found.items():
        if len(places) > 1:
            yield f"two modules have the name {name}: {', '.join(places)}"


def _full_folders() -> Iterator[str]:
    for folder in sorted((CHECKOUT / "src").rglob("*/")):
        count = len(list(folder.glob("*.py")))
        if count > MOST_FILES and folder.name not in UNCOUNTED:
            yield f"{_relative(folder)} holds {count} files, more than {MOST_FILES}"


if __name__ == "__main__":
    sys.exit(main())
