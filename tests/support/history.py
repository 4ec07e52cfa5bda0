"""Adds very many finished commands to a database, within seconds, by SQL alone."""

from sqlalchemy import Connection, text

_NUMBERS = """
    WITH RECURSIVE numbers(n) AS (
        SELECT {first} UNION ALL SELECT n + 1 FROM numbers WHERE n < {last}
    )
"""
_COMMANDS = """
    INSERT INTO commands (
        number, id, status, name, script_preview, host, priority, created_by, created_at,
        started_at, exited_at, finished_at, exit_code, leftovers_killed,
        stdout_bytes, stderr_bytes, discarded_bytes
    )
    {numbers}
    SELECT n, {id}, 'succeeded', 'job ' || n, 'set -e; run-job --number ' || n, 'elsewhere', 0,
        'admin', 1790000000000000 + n, 1790000000000000 + n, 1790000000000000 + n,
        1790000000000000 + n, 0, 0, 0, 0, 0
    FROM numbers
"""
_INPUTS = """
    INSERT INTO inputs (
        number, interpreter, args, env, labels, grace_seconds, leftover_seconds, on_output_limit,
        stdin_bytes, script
    )
    {numbers}
    SELECT n, '["/bin/bash"]', '["--again", "3"]', '{{"RELEASE": "r1"}}', '{{}}', 10, 2, 'discard',
        0, 'set -e' || char_nl || 'cd /srv/app' || char_nl || './run-job --number ' || n
    FROM numbers CROSS JOIN (SELECT {newline} AS char_nl) AS newline
"""


def add_history(connection: Connection, count: int) -> None:
    """Add finished commands to a database that no server uses.

    Args:
        connection: connection that is in a transaction.
        count: number of commands.
    """
    first = int(connection.execute(text("SELECT max(number) FROM commands")).scalar() or 0) + 1
    sqlite = connection.dialect.name == "sqlite"
    words = {
        "numbers": _NUMBERS.format(first=first, last=first + count - 1),
        "id": "lower(hex(randomblob(16)))" if sqlite else "gen_random_uuid()",
        "newline": "char(10)" if sqlite else "chr(10)",
    }
    for statement in (_COMMANDS, _INPUTS):
        connection.exec_driver_sql(statement.format(**words))
    if not sqlite:
        connection.exec_driver_sql("ANALYZE")
