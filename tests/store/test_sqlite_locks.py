"""Commits of a process survive whatever other processes open and close the file meanwhile."""

import sqlite3
import subprocess
import sys
from pathlib import Path
from subprocess import PIPE

from scriptservice.store.database.connect import open_database
from scriptservice.store.database.sqlite import sqlite_url

SUCCESSOR = """
import sys
from sqlalchemy import text
from scriptservice.store.database.connect import (
    connect_database, connect_database_read_only
)
looked = connect_database_read_only(sys.argv[1])
with looked.reading.connect() as connection:
    connection.execute(text("SELECT count(*) FROM tokens"))
database = connect_database(sys.argv[1])
writer = database.writing.connect()
with writer.begin():
    writer.execute(text("INSERT INTO tokens VALUES ('one', 'admin', x'01', 1)"))
print("ready", flush=True)
sys.stdin.readline()
with writer.begin():
    writer.execute(text("INSERT INTO tokens VALUES ('two', 'admin', x'02', 2)"))
print("committed", flush=True)
sys.stdin.readline()
"""


def test_a_commit_survives_another_process_closing_its_connection(tmp_path: Path) -> None:
    """A successor does this at an upgrade: it looks at the file first, and takes it over later."""
    path = tmp_path / "scriptservice.db"
    url = sqlite_url(str(path))
    open_database(url).close()
    words = [sys.executable, "-c", SUCCESSOR, url]
    with subprocess.Popen(words, stdin=PIPE, stdout=PIPE, text=True) as server:
        assert server.stdin is not None
        assert server.stdout is not None
        assert server.stdout.readline() == "ready\n"
        other = sqlite3.connect(path)
        other.execute("SELECT count(*) FROM tokens").fetchone()
        other.close()  # the last connection to close removes the write-ahead log
        server.stdin.write("\n")
        server.stdin.flush()
        assert server.stdout.readline() == "committed\n"
        server.kill()
    after = sqlite3.connect(path)
    assert after.execute("SELECT name FROM tokens ORDER BY name").fetchall() == [("one",), ("two",)]
    after.close()
