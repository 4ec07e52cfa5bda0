"""Tables at several widths of a terminal: ids, statuses and exits are never cut."""

import re
from typing import Any

import pytest

from support.cli import Terminal, cli
from support.service import Service

NAME = "nightly backup of every database of the shop"
WIDE_NAME = "日本語の名前" * 4


@pytest.fixture(scope="module")
def commands(service: Service) -> dict[str, str]:
    """The commands that the tables show: id and exit."""
    label = {"about": "tables", "team": "databases-and-storage"}
    fields: list[dict[str, Any]] = [{"name": NAME}, {"name": WIDE_NAME}, {}]
    scripts = ["exit 255", "kill -s RTMIN+3 $$", "true"]
    made = [
        service.run(script, labels=label, **more)
        for script, more in zip(scripts, fields, strict=True)
    ]
    return {each["id"][-8:]: str(each["exit_code"] or each["signal"] or 0) for each in made}


def table(service: Service, columns: int, *words: str) -> list[str]:
    """Return the lines that a terminal shows."""
    code, seen = Terminal(service, *words, columns=columns).end()
    assert code == 0
    text = re.sub(r"\x1b\[[0-9;]*m", "", seen.decode())
    return text.replace("\r", "").rstrip("\n").split("\n")


def cells_wide(line: str) -> int:
    """Return how many cells of a terminal a line takes."""
    return sum(2 if ord(letter) > 0x2E80 else 1 for letter in line)


LIST = ("list", "--label", "about=tables")
TITLES = {
    120: ["ID", "STATUS", "NAME", "LABELS", "HOST", "CREATED", "TOOK", "EXIT"],
    100: ["ID", "STATUS", "NAME", "LABELS", "CREATED", "TOOK", "EXIT"],
    80: ["ID", "STATUS", "NAME", "CREATED", "TOOK", "EXIT"],
    60: ["ID", "STATUS", "NAME", "TOOK", "EXIT"],
}


@pytest.mark.parametrize("columns", TITLES)
def test_a_list_drops_host_labels_and_date(
    service: Service, commands: dict[str, str], columns: int
) -> None:
    header, *rows = table(service, columns, *LIST)
    assert header.split() == TITLES[columns]
    assert len(rows) == len(commands)
    for row, (command, exit_) in zip(rows, reversed(commands.items()), strict=True):
        assert cells_wide(row) <= columns
        words = row.split()
        assert (words[0], words[-1]) == (command, exit_)
        assert words[1] == ("succeeded" if exit_ == "0" else "failed")
    assert "nightly backup" in rows[2]
    dates = [re.search(r" \d{4}-\d\d-\d\d \d\d:\d\d:\d\d ", row) for row in rows]
    assert all(dates) == any(dates) == ("CREATED" in header)


def test_a_narrow_list_has_two_lines_for_each(service: Service, commands: dict[str, str]) -> None:
    header, *lines = table(service, 44, *LIST)
    assert header.split() == ["ID", "STATUS", "TOOK", "EXIT"]
    assert len(lines) == 2 * len(commands)
    for line, (command, exit_) in zip(lines[::2], reversed(commands.items()), strict=True):
        assert (line.split()[0], line.split()[-1]) == (command, exit_)
    assert lines[-1].startswith("  nightly backup of every database of")
    assert all(cells_wide(line) <= 44 for line in lines)


def test_hosts(service: Service) -> None:
    (host,) = service.client.get("/v1/hosts").json()["items"]
    header, row = table(service, 100, "hosts")
    assert header.split() == ["NAME", "STATUS", "RUNNING", "CAPACITY", "LAST", "SEEN", "VERSION"]
    assert row.split()[:4] == [host["name"], "up", "0", "unlimited"]
    assert row.split()[-1] == host["version"]
    assert [line.split()[-1] for line in table(service, 44, "hosts")] == ["CAPACITY", "unlimited"]
    assert cli(service, "hosts").stdout.decode().split("\t")[:2] == [host["name"], "up"]


def test_an_empty_list_says_so(service: Service) -> None:
    assert table(service, 80, "list", "--label", "no=such") == ["No command matches."]
    assert cli(service, "list", "--label", "no=such").stdout == b""
