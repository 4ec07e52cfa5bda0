"""Data directories with very many commands or much output, written by the store's own code.

The database looks as if the recorder of another host had written it. The data is written in large
transactions. Each directory is made once and used until the run ends, then it is removed.
"""

import asyncio
import atexit
import functools
import random
import shutil
import tempfile
from pathlib import Path
from typing import NamedTuple
from uuid import UUID

from sqlalchemy import Connection

from bench.measure import Plan, Progress
from bench.output_text import log_text
from scriptservice.fleet.output_compressor import OutputCompressor
from scriptservice.ids import new_id
from scriptservice.model import Command, Origin, Outcome, Status, Submission
from scriptservice.protocol.clock import now_us
from scriptservice.store.database.connect import open_database
from scriptservice.store.database.sqlite import sqlite_url
from scriptservice.store.queries import hosts, journal_changes
from scriptservice.store.queries.commands import Inserter, next_number
from scriptservice.store.queries.output import CHUNK_BYTES
from scriptservice.store.queries.queueing.new_commands import NewCommand

BATCH = 5000
MONTH_MICROSECONDS = 30 * 24 * 3600 * 10**6
HOST = hosts.StoredHost("elsewhere", "gone", str(UUID(int=1)), 0, "0", "0.1.0", 0)
TEAMS = ("web", "data", "billing", "search", "mobile", "ops", "sre", "ml", "infra", "db")
ENDS = (
    (90, Status.SUCCEEDED, Outcome(exit_code=0)),
    (6, Status.FAILED, Outcome(exit_code=1)),
    (2, Status.STOPPED, Outcome(signal="SIGTERM")),
    (1, Status.TIMED_OUT, Outcome(signal="SIGTERM", reason="its time-out passed")),
    (1, Status.LOST, Outcome(reason="its keeper died and left no record of how it ended")),
)
"""How many of a hundred commands end with each status, and their outcome."""
QUICK_COMMANDS = 1000
QUICK_SIZES = (1 << 20, 2 << 20)


class HistoryWriter:
    """Writes commands, their ends and their output into a database.

    Args:
        connection: connection to the database; the caller begins and commits transactions.
        first: number of the next command.
    """

    def __init__(self, connection: Connection, first: int) -> None:
        self._connection = connection
        self._insert = Inserter(first)
        self._position = 0

    def submit(self, items: list[NewCommand]) -> list[Command]:
        """Store new commands."""
        stored = self._insert(self._connection, items)
        return [each for each in stored if isinstance(each, Command)]

    def store(
        self, changes: list[journal_changes.CommandChange], chunks: list[journal_changes.Chunk]
    ) -> None:
        """Store the ends and the output of commands."""
        begin, self._position = self._position, self._position + 1
        part = journal_changes.JournalChanges(
            HOST.name, HOST.journal, begin, self._position, chunks=chunks, changes=changes
        )
        journal_changes.store_journal_changes(self._connection, [part])


class DataDirectory(NamedTuple):
    """A directory for `MeasuredService`.

    Attributes:
        directory: contains the data directory; no service has used it yet.
        ids: ids of the commands with much output.
        sizes: sizes of their outputs in bytes.
    """

    directory: Path
    ids: tuple[UUID, ...]
    sizes: tuple[int, ...]


def data_directory(plan: Plan, commands: int = 0, sizes: tuple[int, ...] = ()) -> DataDirectory:
    """Return a directory with finished commands.

    A quick run uses one small directory for all benchmarks.

    Args:
        plan: plan of the run.
        commands: number of commands with little output.
        sizes: for each of these sizes in bytes, one further command gets that much output.
    """
    if plan.quick:
        commands, sizes = QUICK_COMMANDS, QUICK_SIZES
    return _generate(commands, sizes, plan.progress)


