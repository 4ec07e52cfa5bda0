"""``scriptservice show``: prints all fields of one command."""

import json
import shlex
from collections.abc import Iterator
from datetime import datetime
from typing import Any

from scriptservice.cli.command_ids import full_id
from scriptservice.cli.options import AsJson, CommandId, Url, connect, print_json
from scriptservice.cli.terminal import printable
from scriptservice.cli.units import format_duration, format_size

_SHOWN_IF_NOT_ZERO = {"stdin_bytes", "leftovers_killed", "discarded_bytes", "priority"}


def show(command: CommandId, as_json: AsJson = False, url: Url = None) -> None:
    """Show all fields of a command, and its script.

    Times are local. Fields without a value are left out; --json has them all.
    """
    with connect(url) as client:
        found = client.get(full_id(client, command))
    if as_json:
        print_json(found.raw)
        return
    for name, text in _rows(found.raw):
        print(f"{name:<18} {printable(text)}")
    print("script")
    for line in (found.script or "").splitlines():
        print(f"    {printable(line)}")


def _rows(members: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield the title and the text of each field that has a value."""
    for name, value in members.items():
        if name in ("labels", "env"):
            for number, (key, text) in enumerate(value.items()):
                yield "" if number else name, f"{key}={text}"
        elif name == "output":
            yield name, _parts(value, "bytes")
        elif name == "concurrency":
            if value is not None:
                yield name, _parts(value)
        elif name == "limits" and value:
            yield name, _parts(value)
        elif name == "usage":
            if any(each is not None for each in value.values()):
                yield name, _parts(value)
        elif name != "script" and _has_value(name, value):
            yield _title(name), _text(name, value)


def _parts(members: dict[str, Any], whole: str | None = None) -> str:
    """Return several values as one text: ``12 B (stdout 8 B, stderr 4 B)``."""
    parts = [
        f"{_title(name)} {_text(name, value)}"
        for name, value in members.items()
        if name != whole and _has_value(name, value)
    ]
    if whole is None:
        return ", ".join(parts)
    text = _text(whole, members[whole])
    return f"{text} ({', '.join(parts)})" if members[whole] and parts else text


def _has_value(name: str, value: object) -> bool:
    return value not in (None, {}, [], "") and not (name in _SHOWN_IF_NOT_ZERO and not value)


def _title(name: str) -> str:
    """Return a field's name without its unit: ``grace_seconds`` becomes ``grace``."""
    for unit in ("_seconds", "_bytes", "_at"):
        name = name.removesuffix(unit)
    return name.replace("_", " ")


def _text(name: str, value: Any) -> str:
    """Return a field's value as text for people. The last part of the field's name is the unit."""
    if isinstance(value, int | float) and not isinstance(value, bool):
        if name.endswith("_seconds"):
            return format_duration(value)
        if name == "bytes" or name.endswith("_bytes"):
            return format_size(value)
    if isinstance(value, str):
        return _local_time(value) if name.endswith("_at") else value
    if isinstance(value, list) and all(isinstance(each, str) for each in value):
        return shlex.join(value)
    return json.dumps(value, ensure_ascii=False)


def _local_time(text: str) -> str:
    return datetime.fromisoformat(text).astimezone().strftime("%Y-%m-%d %H:%M:%S %Z")
