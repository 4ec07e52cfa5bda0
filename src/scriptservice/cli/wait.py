"""``scriptservice wait``: waits until commands have finished."""

import typer

from scriptservice.cli.command_ids import full_id, short_id
from scriptservice.cli.exit_codes import INTERRUPTED, USAGE, fail
from scriptservice.cli.options import (
    FIRST_CONTACT_SECONDS,
    RETRY_SECONDS,
    AsJson,
    CommandIds,
    RetrySeconds,
    Url,
    connect,
    print_json,
)
from scriptservice.cli.progress_line import ElapsedLine


def wait(
    commands: CommandIds = None,
    retry_seconds: RetrySeconds = None,
    as_json: AsJson = False,
    url: Url = None,
) -> None:
    """Wait until commands have finished, and print the status of each.

    The exit code is 0 once all have finished, whatever their status. Ctrl-C ends the waiting; the
    commands continue.
    """
    if not commands:
        raise fail("cannot wait: give the id of a command", USAGE)
    patience = RETRY_SECONDS if retry_seconds is None else retry_seconds
    with connect(url, patience, FIRST_CONTACT_SECONDS) as client:
        for command_id in [full_id(client, text) for text in commands]:
            try:
                with ElapsedLine(f"waiting for {short_id(command_id)}"):
                    command = client.wait(command_id)
            except KeyboardInterrupt as error:
                raise typer.Exit(INTERRUPTED) from error
            if as_json:
                print_json(command.raw)
            else:
                print(f"{short_id(command.id)} {command.status}", flush=True)
