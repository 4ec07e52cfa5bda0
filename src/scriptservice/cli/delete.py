"""``scriptservice delete``: deletes finished commands and their output."""

import typer

from scriptservice.cli.command_ids import full_id
from scriptservice.cli.exit_codes import REFUSED, USAGE, fail
from scriptservice.cli.options import AsJson, CommandIds, Url, connect, print_json
from scriptservice.client.problems import ProblemError


def delete(commands: CommandIds = None, as_json: AsJson = False, url: Url = None) -> None:
    """Delete finished commands and their output."""
    if not commands:
        raise fail("cannot delete nothing: give ids", USAGE)
    refused = False
    with connect(url) as client:
        for command_id in [full_id(client, text) for text in commands]:
            try:
                client.delete(command_id)
            except ProblemError as error:
                refused = True
                fail(str(error))
                continue
            if as_json:
                print_json({"id": command_id, "deleted": True})
    if refused:
        raise typer.Exit(REFUSED)