@functools.cache
def _generate(commands: int, sizes: tuple[int, ...], progress: Progress) -> DataDirectory:
    directory = Path(tempfile.mkdtemp(prefix="scriptservice-bench-"))
    atexit.register(shutil.rmtree, directory, ignore_errors=True)
    directory.chmod(0o755)
    data = directory / "data"
    data.mkdir(mode=0o700)
    database = open_database(sqlite_url(str(data / "scriptservice.db")), migrate=True)
    rng = random.Random(commands)
    try:
        with database.writing.begin() as connection:
            hosts.save_host(connection, [HOST])
            first = next_number(connection)
        with database.writing.connect() as connection:
            history = HistoryWriter(connection, first)
            begin_us = now_us() - MONTH_MICROSECONDS
            for start in range(0, commands, BATCH):
                progress.show(f"making {commands} commands, {start * 100 // commands} %")
                numbers = range(start, min(commands, start + BATCH))
                with connection.begin():
                    _some_commands(history, numbers, begin_us, rng)
            ids = []
            for size in sizes:
                progress.show(f"making {size >> 20} MiB of output")
                ids.append(_big_command(history, connection, size))
    finally:
        database.close()
    return DataDirectory(directory, tuple(ids), sizes)


def _some_commands(
    history: HistoryWriter, numbers: range, begin_us: int, rng: random.Random
) -> None:
    items = [_new_command(number, begin_us + number * 2_000_000, rng) for number in numbers]
    weights = [share for share, _, _ in ENDS]
    changes, chunks = [], []
    for command in history.submit(items):
        _, status, end = rng.choices(ENDS, weights)[0]
        printed = b""
        if rng.random() < 0.3:
            printed = b"line of output\n" * rng.randrange(1, 60)
            chunks.append(
                journal_changes.Chunk(command.number, 0, 1, 0, command.created_at + 9000, printed)
            )
        outcome = Outcome(
            started_at=command.created_at + 4000,
            exited_at=command.created_at + 90_000,
            finished_at=command.created_at + 91_000,
            exit_code=end.exit_code,
            signal=end.signal,
            reason=end.reason,
            stdout_bytes=len(printed),
            user_seconds=0.004,
            system_seconds=0.003,
            max_rss_bytes=3_500_000,
        )
        changes.append(
            journal_changes.CommandChange(command.number, Status.QUEUED, status, outcome)
        )
    history.store(changes, chunks)


def _new_command(number: int, created_at: int, rng: random.Random) -> NewCommand:
    labels = {}
    if rng.random() < 0.8:
        labels = {"team": rng.choice(TEAMS), "release": f"r{number // 400}"}
    submission = Submission(
        script=f"set -e\ncd /srv/app\n./run-job --number {number} --again 3\n",
        interpreter=("/bin/bash",),
        name=f"job {number}" if rng.random() < 0.5 else None,
        labels=labels,
    )
    return NewCommand(new_id(), submission, Origin("admin"), created_at, None, HOST.name, "gone")


def _big_command(history: HistoryWriter, connection: Connection, size: int) -> UUID:
    new = _new_command(0, now_us(), random.Random(size))
    with connection.begin():
        [command] = history.submit([new])
    compressor = OutputCompressor()
    for start in range(0, size, 32 * CHUNK_BYTES):
        offsets = range(start, min(size, start + 32 * CHUNK_BYTES), CHUNK_BYTES)
        chunks = [
            journal_changes.Chunk(command.number, at, 1, at, command.created_at, _lines(at, size))
            for at in offsets
        ]
        chunks = asyncio.run(compressor.compress_chunks(chunks, {}))
        with connection.begin():
            history.store([], chunks)
    outcome = Outcome(
        started_at=command.created_at,
        exited_at=command.created_at + 1,
        finished_at=command.created_at + 2,
        exit_code=0,
        stdout_bytes=size,
    )
    with connection.begin():
        history.store(
            [
                journal_changes.CommandChange(
                    command.number, Status.QUEUED, Status.SUCCEEDED, outcome
                )
            ],
            [],
        )
    return command.id


def _lines(at: int, size: int) -> bytes:
    """Return a chunk of lines of 64 bytes, each beginning with its offset, then log text."""
    end = min(size, at + CHUNK_BYTES)
    text = log_text(CHUNK_BYTES).replace(b"\n", b" ")
    return b"".join(
        b"%015d %s\n" % (offset, text[offset - at : offset - at + 47])
        for offset in range(at, end, 64)
    )
