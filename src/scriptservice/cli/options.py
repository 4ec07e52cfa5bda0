"""Options of the client's verbs, their connection to the service, and their error messages."""

import json
import os
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated, Any

import typer

from scriptservice.cli.exit_codes import REFUSED, USAGE, fail
from scriptservice.cli.units import parse_duration
from scriptservice.client import Client
from scriptservice.client.problems import (
    ClientError,
    ConnectionLostError,
    UnauthenticatedError,
)
from scriptservice.client.tokens import TOKEN_NAME, find_token

URL_NAME = "SCRIPTSERVICE_URL"

_ERROR_NUMBER = re.compile(r"\[Errno -?\d+\] ")

RETRY_SECONDS = 300.0
"""How long a verb that follows a command tries to reach a service that has stopped answering."""
FIRST_CONTACT_SECONDS = 10.0
"""How long a verb tries to make its first connection. The time is short, because perhaps no service
runs at that address.
"""


def duration_option(help_text: str, *names: str) -> Any:
    """Return an option whose value is a duration, in seconds.

    Args:
        help_text: the option's help text.
        names: the option's names; without names, the option has the name of the parameter.
    """
    return typer.Option(*names, parser=parse_duration, metavar="DURATION", help=help_text)


Url = Annotated[
    str | None,
    typer.Option(
        "--url",
        envvar=URL_NAME,
        metavar="URL",
        help="address of the service; default http://127.0.0.1:8000",
    ),
]
AsJson = Annotated[bool, typer.Option("--json", help="print JSON, for programs")]
Raw = Annotated[bool, typer.Option("--raw", help="do not filter terminal escape sequences")]
Label = Annotated[
    list[str] | None,
    typer.Option("--label", metavar="KEY=VALUE", help="a label; may be repeated"),
]
CommandId = Annotated[
    str, typer.Argument(metavar="ID", help="id of the command, or its beginning or end")
]
CommandIds = Annotated[
    list[str] | None,
    typer.Argument(metavar="ID...", help="ids of commands, or their beginnings or ends"),
]
RetrySeconds = Annotated[
    float | None,
    duration_option("how long to keep trying while the service does not answer; default 5m"),
]


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
            raise fail(f"cannot use {option} {text}: write it as KEY=VALUE", USAGE)
        found[key] = value
    return found


def explain(error: ClientError) -> str:
    """Return an error's message as one line."""
    return " ".join(_ERROR_NUMBER.sub("", str(error)).split())


@contextmanager
def connect(
    url: str | None,
    retry_seconds: float = 10,
    first_contact_seconds: float | None = None,
    *,
    token: str | None = None,
    exit_code: int = REFUSED,
) -> Iterator[Client]:
    """Open a client as a context manager. A `ClientError` in the context ends the program.

    Before it ends, the program prints the error on one line. If the first connection cannot be made
    at once, the program prints the URL that it tries and for how long.

    Args:
        url: the service's URL; None for the URL in the environment, or if there is none, for the
            default URL.
        retry_seconds: how long the client tries to reach a service that has stopped answering.
        first_contact_seconds: how long the client tries to make its first connection; None for
            ``retry_seconds``.
        token: the access token; None to look for it.
        exit_code: the program's exit code if a `ClientError` ends it.
    """
    was_unreachable = False

    def say_trying(seconds: float) -> None:
        nonlocal was_unreachable
        was_unreachable = True
        print(f"scriptservice: trying {client.url}, {seconds:g} s", file=sys.stderr, flush=True)

    try:
        with Client(
            url,
            token,
            retry_seconds=retry_seconds,
            first_contact_seconds=first_contact_seconds,
            on_unreachable=say_trying,
        ) as client:
            yield client
    except UnauthenticatedError as error:
        raise fail(_explain_token(client.url), exit_code) from error
    except ConnectionLostError as error:
        hint = "; is the service running, and is this its address?" if was_unreachable else ""
        raise fail(explain(error) + hint, exit_code) from error
    except ClientError as error:
        raise fail(explain(error), exit_code) from error


def _explain_token(url: str) -> str:
    """Return why a service refuses this program's token, and what to do, as one line."""
    lookup = find_token(url, os.environ, os.geteuid())
    login = f"log in with: scriptservice login {url}"
    if lookup.token is None:
        return f"cannot use {url}: no token found; looked in {', '.join(lookup.missing)}; {login}"
    if lookup.source == TOKEN_NAME:
        login = f"correct it, or unset it and {login}"
    return f"cannot use {url}: the service does not accept the token in {lookup.source}; {login}"


def print_json(value: Any) -> None:
    """Print a value as one line of JSON."""
    print(json.dumps(value, ensure_ascii=False), flush=True)


def print_how_to_go_on(command_id: str) -> None:
    """Print to stderr the shell command that shows the rest of a command's output."""
    print(f"to follow it again: scriptservice logs -f {command_id}", file=sys.stderr)
