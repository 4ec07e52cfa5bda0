"""Output: the rate from a script's first byte of output until SQLite has committed the last byte.

The limit is the rate of the same script when ``cat`` writes its output to a file on the same disk.
That file and the journal are not synced. The database is synced at each commit, and the syncs are
part of the measurement. A note gives the rate at which SQLite alone stores the same rows from
memory.
"""

import os
import subprocess
import time
from functools import partial
from pathlib import Path

from sqlalchemy import insert

from bench.measure import Benchmark, Plan, Results, Row, Target
from bench.service import SAME_UID, eventually, new_directory
from scriptservice.fleet.recorder import READ_BYTES
from scriptservice.store.database.connect import open_database
from scriptservice.store.database.sqlite import sqlite_url
from scriptservice.store.database.tables import output
from scriptservice.store.queries.output import CHUNK_BYTES

LINE = "a line of output as scripts print it, of sixty-four bytes or so"
MEGABYTE = 10**6


def script(size: int) -> str:
    """Return a script that prints ``size`` bytes of lines as fast as possible."""
    return f"yes '{LINE}' | head -c {size}"


def raw_rate(directory: Path, size: int, at_once: int) -> float:
    """Return the megabytes a second that scripts write into files through ``cat``."""
    began = time.monotonic()
    paths = [directory / f"raw-{number}" for number in range(at_once)]
    words = f"bash -c {_quoted(script(size))} | cat > "
    running = [subprocess.Popen(["bash", "-c", words + str(path)]) for path in paths]
    for each in running:
        each.wait()
    seconds = time.monotonic() - began
    for path in paths:
        assert path.stat().st_size == size
        path.unlink()
    # Without this sync, the kernel would write these pages to disk while the service is measured.
    os.sync()
    return size * at_once / MEGABYTE / seconds


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "'\\''") + "'"


def service_rate(plan: Plan, directory: Path, size: int, at_once: int) -> float:
    """Return the megabytes a second that scripts write through a new service into its database."""
    with plan.service(SAME_UID) as service:
        assert service.data.stat().st_dev == directory.stat().st_dev
        service.submit("true", wait=True)
        began = time.monotonic()
        for _ in range(at_once):
            last = service.submit(script(size))
        path = f"/v1/commands/{last['id']}"
        if at_once > 1:
            service.wait_until_final()
        else:
            eventually(lambda: service.get(path)["finished_at"], "the output", poll_seconds=0.02)
        seconds = time.monotonic() - began
        assert service.get(path)["output"]["bytes"] == size
    os.sync()
    return size * at_once / MEGABYTE / seconds


def store_rate(directory: Path, size: int) -> float:
    """Return the megabytes a second that SQLite stores in transactions of the recorder's size."""
    database = open_database(sqlite_url(str(directory / "alone.db")), migrate=True)
    data = (f"{LINE}\n".encode() * (CHUNK_BYTES // len(LINE) + 1))[:CHUNK_BYTES]
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


def _measure(name: str, size: int, at_once: int, plan: Plan) -> Results:
    with new_directory() as directory:
        return {
            name: plan.interleaved(
                name,
                partial(raw_rate, directory, size, at_once),
                partial(service_rate, plan, directory, size, at_once),
            )
        }


def measure_one(plan: Plan) -> Results:
    """Measure one script with much output."""
    size = plan.size(1 << 30, 4 << 20)
    found = _measure("one", size, 1, plan)
    with new_directory() as directory:
        found["one"].notes["SQLite alone, MB/s"] = store_rate(directory, size)
    return found


def measure_many(plan: Plan) -> Results:
    """Measure many scripts that run at the same time."""
    return _measure("many", plan.size(5 * MEGABYTE, MEGABYTE // 4), plan.size(200, 10), plan)


_LIMIT = "`bash -c '…' \\| cat > file`"
ONE = Benchmark(
    "output",
    (Row("one", "1 GiB from one script to committed in SQLite", "MB/s", _LIMIT, Target(0.25)),),
    measure_one,
)
MANY = Benchmark(
    "output-many",
    (Row("many", "200 scripts of 5 MB at once, likewise", "MB/s", _LIMIT, Target(0.2)),),
    measure_many,
)
