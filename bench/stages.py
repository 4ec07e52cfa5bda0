"""The stages of a command, and the rules that attribute a sampled stack to a stage.

The innermost frame that matches a rule decides. JSON and locks have no rule, so their time counts
for the code that called them.
"""

import re

Rules = list[tuple[str, re.Pattern[str]]]


def _rules(*pairs: tuple[str, str]) -> Rules:
    return [(stage, re.compile(pattern)) for stage, pattern in pairs]


WRITER = _rules(
    ("writer: commit and its sync", r"^DefaultDialect\.do_commit |^Transaction\.commit "),
    ("writer: hand-over", r"^Writer\._next_batch |^Condition\.|^_resolve "),
    ("writer: begin", r"^_begin\.<locals>\.begin |^Connection\.begin "),
    ("writer: new commands", r"scriptservice/store/queries/(commands|idempotency)\.py"),
    ("writer: marks", r"scriptservice/store/queries/dispatching\.py"),
    ("writer: output and changes", r"scriptservice/store/queries/journal_changes\.py"),
    ("writer: the rest", r"scriptservice/"),
)
SERVER = _rules(
    ("metrics and log", r"scriptservice/(server/telemetry/|protocol/log_lines\.py)"),
    ("recorder", r"scriptservice/fleet/(recorder|journal_folding)\.py"),
    ("recorder", r"scriptservice/(protocol/journal_\w+|server/commands/notifier)\.py"),
    ("dispatch", r"scriptservice/fleet/(dispatcher|queue_timeouts|local|transport)\.py"),
    ("dispatch", r"scriptservice/protocol/frames\.py"),
    ("hand-over to the writer", r"scriptservice/store/writer\.py"),
    ("answer", r"scriptservice/server/http/command_json\.py"),
    ("validation", r"scriptservice/server/routes/(decoding|request_models)\.py"),
    ("validation", r"scriptservice/(model|ids)\.py"),
    ("origin, token, headers", r"scriptservice/server/(access/|startup/startup_gate\.py)"),
    ("origin, token, headers", r"scriptservice/server/http/(response_headers|head_requests)\.py"),
    ("route and verbs", r"scriptservice/server/(?!server_process|__main__)"),
    ("readers", r"scriptservice/store/"),
    ("framework (Starlette)", r"starlette/"),
    ("HTTP (uvicorn, httptools)", r"uvicorn/"),
    ("loop, its system calls (uvloop)", r"."),
)
KEEPER = _rules(
    ("spawn: vfork until exec", r"^Popen\._execute_child "),
    ("spawn: pipes, script, identity", r"scriptservice/keeper/spawn/|^Popen\."),
    ("tree of processes", r"scriptservice/keeper/tree/"),
    ("splice", r"\.splice |^bytes_waiting "),
    ("journal", r"scriptservice/(keeper/journal/|protocol/journal_format\.py)"),
    ("messages of the server", r"scriptservice/(keeper/child/|protocol/frames\.py)"),
    ("reap", r"scriptservice/keeper/system/reaper\.py|_pidfd_ready "),
    ("a command's life", r"scriptservice/keeper/command/|^Keeper\.(?!run )"),
    ("loop (epoll)", r"."),
)
SLEEPS = re.compile(
    r"^DefaultDialect\.do_commit |^Popen\._execute_child |^Condition\.wait |^_worker "
    r"|^Runner\.run |^Loop\._turn "
)
"""Innermost frames that wait in the kernel: for a sync, a vfork, an event or another thread.

py-spy counts a part of this waiting as work: the wait for a sync or a vfork, and the time for which
a thread that was woken waits for a processor.
"""


def stage_of(process: str, thread: str, frames: list[str]) -> str:
    """Return the stage to which a sampled stack belongs.

    Args:
        process: ``keeper`` or ``server``.
        thread: name of the thread.
        frames: the stack, each frame as ``function (path:line)``, the innermost last.
    """
    server_rules = WRITER if thread == "writer" else SERVER
    rules = KEEPER if process == "keeper" else server_rules
    for frame in reversed(frames):
        for stage, pattern in rules[:-1]:
            if pattern.search(frame):
                return stage
    return rules[-1][0]
