"""Output as scripts print it, from a seeded generator: a build, JSON lines, and random bytes."""

import functools
import random
from collections.abc import Callable

_FOLDERS = ("core", "net", "storage", "ui", "parser", "auth", "queue", "report", "billing", "index")
_NOUNS = ("client", "buffer", "session", "table", "cursor", "packet", "worker", "token", "schema")
_VERBS = ("open", "read", "merge", "flush", "encode", "split", "retry", "commit", "verify", "scan")
_WARNINGS = (
    "unused variable '{}_{}' [-Wunused-variable]",
    "comparison of integer expressions of different signedness: '{}' and '{}' [-Wsign-compare]",
    "'{}_{}' may be used uninitialized [-Wmaybe-uninitialized]",
)
_MESSAGES = (
    ("info", "request finished"),
    ("info", "request finished"),
    ("info", "job started"),
    ("debug", "cache miss, reading from the primary"),
    ("warning", "slow query, consider an index"),
    ("error", "upstream closed the connection before the response was complete"),
)
_METHODS = ("GET", "GET", "GET", "POST", "PUT", "DELETE")


def build_line(rng: random.Random) -> str:
    """Return a line of a build: a compiler call, a step, a warning or a test."""
    folder, noun, verb = rng.choice(_FOLDERS), rng.choice(_NOUNS), rng.choice(_VERBS)
    kind = rng.random()
    if kind < 0.35:
        return (
            f"gcc -std=c11 -O2 -g -Wall -Wextra -Iinclude -I{folder}/include -DNDEBUG "
            f"-c -o build/obj/{folder}/{verb}_{noun}.o src/{folder}/{verb}_{noun}.c"
        )
    if kind < 0.6:
        done = rng.randrange(100)
        return f"[{done:3d}%] Building C object src/{folder}/CMakeFiles/{verb}_{noun}.dir/main.c.o"
    if kind < 0.75:
        warning = rng.choice(_WARNINGS).format(verb, noun)
        place = f"{rng.randrange(1, 2400)}:{rng.randrange(1, 90)}"
        return f"src/{folder}/{verb}_{noun}.c:{place}: warning: {warning}"
    seconds = rng.random() * 3
    return f"test {folder}::{noun}::test_{verb}_{rng.randrange(400)} ... ok ({seconds:.3f}s)"


def json_line(rng: random.Random) -> str:
    """Return a line of a structured log, with times, ids and durations that do not repeat."""
    level, message = rng.choice(_MESSAGES)
    folder, noun = rng.choice(_FOLDERS), rng.choice(_NOUNS)
    at = f"2026-03-{rng.randrange(1, 29):02d}T{rng.randrange(24):02d}:{rng.randrange(60):02d}"
    return (
        f'{{"time": "{at}:{rng.random() * 60:09.6f}Z", "level": "{level}", '
        f'"logger": "{folder}.{noun}", "message": "{message}", '
        f'"method": "{rng.choice(_METHODS)}", "path": "/v1/{noun}s/{rng.randrange(10**6)}", '
        f'"status": {rng.choice((200, 200, 200, 201, 404, 500))}, '
        f'"duration_ms": {rng.random() * 900:.2f}, "request_id": "{rng.getrandbits(128):032x}", '
        f'"host": "{folder}-{rng.randrange(20):02d}"}}'
    )


def lines(line: Callable[[random.Random], str], size: int, seed: int = 1) -> bytes:
    """Return ``size`` bytes of lines.

    Args:
        line: makes a line.
        size: number of bytes.
        seed: the same seed gives the same lines.
    """
    rng = random.Random(seed)
    parts: list[bytes] = []
    made = 0
    while made < size:
        parts.append(line(rng).encode() + b"\n")
        made += len(parts[-1])
    return b"".join(parts)[:size]


@functools.cache
def log_text(size: int) -> bytes:
    """Return ``size`` bytes of log text: half of it a build's output, half of it JSON lines."""
    half = size // 2
    return lines(build_line, half) + lines(json_line, size - half)


@functools.cache
def random_bytes(size: int) -> bytes:
    """Return ``size`` bytes that cannot be compressed."""
    return random.Random(1).randbytes(size)
