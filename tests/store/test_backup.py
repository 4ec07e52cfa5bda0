"""Backups of a SQLite file: they never replace the database itself, and each is complete."""

import contextlib
import os
import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from scriptservice.errors import ConfigurationError
from scriptservice.store.database.backup import back_up
from scriptservice.store.database.connect import open_database
from scriptservice.store.database.sqlite import sqlite_url
from support.store import Store


def ignore(_: int, __: int) -> None:
    """Ignore the progress."""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    directory = tmp_path / "data"
    directory.mkdir()
    return directory / "scriptservice.db"


@pytest.fixture
def used(path: Path) -> Iterator[Store]:
    """A database in use, with a write-ahead log and its index."""
    opened = open_database(sqlite_url(str(path)))
    store = Store(opened)
    store.add(name="kept")
    with opened.reading.connect():
        yield store
    opened.close()


def names_in(path: Path) -> list[tuple[str]]:
    with contextlib.closing(sqlite3.connect(path)) as copy:
        assert copy.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        return copy.execute("SELECT name FROM commands").fetchall()


def the_database(path: Path) -> Path:
    return path


def another_path(path: Path) -> Path:
    return path.parent / ".." / "data" / path.name


def write_ahead_log(path: Path) -> Path:
    return path.with_name(f"{path.name}-wal")


def shared_memory(path: Path) -> Path:
    return path.with_name(f"{path.name}-shm")


def rollback_journal(path: Path) -> Path:
    return path.with_name(f"{path.name}-journal")


def symbolic_link(path: Path) -> Path:
    link = path.parent.parent / "link.db"
    link.symlink_to(path)
    return link


def through_a_linked_directory(path: Path) -> Path:
    link = path.parent.parent / "linked"
    link.symlink_to(path.parent)
    return write_ahead_log(link / path.name)


def hard_link(path: Path) -> Path:
    link = path.parent.parent / "hard.db"
    link.hardlink_to(path)
    return link


@pytest.mark.parametrize(
    "target",
    [
        the_database,
        another_path,
        write_ahead_log,
        shared_memory,
        rollback_journal,
        symbolic_link,
        through_a_linked_directory,
        hard_link,
    ],
)
def test_a_backup_does_not_replace_the_database(
    path: Path, used: Store, target: Callable[[Path], Path]
) -> None:
    wanted = target(path)
    before = {name: os.stat(path.parent / name).st_ino for name in os.listdir(path.parent)}
    with pytest.raises(ConfigurationError, match="it is the database itself"):
        back_up(str(path), str(wanted), ignore)
    after = {name: os.stat(path.parent / name).st_ino for name in os.listdir(path.parent)}
    assert after == before
    assert used.count("commands") == 1


def test_a_backup_does_not_replace_files_beside_a_linked_database(path: Path, used: Store) -> None:
    link = symbolic_link(path)
    for wanted in (link, path, write_ahead_log(path)):
        with pytest.raises(ConfigurationError, match="it is the database itself"):
            back_up(str(link), str(wanted), ignore)
    assert used.count("commands") == 1


def test_simultaneous_backups_to_one_file_do_not_mix(path: Path, used: Store) -> None:
    target = path.parent.parent / "copy.db"
    inner: list[int] = []

    def back_up_during_the_first(_: int, __: int) -> None:
        if not inner:
            inner.append(0)  # once
            used.add(name="later")
            inner[0] = back_up(str(path), str(target), ignore)
            assert sorted(names_in(target)) == [("kept",), ("later",)]

    size = back_up(str(path), str(target), back_up_during_the_first)
    assert inner[0] > 0
    assert target.stat().st_size == size
    # The backup that ends last wins, with the snapshot of the moment when it began.
    assert names_in(target) == [("kept",)]
    assert sorted(os.listdir(target.parent)) == ["copy.db", "data"]


def test_a_backup_ignores_the_remains_of_a_killed_one(path: Path, used: Store) -> None:
    target = path.parent.parent / "copy.db"
    left = target.with_name("copy.db.partial")
    left.mkdir()
    back_up(str(path), str(target), ignore)
    assert names_in(target) == [("kept",)]


def test_a_failed_backup_leaves_no_files(path: Path, used: Store) -> None:
    target = path.parent.parent / "copy.db"
    target.mkdir()
    with pytest.raises(ConfigurationError, match="cannot back up"):
        back_up(str(path), str(target), ignore)
    assert sorted(os.listdir(target.parent)) == ["copy.db", "data"]
    assert os.listdir(target) == []
