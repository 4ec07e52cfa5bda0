"""Durations, sizes and times as the command line reads and prints them."""

from datetime import UTC, datetime, timedelta

import pytest
import typer

from scriptservice.cli.units import (
    format_duration,
    format_size,
    parse_duration,
    parse_moment,
    parse_size,
    parse_size_limit,
)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("90", 90), ("90s", 90), ("5m", 300), ("2h", 7200), ("30d", 2_592_000), ("0", 0),
        ("0.25", 0.25), ("1.5h", 5400), ("1h30m", 5400), ("2D3H4M5S", 183_845),
    ],
)  # fmt: skip
def test_durations_are_read(text: str, seconds: float) -> None:
    assert parse_duration(text) == seconds


@pytest.mark.parametrize("text", ["", "x", "5x", "m", "-1", "1h30", "5 m", "1.2.3", "inf", "nan"])
def test_what_is_no_duration_is_refused(text: str) -> None:
    with pytest.raises(typer.BadParameter, match="is not a duration; write it as 90, 90s, 5m"):
        parse_duration(text)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0s"), (0.0042, "0.004s"), (0.25, "0.25s"), (2.25, "2.25s"), (14, "14s"),
        (12.345, "12.3s"), (59.96, "1m"), (90, "1m30s"), (3600, "1h"), (3905.4, "1h5m5s"),
        (183_845, "2d3h4m5s"),
    ],
)  # fmt: skip
def test_durations_are_printed_as_they_are_read(seconds: float, text: str) -> None:
    assert format_duration(seconds) == text
    assert parse_duration(text) == pytest.approx(seconds, abs=0.5)


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("0", 0), ("4096", 4096), ("512K", 512 << 10), ("10M", 10 << 20), ("2G", 2 << 30),
        ("1.5g", 3 << 29), ("10 MiB", 10 << 20), ("1T", 1 << 40),
        ("9007199254740993", 9007199254740993),
    ],
)  # fmt: skip
def test_sizes_are_read(text: str, size: int) -> None:
    assert parse_size(text) == parse_size_limit(text) == size


@pytest.mark.parametrize("text", ["", "M", "10X", "-1", "ten", "none"])
def test_what_is_no_size_is_refused(text: str) -> None:
    with pytest.raises(typer.BadParameter, match="is not a size; write it as 4096, 512K, 10M"):
        parse_size(text)


def test_a_limit_may_be_none() -> None:
    assert parse_size_limit("none") is None
    with pytest.raises(typer.BadParameter, match="or none for no limit"):
        parse_size_limit("unlimited")


@pytest.mark.parametrize(
    ("size", "text"),
    [
        (0, "0 B"), (1023, "1023 B"), (1536, "1.5 KiB"), (10 << 20, "10 MiB"),
        ((1 << 20) - 1, "1 MiB"), (2 << 30, "2 GiB"), (5000 << 40, "5000 TiB"),
    ],
)  # fmt: skip
def test_sizes_are_printed_as_they_are_read(size: int, text: str) -> None:
    assert format_size(size) == text
    assert parse_size(text) == pytest.approx(size, rel=0.05)


def test_moments_are_ages_or_times() -> None:
    two_hours_ago = datetime.fromisoformat(parse_moment("2h"))
    age = datetime.now(UTC) - two_hours_ago
    assert timedelta(hours=2) <= age < timedelta(hours=2, minutes=10)
    assert parse_moment("2026-11-23T16:20:00Z") == "2026-11-23T16:20:00.000000Z"
    assert parse_moment("2026-11-23T17:20:00+01:00") == "2026-11-23T16:20:00.000000Z"
    local = datetime(2026, 11, 23, 16, 20).astimezone()
    assert datetime.fromisoformat(parse_moment("2026-11-23 16:20")) == local
    for text in ("yesterday", "99999999d", ""):
        with pytest.raises(typer.BadParameter, match="is not a time; write 2h for two hours ago"):
            parse_moment(text)
