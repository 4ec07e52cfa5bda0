"""``scriptservice login``: keeps the token of a service for this user."""

import getpass
import os
import sys
from typing import Annotated

import typer

from scriptservice.cli.exit_codes import INTERRUPTED, USAGE, fail
from scriptservice.cli.options import URL_NAME, connect
from scriptservice.client.connection import DEFAULT_URL
from scriptservice.client.problems import UnauthenticatedError
from scriptservice.client.tokens import TOKEN_NAME, keep_token


def login(
    url: Annotated[
        str | None,
        typer.Argument(
            metavar="URL",
            envvar=URL_NAME,
            help="address of the service; default http://127.0.0.1:8000",
        ),
    ] = None,
) -> None:
    """Ask for the token of a service, check it, and keep it for this user.

    The other verbs then find the token by the address. SCRIPTSERVICE_TOKEN takes precedence. If
    standard input is not a terminal, the token is read from its first line. The token is kept in a
    file with mode 0600 in $XDG_CONFIG_HOME/scriptservice/tokens.
    """
    address = url or DEFAULT_URL
    token = _ask_for_token(address)
    if not token:
        raise fail("cannot log in: no token was given", USAGE)
    with connect(url, token=token) as client:
        address = client.url
        try:
            client.hosts()
        except UnauthenticatedError as error:
            message = f"cannot log in to {address}: the service does not accept this token"
            raise fail(message) from error
    try:
        path = keep_token(address, token, os.environ)
    except OSError as error:
        raise fail(f"cannot keep the token: {error.filename}: {error.strerror}") from error
    print(f"The token for {address} is kept in {path}")
    if os.environ.get(TOKEN_NAME):
        print(f"{TOKEN_NAME} is set and takes precedence; unset it to use the kept token")
    if address not in (DEFAULT_URL, os.environ.get(URL_NAME, "").rstrip("/")):
        print(f"To use this service: export {URL_NAME}={address}")


def _ask_for_token(address: str) -> str:
    """Return the token that the user types, or the first line of stdin if it is not a terminal."""
    if not sys.stdin.isatty():
        return sys.stdin.readline().strip()
    try:
        return getpass.getpass(f"Token for {address} (not shown): ").strip()
    except (KeyboardInterrupt, EOFError) as error:
        print(file=sys.stderr)
        raise fail("interrupted; no token was kept", INTERRUPTED) from error
