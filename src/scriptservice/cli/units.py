"""Reads durations, sizes and times in options, and formats those that verbs print.

A duration is a number with a unit (``90s``, ``5m``, ``2h``, ``30d``), several of them (``1h30m``),
or a number of seconds. A size is a number with a unit of 1024 (``10M``, ``2G``), or a number of
bytes. The parsers accept what the formatters return.
"""

import re
from datetime import UTC, datetime, timedelta

import typer

NO_LIMIT = "none"
"""The word that stands for no limit."""

_SECONDS = {"d": 86_400, "h": 3_600, "m": 60, "s": 1}
_DURATION = re.compile(r"(?:\d+(?:\.\d*)?|\.\d+)[smhd]?(?:\d+(?:\.\d+)?[smhd])*", re.IGNORECASE)
_PART = re.compile(r"([\d.]+)([smhd]?)")
_SIZES = ("B", "KiB", "MiB", "GiB", "TiB")
_SIZE = re.compile(r"(\d+(?:\.\d+)?) ?([kmgt]?)(?:i?b)?", re.IGNORECASE)


def parse_duration(text: str) -> float:
    """Return the seconds that a duration stands for.

    Args:
        text: such as ``90``, ``90s``, ``5m``, ``2h``, ``30d`` or ``1h30m``.

    Raises:
        typer.BadParameter: the text is not a duration.
    """
    parts = _PART.findall(text.lower())
    if not _DURATION.fullmatch(text) or (len(parts) > 1 and not all(unit for _, unit in parts)):
        message = f"'{text}' is not a duration; write it as 90, 90s, 5m, 2h or 30d"
        raise typer.BadParameter(message)
    return sum(float(number) * _SECONDS[unit or "s"] for number, unit in parts)


def format_duration(seconds: float) -> str:
    """Return a duration as `parse_duration` takes it: ``0.25s``, ``14s``, ``1h5m``, ``2d3h``.

    A duration below a minute has at most three significant digits. A longer one is given in whole
    seconds.
    """
    short = round(float(f"{seconds:.3g}"), 3)
    if short < 60:
        return f"{short:g}s"
    rest, shown = round(seconds), ""
    for unit, length in _SECONDS.items():
        count, rest = divmod(rest, length)
        shown += f"{count}{unit}" if count else ""
    return shown


def parse_size(text: str) -> int:
    """Return the bytes that a size stands for.

    Args:
        text: such as ``4096``, ``512K``, ``10M``, ``1.5G`` or ``10 MiB``; K is 1024 bytes.

    Raises:
        typer.BadParameter: the text is not a size.
    """
    found = _SIZE.fullmatch(text)
    if found is None:
        message = f"'{text}' is not a size; write it as 4096, 512K, 10M or 2G"
        raise typer.BadParameter(message)
    number = float(found[1]) if "." in found[1] else int(found[1])
    return int(number * 1024 ** " kmgt".index(found[2].lower() or " "))


def parse_size_limit(text: str) -> int | None:
    """Return the bytes that a limit stands for; None for no limit.

    Args:
        text: a size, or ``none``.

    Raises:
        typer.BadParameter: the text is neither.
    """
    if text == NO_LIMIT:
        return None
    try:
        return parse_size(text)
    except typer.BadParameter as error:
        message = f"{error.message}, or none for no limit"
        raise typer.BadParameter(message) from error


def format_size(size: float) -> str:
    """Return a size in bytes for people: ``512 B``, ``1.5 KiB``, ``10 MiB``."""
    power = 0
    while round(size, 1) >= 1024 and power < len(_SIZES) - 1:
        size /= 1024
        power += 1
    return f"{round(size, 1):.12g} {_SIZES[power]}"


def parse_moment(text: str) -> str:
    """Return a moment in the form of RFC 3339, in UTC.

    Args:
        text: a date or time such as ``2026-11-23``, ``2026-11-23 16:20`` or
            ``2026-11-23T16:20:00Z``, or a duration, which means that long ago. A time without a
            zone is local time.

    Raises:
        typer.BadParameter: the text is neither.
    """
    try:
        moment = datetime.now(UTC) - timedelta(seconds=parse_duration(text))
    except (typer.BadParameter, OverflowError):
        try:
            moment = datetime.fromisoformat(text).astimezone(UTC)
        except (ValueError, OverflowError) as error:
            message = (
                f"'{text}' is not a time; write 2h for two hours ago, "
                "or a time such as 2026-11-23 or 2026-11-23T16:20:00Z"
            )
            raise typer.BadParameter(message) from error
    return moment.isoformat(timespec="microseconds").replace("+00:00", "Z")


def format_moment(moment: datetime) -> str:
    """Return a moment in local time, for tables: ``2026-11-23 16:20:00``."""
    return moment.astimezone().strftime("%Y-%m-%d %H:%M:%S")
