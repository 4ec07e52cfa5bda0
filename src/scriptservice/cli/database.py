"""``scriptservice migrate`` and ``scriptservice backup``: what is done to a database by hand."""

import os
import sys
import time
from collections.abc import Callable
from typing import Any

import click

from scriptservice.cli.serve import setting_option
from scriptservice.errors import ConfigurationError, StoreError
from scriptservice.settings import Settings, load_settings

_SHOWN_AFTER_SECONDS = 0.5
_SHOWN_EVERY_SECONDS = 0.2


def migrate(words: list[str]) -> int:
    """Bring the database to this release's schema; return the exit code.

    Args:
        words: the arguments after the verb.
    """
    return _run("migrate", words, [], _migrate)


def backup(words: list[str]) -> int:
    """Copy the SQLite database into a file while it is in use; return the exit code.

    Args:
        words: the arguments after the verb.
    """
    return _run("backup", words, [click.Argument(["file"])], _backup)


_HELP = {
    "migrate": "Bring the database to the schema of this release. Servers may run meanwhile: the "
    "release before works with it.",
    "backup": "Copy the SQLite database, consistent, into FILE, while the service runs. With "
    "PostgreSQL use pg_dump.",
}


def _run(
    verb: str,
    words: list[str],
    arguments: list[click.Parameter],
    act: Callable[[Settings, dict[str, Any]], None],
) -> int:
    def collect(**given: Any) -> dict[str, Any]:
        return given

    options = [setting_option(name) for name in ("config", "data_dir", "database")]
    command = click.Command(verb, params=[*arguments, *options], callback=collect, help=_HELP[verb])
    try:
        given = command.main(words, prog_name=f"scriptservice {verb}", standalone_mode=False)
        if not isinstance(given, dict):
            return 0  # help was asked for and shown
        names = {option.name for option in options}
        settings = load_settings({name: given[name] for name in given if name in names})
        act(settings, given)
    except click.ClickException as error:
        print(f"scriptservice: {error.format_message()}", file=sys.stderr)
        return 2
    except (ConfigurationError, StoreError) as error:
        print(f"scriptservice: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("scriptservice: interrupted; nothing was changed", file=sys.stderr)
        return 130
    return 0


def _migrate(settings: Settings, _: dict[str, Any]) -> None:
    from scriptservice.store.database.connect import connect_database
    from scriptservice.store.database.schema import migrate_schema

    database = connect_database(settings.database_url)
    try:
        before, after = migrate_schema(database, _Waiting())
    finally:
        database.close()
    if before == after:
        print(f"{database.name} has schema {after} already")
    else:
        print(f"{database.name}: schema {before or 'none'} -> {after}")


class _Waiting:
    """Says once why a migration waits."""

    def __init__(self) -> None:
        self._said = False

    def __call__(self, reason: str) -> None:
        if not self._said:
            self._said = True
            print(f"scriptservice: {reason}; waiting", file=sys.stderr, flush=True)


def _backup(settings: Settings, given: dict[str, Any]) -> None:
    from scriptservice.store.database.backup import back_up

    url = settings.database_url
    if not url.startswith("sqlite:///"):
        message = "cannot back up a PostgreSQL database: use pg_dump (docs/operations.md)"
        raise ConfigurationError(message)
    file = os.path.abspath(given["file"])
    progress = _Progress()
    size = back_up(url.removeprefix("sqlite:///"), file, progress)
    progress.close()
    print(f"{file}: {_mebibytes(size)}")


class _Progress:
    """A line on a terminal that says how far a copy is, if it takes a while."""

    def __init__(self) -> None:
        self._next = time.monotonic() + _SHOWN_AFTER_SECONDS
        self._shown = False

    def __call__(self, done: int, total: int) -> None:
        now = time.monotonic()
        if now < self._next or not sys.stderr.isatty():
            return
        self._next = now + _SHOWN_EVERY_SECONDS
        self._shown = True
        share = done * 100 // max(1, total)
        text = f"\r{share:>3} %  {_mebibytes(done)} of {_mebibytes(total)} "
        print(text, end="", file=sys.stderr, flush=True)

    def close(self) -> None:
        """Leave the line."""
        if self._shown:
            print("\r\x1b[K", end="", file=sys.stderr, flush=True)


def _mebibytes(size: int) -> str:
    return f"{size / (1 << 20):.1f} MiB"
