"""The SQLite file becomes smaller after deletions, at once or after ``scriptservice vacuum``."""

import contextlib
import re
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from support.service import DATABASE_NAME, ON_SQLITE, PATIENCE_SECONDS, Service, eventually

OUTPUT_BYTES = 8 << 20
SMALL_BYTES = 1 << 20


def vacuum(*words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "scriptservice.cli", "vacuum", *words]
    return subprocess.run(
        command, check=False, capture_output=True, text=True, timeout=PATIENCE_SECONDS
    )


def run_and_delete(service: Service) -> None:
    """Run a command with much output, and delete it once its output is stored."""
    command = service.run(f"head -c {OUTPUT_BYTES} /dev/urandom")
    assert command["output"]["bytes"] == OUTPUT_BYTES
    assert service.client.delete(f"/v1/commands/{command['id']}").status_code == 204


def as_an_earlier_release(path: Path) -> None:
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("PRAGMA auto_vacuum = NONE")
        connection.execute("VACUUM")


@ON_SQLITE
def test_deleted_means_smaller(make_service: Callable[..., Service]) -> None:
    service = make_service().start()
    path = service.data_dir / DATABASE_NAME
    kept = service.run("echo kept")["id"]
    run_and_delete(service)
    # The service goes on to work meanwhile.
    assert service.run("true")["status"] == "succeeded"
    eventually(lambda: path.stat().st_size < SMALL_BYTES, "a smaller file")

    refused = vacuum("--data-dir", str(service.data_dir))
    assert refused.returncode == 1
    assert refused.stderr.count("\n") == 1
    assert "stop the service first" in refused.stderr
    assert service.process is not None
    assert f"process {service.process.pid} " in refused.stderr

    service.stop()
    as_an_earlier_release(path)
    service.start()
    run_and_delete(service)
    count = "SELECT count(*) FROM output"
    eventually(lambda: service.sql(count)[0][0] == 1, "the removal")
    service.stop()
    assert path.stat().st_size > OUTPUT_BYTES

    done = vacuum("--data-dir", str(service.data_dir))
    assert done.returncode == 0, done.stderr
    assert done.stderr.startswith("scriptservice: needs up to ")
    assert re.fullmatch(rf"{path}: \d+\.\d MiB -> 0\.\d MiB\n", done.stdout)
    assert path.stat().st_size < SMALL_BYTES
    service.start()
    assert service.bytes_of(kept) == b"kept\n"
    run_and_delete(service)
    eventually(lambda: path.stat().st_size < SMALL_BYTES, "a smaller file")


def test_a_postgresql_database_is_not_for_this_verb() -> None:
    refused = vacuum("--database", "postgresql://somebody@localhost/some")
    assert refused.returncode == 1
    assert refused.stdout == ""
    assert "PostgreSQL" in refused.stderr
    assert "autovacuum" in refused.stderr
