"""``scriptservice stop``: stops commands by id, or all commands that have a label."""

import sys
from typing import Annotated

import typer

from scriptservice.cli.command_ids import full_id, short_id
from scriptservice.cli.exit_codes import REFUSED, USAGE, fail
from scriptservice.cli.options import (
    AsJson,
    CommandIds,
    Label,
    Url,
    connect,
    duration_option,
    key_values,
    print_json,
)
from scriptservice.client import Client
from scriptservice.client.problems import AlreadyFinishedError


def stop(
    commands: CommandIds = None,
    signal: Annotated[
        str | None, typer.Option(metavar="SIGNAL", help="first signal, such as INT; default TERM")
    ] = None,
    grace: Annotated[
        float | None,
        duration_option("time from the signal to SIGKILL; 0 kills at once"),
    ] = None,
    label: Label = None,
    every: Annotated[
        bool, typer.Option("--all", help="stop all commands that have the labels")
    ] = False,
    as_json: AsJson = False,
    url: Url = None,
) -> None:
    """Stop commands.

    The process group of each command gets the signal. Processes of the command that still run
    after the grace period get SIGKILL.
    """
    if bool(commands) == bool(label) or bool(label) != every:
        raise fail("cannot tell what to stop: give ids, or --label KEY=VALUE with --all", USAGE)
    refused = False
    with connect(url) as client:
        found = _ids(client, commands, label)
        if not found:
            print("scriptservice: no unfinished command has these labels", file=sys.stderr)
        for command_id in found:
            try:
                command = client.stop(command_id, signal=signal, grace_seconds=grace)
            except AlreadyFinishedError as error:
                if not every:  # With --all, the command has ended since the list was read.
                    refused = True
                    fail(str(error))
                continue
            if as_json:
                print_json(command.raw)
            else:
                print(f"{short_id(command.id)} {command.status}")
    if refused:
        raise typer.Exit(REFUSED)


def _ids(client: Client, commands: list[str] | None, label: list[str] | None) -> list[str]:
    """Return the ids of the commands to stop."""
    if commands:
        return [full_id(client, text) for text in commands]
    unfinished = client.list(
        status=["queued", "running", "stopping"],
        labels=key_values("--label", label),
        page_size=1000,
    )
    return [command.id for command in unfinished]
