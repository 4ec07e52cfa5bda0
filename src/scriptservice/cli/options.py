"""Options of the client's verbs, their connection to the service, and their error messages."""

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated, Any

import typer

from scriptservice.cli.exit_codes import USAGE, fail
from scriptservice.client import Client
from scriptservice.client.problems import ClientError, ProblemError

URL_NAME = "SCRIPTSERVICE_URL"

RETRY_SECONDS = 300.0
"""How long a verb that follows a command tries to reach a service that has stopped answering."""
FIRST_CONTACT_SECONDS = 10.0
"""How long a verb tries to make its first connection. The time is short, because perhaps no service
runs at that address.
"""

Url = Annotated[
    str | None,
    typer.Option("--url", envvar=URL_NAME, help="the service; default http://127.0.0.1:8000"),
]
AsJson = Annotated[bool, typer.Option("--json", help="print JSON, for programs")]
Raw = Annotated[bool, typer.Option("--raw", help="let escape sequences through")]
Label = Annotated[
    list[str] | None, typer.Option("--label", metavar="KEY=VALUE", help="may be repeated")
]
CommandId = Annotated[str, typer.Argument(help="an id, or its beginning or end")]
CommandIds = Annotated[list[str] | None, typer.Argument(help="ids, or their beginnings or ends")]


def key_values(option: str, texts: list[str] | None) -> dict[str, str]:
    """Return ``KEY=VALUE`` texts as a dictionary.

    Args:
        option: the option's name, for the message.
        texts: the option's values; None if the user did not give the option.

    Raises:
        typer.Exit: a text has no ``=``.
    """
    found = {}
    for text in texts or []:
        key, equals, value = text.partition("=")
        if not equals:
            raise fail(f"cannot use {option} {text}: it must be KEY=VALUE", USAGE)
        found[key] = value
    return found


def explain(error: ClientError) -> str:
    """Return an error's message as one line."""
    if isinstance(error, ProblemError) and error.errors:
        return "; ".join(f"{each['field']}: {each['message']}" for each in error.errors)
    return " ".join(str(error).split())


@contextmanager
def connect(
    url: str | None, retry_seconds: float = 10, first_contact_seconds: float | None = None
) -> Iterator[Client]:
    """Open a client as a context manager. A `ClientError` in the context ends the program.

    The program then prints one line and exits with code 1.

    Args:
        url: the service's URL; None for the URL in the environment, or if there is none, for the
            default URL.
        retry_seconds: how long the client tries to reach a service that has stopped answering.
        first_contact_seconds: how long the client tries to make its first connection; None for
            ``retry_seconds``.
    """
    try:
        with Client(
            url, retry_seconds=retry_seconds, first_contact_seconds=first_contact_seconds
        ) as client:
            yield client
    except ClientError as error:
        raise fail(explain(error)) from error


def print_json(value: Any) -> None:
    """Print a value as one line of JSON."""
    print(json.dumps(value, ensure_ascii=False), flush=True)


def print_how_to_go_on(command_id: str) -> None:
    """Print to stderr the shell command that shows the rest of a command's output."""
    print(f"to go on: scriptservice logs -f {command_id}", file=sys.stderr)
