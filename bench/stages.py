"""Which stage of a command's way a sampled stack belongs to.

A stack is attributed by its innermost frame that a rule knows: JSON belongs to whoever asked for
it, a lock to whoever takes it.
"""

import re

Rules = list[tuple[str, re.Pattern[str]]]


def _rules(*pairs: tuple[str, str]) -> Rules:
    return [(stage, re.compile(pattern)) for stage, pattern in pairs]


WRITER = _rules(
    ("writer: commit and its sync", r"^DefaultDialect\.do_commit |^Transaction\.commit "),
    ("writer: hand-over", r"^Writer\._next_batch |^Condition\.|^_resolve "),
    ("writer: begin", r"^_begin\.<locals>\.begin |^Connection\.begin "),
    ("writer: new commands", r"scriptservice/store/(commands|idempotency)\.py"),
    ("writer: marks", r"scriptservice/store/dispatching\.py"),
    ("writer: output and changes", r"scriptservice/store/recording\.py"),
    ("writer: the rest", r"scriptservice/"),
)
SERVER = _rules(
    ("metrics and log", r"scriptservice/(server/(meter|metrics|logs|gauges)|keeper/lines)\.py"),
    ("recorder", r"scriptservice/(fleet/(recorder|folding)|keeper/journal|server/feed)\.py"),
    ("dispatch", r"scriptservice/(fleet/(dispatcher|expiry|local|transport)|keeper/protocol)\.py"),
    ("hand-over to the writer", r"scriptservice/store/writer\.py"),
    ("answer", r"scriptservice/server/views\.py"),
    ("validation", r"scriptservice/(server/schemas|server/routes/requests|model|ids)\.py"),
    ("door, token, headers", r"scriptservice/server/(auth|door|headers|gate|head|tokens)\.py"),
    ("route and verbs", r"scriptservice/server/(?!process|__main__)"),
    ("readers", r"scriptservice/store/"),
    ("framework (Starlette)", r"starlette/"),
    ("HTTP (uvicorn, httptools)", r"uvicorn/"),
    ("loop, its system calls (uvloop)", r"."),
)
KEEPER = _rules(
    ("spawn: vfork until exec", r"^Popen\._execute_child "),
    ("spawn: pipes, script, identity", r"keeper/(spawn|users)\.py|^Popen\."),
    ("tree of processes", r"keeper/(tree|cgroup|descent)\.py"),
    ("splice", r"\.splice |^bytes_waiting "),
    ("journal", r"keeper/(journal\w*|ledger)\.py"),
    ("messages of the server", r"keeper/(protocol|child|life)\.py"),
    ("reap", r"keeper/reaper\.py|_pidfd_ready "),
    ("a command's life", r"keeper/(command|output|waiting|ended)\.py|^Keeper\.(?!run )"),
    ("loop (epoll)", r"."),
)
SLEEPS = re.compile(
    r"^DefaultDialect\.do_commit |^Popen\._execute_child |^Condition\.wait |^_worker "
    r"|^Runner\.run |^Loop\._turn "
)
"""Innermost frames that wait in the kernel: for a sync, a vfork, an event, the other thread.

A sampler takes some of that waiting for work: a sync and a vfork look like it, and so does whoever
is woken and waits for a processor.
"""


def stage_of(process: str, thread: str, frames: list[str]) -> str:
    """Return the stage of a stack.

    Args:
        process: keeper or server.
        thread: its name.
        frames: ``function (path:line)``, the innermost last.
    """
    of_server = WRITER if thread == "writer" else SERVER
    rules = KEEPER if process == "keeper" else of_server
    for frame in reversed(frames):
        for stage, pattern in rules[:-1]:
            if pattern.search(frame):
                return stage
    return rules[-1][0]
