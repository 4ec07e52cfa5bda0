"""Reads the parts of docker-compose.yml that the check and the tests need."""

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
        name: name of the service; other services reach it by this name.
        fields: the service's fields as they are in the file.
    """

    name: str
    fields: dict[str, Any]

    def words(self, field: str) -> list[str]:
        """Return a field that is a list of words. ``$$`` in the file becomes one dollar sign."""
        return [word.replace("$$", "$") for word in self.fields.get(field, [])]

    @property
    def environment(self) -> dict[str, str]:
        """The service's environment if no variable to which the file refers is set."""
        found = self.fields.get("environment", {})
        return {name: re.sub(r"\$\{\w+:-\}", "", value) for name, value in found.items()}

    @property
    def volumes(self) -> dict[str, tuple[str, bool]]:
        """The service's volumes, by name: the mount point, and whether the mount is read-only."""
        found = {}
        for text in self.fields["volumes"]:
            name, path, *options = text.split(":")
            found[name] = (path, "ro" in options)
        return found

    def seconds(self, field: str) -> float:
        """Return a field that is a duration such as ``1m30s``, in seconds."""
        text = self.fields[field]
        parts = re.findall(r"(\d+)(ms|s|m|h)", text)
        assert "".join(map("".join, parts)) == text, text
        return sum(int(number) * _UNITS[unit] for number, unit in parts)


def read_compose(path: Path) -> dict[str, ComposeService]:
    """Return the services by name."""
    whole = yaml.safe_load(path.read_text())
    return {name: ComposeService(name, fields) for name, fields in whole["services"].items()}
