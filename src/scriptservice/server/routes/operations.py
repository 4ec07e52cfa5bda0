"""What the OpenAPI document says about each operation: its id, group, texts and examples.

The route table refers to these descriptions, and ``openapi`` adds them to the document. Generators
of clients name functions after the ids, so an id never changes. No handler reads this module.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

JSON = "application/json"
EVENT_STREAM = "text/event-stream"

TAGS = (
    ("commands", "Submit scripts, list and read commands, stop, repeat and delete them."),
    ("output", "The bytes that a command wrote to stdout and stderr."),
    ("events", "A command's status and output as Server-Sent Events."),
    ("hosts", "The machines that run commands."),
    ("health", "Whether the service works, its metrics, and this documentation."),
    ("session", "Sessions of the web page: a cookie in place of a token."),
    ("page", "The web page."),
)
"""The groups of operations with their descriptions, in the order in which the reference shows them.
"""


@dataclass(frozen=True, slots=True)
class Operation:
    """The description of one operation.

    Attributes:
        id: the operation's id, which is unique.
        tag: name of the operation's group.
        summary: the operation in a few words.
        description: what the operation does, in Markdown.
        requests: examples of the body by media type, then by a sentence about the example.
        responses: examples of the answer by status, then by media type.
    """

    id: str
    tag: str
    summary: str
    description: str
    requests: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    responses: Mapping[int, Mapping[str, Any]] = field(default_factory=dict)


_ID = "0199c0de-7f3a-7c41-9d0e-2b7f6f1c9a55"
_SCRIPT = 'echo "Hello, $1"\n'
_ITEM = {
    "id": _ID,
    "status": "succeeded",
    "name": "greeting",
    "labels": {"team": "db"},
    "interpreter": ["/bin/bash"],
    "working_directory": None,
    "stdin_bytes": 0,
    "interactive": False,
    "pty": None,
    "timeout_seconds": 3600,
    "queue_timeout_seconds": None,
    "grace_seconds": 10,
    "leftover_seconds": 2,
    "output_limit_bytes": 10 << 30,
    "on_output_limit": "discard",
    "limits": None,
    "priority": 0,
    "concurrency": None,
    "waiting_for": None,
    "host": "alpha",
    "created_by": "admin",
    "rerun_of": None,
    "created_at": "2026-11-23T16:20:00.123456Z",
    "started_at": "2026-11-23T16:20:00.131007Z",
    "exited_at": "2026-11-23T16:20:00.134211Z",
    "finished_at": "2026-11-23T16:20:00.134930Z",
    "exit_code": 0,
    "signal": None,
    "reason": None,
    "leftovers_killed": 0,
    "output": {"bytes": 13, "stdout_bytes": 13, "stderr_bytes": 0, "discarded_bytes": 0},
    "usage": {"user_seconds": 0.001, "system_seconds": 0.002, "max_rss_bytes": 3596288},
}
_WHOLE = {"args": ["world"], "env": {"LANG": "C.UTF-8"}}
_COMMAND = {**_ITEM, **_WHOLE, "script": _SCRIPT}
_NOT_ENDED = {
    "exited_at": None,
    "finished_at": None,
    "exit_code": None,
    "usage": {"user_seconds": None, "system_seconds": None, "max_rss_bytes": None},
}
_NO_OUTPUT = {"bytes": 0, "stdout_bytes": 0, "stderr_bytes": 0, "discarded_bytes": 0}
_QUEUED = {
    **_COMMAND,
    **_NOT_ENDED,
    "status": "queued",
    "host": None,
    "started_at": None,
    "output": _NO_OUTPUT,
}
_EVENTS = f"""id: 0
event: status
data: {{"id": "{_ID}", "status": "running"}}

id: 13
event: output
data: {{"stream": "stdout", "position": 0, "stream_offset": 0, "text": "Hello, world\\n"}}

