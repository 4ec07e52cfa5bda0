"""``scriptservice delete``: deletes finished commands and their output."""

from typing import Annotated

import typer

from scriptservice.cli.command_ids import full_id
from scriptservice.cli.exit_codes import REFUSED, USAGE, fail
from scriptservice.cli.options import (
    AsJson,
    CommandIds,
    Label,
    Url,
    connect,
    key_values,
    print_json,
)
from scriptservice.cli.progress_line import ElapsedLine
from scriptservice.cli.units import parse_moment
from scriptservice.client import Client, Status
from scriptservice.client.problems import NotFoundError, ProblemError


def delete(
    commands: CommandIds = None,
    label: Label = None,
    older_than: Annotated[
        str | None,
        typer.Option(
            parser=parse_moment,
            metavar="DURATION",
            help="all finished commands that were submitted longer ago, such as 30d",
        ),
    ] = None,
    as_json: AsJson = False,
    url: Url = None,
) -> None:
    """Delete finished commands and their output: by id, or all that match a label or an age."""
    if bool(commands) == bool(label or older_than):
        message = "cannot tell what to delete: give ids, or --label KEY=VALUE or --older-than 30d"
        raise fail(message, USAGE)
    with connect(url) as client:
        if commands:
            found = [full_id(client, text) for text in commands]
            refused = [each for each in found if not _delete(client, each, as_json=as_json)]
            is_complete = not refused
        else:
            is_complete = _delete_all(client, label, older_than, as_json=as_json)
    if not is_complete:
        raise typer.Exit(REFUSED)


def _delete(client: Client, command_id: str, *, as_json: bool) -> bool:
    """Delete a command; return whether the service did it."""
    try:
        client.delete(command_id)
    except ProblemError as error:
        fail(str(error))
        return False
    if as_json:
        print_json({"id": command_id, "deleted": True})
    return True


def _delete_all(
    client: Client, label: list[str] | None, older_than: str | None, *, as_json: bool
) -> bool:
    """Delete the finished commands that match; return whether the service deleted all of them."""
    found = client.list(
        status=[status for status in Status if status.final],
        labels=key_values("--label", label),
        created_before=older_than,
        page_size=1000,
    )
    deleted, is_complete = 0, True
    with ElapsedLine("deleting commands") as line:
        for command in found:
            try:
                client.delete(command.id)
            except NotFoundError:
                continue  # somebody else has deleted it since the list was read
            except ProblemError as error:
                line.clear()
                fail(str(error))
                is_complete = False
                continue
            deleted += 1
            if as_json:
                print_json({"id": command.id, "deleted": True})
    if not as_json:
        print(f"deleted {deleted} {'command' if deleted == 1 else 'commands'}")
    return is_complete
