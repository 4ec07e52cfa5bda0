"""What the client verbs have in common: options, the connection, one clear line for an error."""

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated, Any

import typer

from scriptservice.client import Client
from scriptservice.client.problems import ClientError, ProblemError

URL_NAME = "SCRIPTSERVICE_URL"
TOKEN_NAME = "SCRIPTSERVICE_TOKEN"  # noqa: S105 - its name

Url = Annotated[
    str | None,
    typer.Option("--url", envvar=URL_NAME, help="the service; default http://127.0.0.1:8000"),
]
AsJson = Annotated[bool, typer.Option("--json", help="print JSON, for programs")]
Label = Annotated[
    list[str] | None, typer.Option("--label", metavar="KEY=VALUE", help="may be repeated")
]

NO = 1
USAGE = 2


def fail(message: str, code: int = NO) -> typer.Exit:
    """Print one line to stderr; return what to raise."""
    print(f"scriptservice: {message}", file=sys.stderr)
    return typer.Exit(code)


def pairs(option: str, texts: list[str] | None) -> dict[str, str]:
    """Return ``KEY=VALUE`` texts as a dictionary.

    Raises:
        typer.Exit: one has no ``=``.
    """
    found = {}
    for text in texts or []:
        key, equals, value = text.partition("=")
        if not equals:
            raise fail(f"cannot use {option} {text}: it must be KEY=VALUE", USAGE)
        found[key] = value
    return found


def explain(error: ClientError) -> str:
    """Return what went wrong as one line."""
    if isinstance(error, ProblemError) and error.errors:
        return "; ".join(f"{each['field']}: {each['message']}" for each in error.errors)
    return " ".join(str(error).split())


@contextmanager
def service(
    url: str | None, retry_seconds: float = 10, first_contact_seconds: float | None = None
) -> Iterator[Client]:
    """Give a client; what it raises ends the program with one line.

    Args:
        url: None for the environment's or the default.
        retry_seconds: how long to go on while nothing is heard of the service.
        first_contact_seconds: how long while no connection could be made yet; None for the same.
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