"""
_SESSION = {"name": "admin", "scope": "admin", "csrf_token": "mZ4x0c"}

SUBMIT_COMMAND = Operation(
    id="submitCommand",
    tag="commands",
    summary="Submit a script",
    description=(
        "Stores a script as a command and runs it as soon as possible. The answer comes once the "
        "command is on disk; with `wait`, once the command is finished or the time is over.\n\n"
        "The body is JSON:\n\n"
        "```\ncurl -H 'Authorization: Bearer TOKEN' --json '{\"script\": \"echo hello\"}' \\\n"
        "  'http://localhost:8000/v1/commands'\n```\n\n"
        "Or the body is the script itself, as `text/plain` or `text/x-shellscript`. The other "
        "fields are then query parameters. With a JSON body, such parameters are refused.\n\n"
        "```\ncurl -H 'Authorization: Bearer TOKEN' -H 'Content-Type: text/plain' \\\n"
        "  --data-binary @job.sh 'http://localhost:8000/v1/commands?name=job&label=team=db'\n```\n\n"
        "With an `Idempotency-Key`, a request that is sent again creates no second command."
    ),
    requests={
        JSON: {
            "A script": {"script": "echo hello\n"},
            "A script with more fields": {
                "script": _SCRIPT,
                "name": "greeting",
                "labels": {"team": "db"},
                "args": ["world"],
                "env": {"LANG": "C.UTF-8"},
                "timeout_seconds": 3600,
            },
        },
        "text/plain": {"A script": "echo hello\n"},
        "text/x-shellscript": {"A script": "#!/usr/bin/env bash\necho hello\n"},
    },
    responses={201: {JSON: _QUEUED}},
)
LIST_COMMANDS = Operation(
    id="listCommands",
    tag="commands",
    summary="List commands",
    description=(
        "Returns commands, newest first. Every filter must match. If `next_cursor` is not null, "
        "there may be more commands: repeat the request with the same filters, and send the value "
        "of `next_cursor` as `cursor`. A page may have fewer items than `limit`, or none, and "
        "still have a `next_cursor`."
    ),
    responses={200: {JSON: {"items": [{**_ITEM, "script_preview": _SCRIPT}], "next_cursor": None}}},
)
GET_COMMAND = Operation(
    id="getCommand",
    tag="commands",
    summary="Get a command",
    description=(
        "Returns one command. With `wait`, the answer comes once the command is finished or the "
        "time is over, whichever comes first."
    ),
    responses={200: {JSON: _COMMAND}},
)
STOP_COMMAND = Operation(
    id="stopCommand",
    tag="commands",
    summary="Stop a command",
    description=(
        "Sends a signal to the script, waits for the grace period, then kills every process of the "
        "command. The body is optional. The answer does not wait for the end. If the command is "
        "being stopped already, only a shorter grace period has an effect."
    ),
    requests={
        JSON: {
            "Give it five seconds": {"signal": "SIGTERM", "grace_seconds": 5},
            "Kill it at once": {"grace_seconds": 0},
        }
    },
    responses={202: {JSON: {**_COMMAND, **_NOT_ENDED, "status": "stopping"}}},
)
SEND_INPUT = Operation(
    id="sendInput",
    tag="commands",
    summary="Send input to a command",
    description=(
        "Gives bytes to a running command that was submitted with `interactive` or `pty`: all of "
        "them or, with another answer than 202, none. The answer does not wait until the script "
        "reads them. At most 1 MiB waits for the script.\n\n"
        "To send again safely after a lost answer, give the `offset` of the last answer (0 at the "
        "beginning): if the bytes were accepted, the answer is 409 with the present `offset`. With "
        "`close`, the input ends after these bytes, of which there may be none; a terminal gets "
        "Ctrl-D."
    ),
    requests={"application/octet-stream": {"A line": "yes\n"}},
    responses={202: {JSON: {"accepted_bytes": 4, "offset": 4}}},
)
SIGNAL_COMMAND = Operation(
    id="signalCommand",
    tag="commands",
    summary="Send a signal",
    description=(
        "Sends a signal to the process group of a running script, and does nothing else: if the "
        "signal ends the script, the command has failed. To stop a command and all its processes, "
        "use `stop`."
    ),
    requests={JSON: {"Reload": {"signal": "SIGHUP"}}},
    responses={202: {JSON: {**_COMMAND, **_NOT_ENDED, "status": "running"}}},
)
RERUN_COMMAND = Operation(
    id="rerunCommand",
    tag="commands",
    summary="Run a command again",
    description=(
        "Submits every field of a command again, including its standard input. The new command has "
        "the id of the old one in `rerun_of`."
    ),
    responses={201: {JSON: {**_QUEUED, "rerun_of": "0199c0dd-02b1-7d2a-8c1f-5e0a9b7d3c11"}}},
)
DELETE_COMMAND = Operation(
    id="deleteCommand",
    tag="commands",
    summary="Delete a command",
    description="Deletes a finished command and its output.",
)
GET_OUTPUT = Operation(
    id="getOutput",
    tag="output",
    summary="Get the output",
    description=(
        "Returns output byte for byte: all of it, or a part. With `follow`, the answer continues "
        "until the command is finished. A client that asks for `text/plain` gets the same bytes "
        "with that type. `tail` cannot be combined with `offset` or `limit`. A `Range` header "
        "applies only to a finished command."
    ),
    responses={
        200: {"application/octet-stream": "Hello, world\n", "text/plain": "Hello, world\n"},
        206: {"application/octet-stream": "Hello", "text/plain": "Hello"},
    },
)
FOLLOW_EVENTS = Operation(
    id="followEvents",
    tag="events",
    summary="Follow a command",
    description=(
        "Streams Server-Sent Events: `status` first and at each change, `output` for one range of "
        "one stream, and `end` with the finished command. An event's `id` is the position in the "
        "merged output after the event. If the connection breaks, a client continues without a "
        "gap: it sends the last `id` as `Last-Event-ID`."
    ),
    responses={200: {EVENT_STREAM: _EVENTS}},
)
ATTACH = Operation(
    id="attachToCommand",
    tag="commands",
    summary="Attach to a command",
    description=(
        "Opens a WebSocket to an interactive command. Binary frames are input from the client and "
        "output to the client; text frames are JSON. The client sends "
        '`{"resize": {"rows": 24, "cols": 80}}` and `{"signal": "SIGINT"}`. The service sends '
        '`{"start": {"position": 0, "stdin_offset": 0, "status": "running"}}` first, `{"error": '
        'problem}` after a text that it does not understand, and `{"end": command}` last. A client '
        "whose connection broke continues without a gap: its position is that of `start` plus the "
        "bytes that it received, and it sends this position as `after`. With a session, the "
        "request needs an `Origin` header that is equal to `Host`."
    ),
)
LIST_HOSTS = Operation(
    id="listHosts",
    tag="hosts",
    summary="List hosts",
    description="Returns the machines that run commands, and how many commands each is running.",
    responses={
        200: {
            JSON: {
                "items": [
                    {
                        "name": "alpha",
                        "status": "up",
                        "pool": "default",
                        "labels": {},
                        "running": 3,
                        "capacity": None,
                        "last_seen_at": "2026-11-23T16:20:00.123456Z",
                        "version": "0.1.0",
                        "keeper_pid": 812,
                        "child_pid": 815,
                    }
                ]
            }
        }
    },
)
GET_HEALTH = Operation(
    id="getHealth",
    tag="health",
    summary="Is the service up?",
    description="Answers as soon as the server's process accepts requests.",
    responses={200: {JSON: {"status": "ok"}}},
)
GET_READINESS = Operation(
    id="getReadiness",
    tag="health",
    summary="Is the service ready?",
    description=(
        "Answers 200 if the database and the keeper answer, else 503 with the reason. The answer "
        "also tells how process trees are killed, which limits a command may have, and what does "
        "not work fully (`degraded`)."
    ),
    responses={
        200: {
            JSON: {
                "status": "ready",
                "store": "ok",
                "keeper": "ok",
                "tree_kill": "cgroup",
                "spawn": "launcher",
                "degraded": [],
                "unkillable": [],
                "limits": ["cpu_seconds", "open_files", "nice", "memory_bytes", "processes"],
            }
        }
    },
)
GET_METRICS = Operation(
    id="getMetrics",
    tag="health",
    summary="Get metrics",
    description="Returns all metrics as text, for Prometheus.",
    responses={200: {"text/plain": "scriptservice_commands_running 3.0\n"}},
)
GET_OPENAPI = Operation(
    id="getOpenapi",
    tag="health",
    summary="Get this document",
    description="Returns the description of the API as OpenAPI 3.1.",
    responses={200: {JSON: {"openapi": "3.1.0"}}},
)
GET_DOCS = Operation(
    id="getDocs",
    tag="health",
    summary="Get this reference",
    description="Returns the web page that shows this document. It loads nothing from other hosts.",
    responses={200: {"text/html": "<!doctype html>"}},
)
SIGN_IN = Operation(
    id="signIn",
    tag="session",
    summary="Sign in",
    description=(
        "Begins a session with a token, or with the code of the sign-in link that `serve` prints. "
        "The answer sets a cookie. Requests that change something need the cookie and the header "
        "`X-CSRF-Token`."
    ),
    requests={JSON: {"With a token": {"token": "ss_TOKEN"}, "With a code": {"code": "CODE"}}},
    responses={200: {JSON: _SESSION}},
)
GET_SESSION = Operation(
    id="getSession",
    tag="session",
    summary="Who is signed in?",
    description="Returns the session to which the request's cookie belongs.",
    responses={200: {JSON: _SESSION}},
)
SIGN_OUT = Operation(
    id="signOut",
    tag="session",
    summary="Sign out",
    description="Ends the session, for every copy of its cookie.",
)
GET_PAGE = Operation(
    id="getPage",
    tag="page",
    summary="Get the web page",
    description="Returns the web page, which uses this API.",
    responses={200: {"text/html": "<!doctype html>"}},
)
