"""Output: the rate from a script's first byte of output until SQLite has committed the last byte.

The limit is the rate of the same script when ``cat`` writes its output to a file on the same disk.
That file and the journal are not synced. The database is synced at each commit, and the syncs are
part of the measurement. A note gives the rate at which SQLite alone stores the same rows from
memory.
"""

import os
import shlex
import sqlite3
import subprocess
import time
from collections.abc import Callable
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import NamedTuple

from sqlalchemy import insert

from bench.measure import Benchmark, Direction, Plan, Results, Row, Series, Target
from bench.output_text import log_text, random_bytes
from bench.service import SAME_UID, MeasuredService, eventually, new_directory
from scriptservice.fleet.recorder import READ_BYTES
from scriptservice.store.database.connect import open_database
from scriptservice.store.database.sqlite import sqlite_url
from scriptservice.store.database.tables import output
from scriptservice.store.queries.output import CHUNK_BYTES

MEGABYTE = 10**6


class Load(NamedTuple):
    """What one measurement prints.

    Attributes:
        file: the content of which scripts print copies.
        copies: how often each script prints the file.
        scripts: number of scripts that print at the same time.
    """

    file: Path
    copies: int
    scripts: int

    @property
    def script(self) -> str:
        """A script that prints its output as fast as possible, through a pipeline of its own."""
        # Earlier releases were measured with `yes … | head -c`, which is the same pipeline.
        return f"for n in {{1..{self.copies}}}; do cat {self.file}; done | head -c {self.size}"

    @property
    def size(self) -> int:
        """Size in bytes of the output of each script."""
        return self.file.stat().st_size * self.copies

    @property
    def total_megabytes(self) -> float:
        """Size of the output of all scripts."""
        return self.size * self.scripts / MEGABYTE


def raw_rate(load: Load) -> float:
    """Return the megabytes a second that scripts write into files."""
    began = time.monotonic()
    paths = [load.file.with_name(f"raw-{number}") for number in range(load.scripts)]
    words = f"bash -c {shlex.quote(load.script)} | cat > "
    running = [subprocess.Popen(["bash", "-c", words + str(path)]) for path in paths]
    for each in running:
        each.wait()
    seconds = time.monotonic() - began
    for path in paths:
        assert path.stat().st_size == load.size
        path.unlink()
    # Without this sync, the kernel would write these pages to disk while the service is measured.
    os.sync()
    return load.total_megabytes / seconds


def service_rate(plan: Plan, load: Load, stored_megabytes: list[float]) -> float:
    """Return the megabytes a second that scripts write through a new service into its database.

    Args:
        plan: of the run.
        load: what the scripts print.
        stored_megabytes: gets by how much the database has grown on the disk.
    """
    with plan.service(SAME_UID) as service:
        assert service.data.stat().st_dev == load.file.stat().st_dev
        service.submit("true", wait=True)
        before = _database_megabytes(service)
        began = time.monotonic()
        for _ in range(load.scripts):
            last = service.submit(load.script)
        path = f"/v1/commands/{last['id']}"
        if load.scripts > 1:
            service.wait_until_final()
        else:
            eventually(lambda: service.get(path)["finished_at"], "the output", poll_seconds=0.02)
        seconds = time.monotonic() - began
        assert service.get(path)["output"]["bytes"] == load.size
        stored_megabytes.append(_database_megabytes(service) - before)
    os.sync()
    return load.total_megabytes / seconds


def _database_megabytes(service: MeasuredService) -> float:
    """Return the size of the database without its log."""
    address = f"file:{service.data / 'scriptservice.db'}?mode=ro"
    with closing(sqlite3.connect(address, uri=True)) as connection:
        (pages,) = connection.execute("PRAGMA page_count").fetchone()
        (page_bytes,) = connection.execute("PRAGMA page_size").fetchone()
    return float(pages * page_bytes / MEGABYTE)


def store_rate(directory: Path, size: int) -> float:
    """Return the megabytes a second that SQLite stores in transactions of the recorder's size."""
    database = open_database(sqlite_url(str(directory / "alone.db")), migrate=True)
    data = random_bytes(CHUNK_BYTES)
    batch = READ_BYTES // CHUNK_BYTES
    began = time.monotonic()
    try:
        with database.writing.connect() as connection:
            for first in range(0, size // CHUNK_BYTES, batch):
                with connection.begin():
                    connection.execute(
                        insert(output),
                        [
                            {
                                "number": 1,
                                "position": chunk * CHUNK_BYTES,
                                "stream": 1,
                                "stream_offset": chunk * CHUNK_BYTES,
                                "time": 0,
                                "data": data,
                            }
                            for chunk in range(first, first + batch)
                        ],
                    )
        seconds = time.monotonic() - began
    finally:
        database.close()
        for path in directory.glob("alone.db*"):
            path.unlink()
    os.sync()
    return size / MEGABYTE / seconds


def _measure(
    name: str, make: Callable[[int], bytes], sizes: tuple[int, int, int], plan: Plan
) -> tuple[Series, Series]:
    """Return the rates of scripts, and how much the database grew.

    Args:
        name: name of the row.
        make: returns a number of bytes of what the scripts print.
        sizes: bytes of the file, copies that each script prints, and number of scripts.
        plan: of the run.
    """
    size, copies, scripts = sizes
    with new_directory() as directory:
        load = Load(directory / "content", copies, scripts)
        load.file.write_bytes(make(size))
        stored: list[float] = []
        rates = plan.interleaved(
            name, partial(raw_rate, load), partial(service_rate, plan, load, stored)
        )
        return rates, Series(stored, [load.total_megabytes] * len(stored))


def measure_one(plan: Plan) -> Results:
    """Measure one script with much output, of two contents."""
    sizes = (plan.size(64 << 20, 256 << 10), 16, 1)
    text, on_disk = _measure("log text", log_text, sizes, plan)
    raw, _ = _measure("random bytes", random_bytes, sizes, plan)
    with new_directory() as directory:
        raw.notes["SQLite alone, MB/s"] = store_rate(directory, plan.size(1 << 30, 4 << 20))
    return {"log text": text, "log text on disk": on_disk, "random bytes": raw}


def measure_many(plan: Plan) -> Results:
    """Measure many scripts at once."""
    sizes = (plan.size(5 * MEGABYTE, MEGABYTE // 4), 1, plan.size(200, 10))
    return {"many": _measure("many", log_text, sizes, plan)[0]}


_LIMIT = "`bash -c '…' \\| cat > file`"
ONE = Benchmark(
    "output",
    (
        Row(
            "log text",
            "1 GiB of log text from one script to committed in SQLite",
            "MB/s",
            _LIMIT,
            Target(0.2, aim=0.25),
        ),
        Row(
            "log text on disk",
            "by how much the database grows for that text",
            "MB",
            "what the script printed",
            Target(0.3, Direction.AT_MOST),
        ),
        Row(
            "random bytes",
            "1 GiB of random bytes, likewise",
            "MB/s",
            _LIMIT,
            Target(0.13),
        ),
    ),
    measure_one,
)
MANY = Benchmark(
    "output-many",
    (
        Row(
            "many", "200 scripts of 5 MB of log text at once, likewise", "MB/s", _LIMIT, Target(0.2)
        ),
    ),
    measure_many,
)
