"""``stop``, ``rerun`` and ``delete``: what changes commands."""

from typing import Annotated

import typer

from scriptservice.cli.command_ids import SHORT, full_id
from scriptservice.cli.options import (
    NO,
    USAGE,
    AsJson,
    Label,
    Url,
    fail,
    pairs,
    print_json,
    service,
)
from scriptservice.client import Client
from scriptservice.client.problems import AlreadyFinishedError, ProblemError

Ids = Annotated[list[str] | None, typer.Argument(help="ids, or their beginnings or ends")]


def stop(
    commands: Ids = None,
    signal: Annotated[str | None, typer.Option(help="a name such as TERM")] = None,
    grace: Annotated[
        float | None, typer.Option(help="seconds from the signal to SIGKILL; 0 kills at once")
    ] = None,
    label: Label = None,
    every: Annotated[bool, typer.Option("--all", help="all that have the labels")] = False,
    as_json: AsJson = False,
    url: Url = None,
) -> None:
    """Stop commands: signal, grace, SIGKILL of the whole tree."""
    if bool(commands) == bool(label) or bool(label) != every:
        raise fail("cannot tell what to stop: give ids, or --label KEY=VALUE with --all", USAGE)
    refused = False
    with service(url) as client:
        for command in _ids(client, commands, label):
            try:
                found = client.stop(command, signal=signal, grace_seconds=grace)
            except AlreadyFinishedError as error:
                if not every:  # it ended between the list and the stop: nothing to complain about
                    refused = True
                    fail(str(error))
                continue
            if as_json:
                print_json(found.raw)
            else:
                print(f"{found.id[-SHORT:]} {found.status}")
    if refused:
        raise typer.Exit(NO)


def _ids(client: Client, commands: list[str] | None, label: list[str] | None) -> list[str]:
    if commands:
        return [full_id(client, command) for command in commands]
    open_ones = client.list(
        status=["queued", "running", "stopping"],
        labels=pairs("--label", label),
        page_size=1000,
    )
    return [command.id for command in open_ones]


def rerun(
    command: Annotated[str, typer.Argument(help="an id, or its beginning or end")],
    as_json: AsJson = False,
    url: Url = None,
) -> None:
    """Submit the same again; prints the new id."""
    with service(url) as client:
        found = client.rerun(full_id(client, command))
    print_json(found.raw) if as_json else print(found.id)


def delete(commands: Ids = None, as_json: AsJson = False, url: Url = None) -> None:
    """Delete finished commands and their output."""
    if not commands:
        raise fail("cannot delete nothing: give ids", USAGE)
    refused = False
    with service(url) as client:
        for command in [full_id(client, each) for each in commands]:
            try:
                client.delete(command)
            except ProblemError as error:
                refused = True
                fail(str(error))
                continue
            if as_json:
                print_json({"id": command, "deleted": True})
    if refused:
        raise typer.Exit(NO)
