"""Reads docker-compose.yml, as far as the check and the tests need it."""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

_UNITS = {"ms": 0.001, "s": 1, "m": 60, "h": 3600}


@dataclass(frozen=True)
class ComposeService:
    """One service of the file.

    Attributes:
        name: its name, by which other services reach it.
        fields: its fields as in the file.
    """

    name: str
    fields: dict[str, Any]

    def words(self, field: str) -> list[str]:
        """Return a list of words; ``$$`` in the file is one dollar sign for the program."""
        return [word.replace("$$", "$") for word in self.fields.get(field, [])]

    @property
    def environment(self) -> dict[str, str]:
        """Its environment, if none of the variables that the file refers to is set."""
        found = self.fields.get("environment", {})
        return {name: re.sub(r"\$\{\w+:-\}", "", value) for name, value in found.items()}

    @property
    def volumes(self) -> dict[str, tuple[str, bool]]:
        """Its volumes by name: the mount point, and whether it is read-only."""
        found = {}
        for text in self.fields["volumes"]:
            name, path, *options = text.split(":")
            found[name] = (path, "ro" in options)
        return found

    def seconds(self, field: str) -> float:
        """Return a duration such as ``1m30s`` in seconds."""
        text = self.fields[field]
        parts = re.findall(r"(\d+)(ms|s|m|h)", text)
        assert "".join(map("".join, parts)) == text, text
        return sum(int(number) * _UNITS[unit] for number, unit in parts)


def read_compose(path: Path) -> dict[str, ComposeService]:
    """Return the services by name."""
    whole = yaml.safe_load(path.read_text())
    return {name: ComposeService(name, fields) for name, fields in whole["services"].items()}
