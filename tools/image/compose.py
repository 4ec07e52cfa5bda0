"""Reads docker-compose.yml as far as a check needs it."""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

_UNITS = {"ms": 0.001, "s": 1, "m": 60, "h": 3600}


@dataclass(frozen=True)
class ComposeService:
    """One service.

    Attributes:
        name: its name, which others reach it by.
        fields: as the file has them.
    """

    name: str
    fields: dict[str, Any]

    def words(self, field: str) -> list[str]:
        """Return a list of words, with the dollar signs as the program gets them."""
        return [word.replace("$$", "$") for word in self.fields.get(field, [])]

    @property
    def environment(self) -> dict[str, str]:
        """Its environment where the caller's has nothing to put in."""
        found = self.fields.get("environment", {})
        return {name: re.sub(r"\$\{\w+:-\}", "", value) for name, value in found.items()}

    @property
    def volumes(self) -> dict[str, tuple[str, bool]]:
        """By name of the volume: where it is mounted, and whether only for reading."""
        found = {}
        for text in self.fields["volumes"]:
            name, path, *options = text.split(":")
            found[name] = (path, "ro" in options)
        return found

    def seconds(self, field: str) -> float:
        """Return a duration."""
        text = self.fields[field]
        parts = re.findall(r"(\d+)(ms|s|m|h)", text)
        assert "".join(map("".join, parts)) == text, text
        return sum(int(number) * _UNITS[unit] for number, unit in parts)


def read_compose(path: Path) -> dict[str, ComposeService]:
    """Return the services by name."""
    whole = yaml.safe_load(path.read_text())
    return {name: ComposeService(name, fields) for name, fields in whole["services"].items()}
