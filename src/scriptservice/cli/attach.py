"""``scriptservice attach``: connects this terminal with an interactive command."""

import typer

from scriptservice.cli.attached_terminal import AttachedTerminal
from scriptservice.cli.command_ids import full_id
from scriptservice.cli.options import (
    FIRST_CONTACT_SECONDS,
    RETRY_SECONDS,
    CommandId,
    RetrySeconds,
    Url,
    connect,
)


def attach(command: CommandId, retry_seconds: RetrySeconds = None, url: Url = None) -> None:
    """Attach to an interactive command: show its output, and send what is typed or piped in.

    Output begins with what the command prints next. If the command has a terminal, all keys go to
    it, also Ctrl-C, and its size follows the window. Ctrl-] detaches: the command continues, and
    the exit code is 0. If the command ends, the exit code is that of run. Several terminals may be
    attached to one command; all show the same output.
    """
    patience = RETRY_SECONDS if retry_seconds is None else retry_seconds
    with connect(url, patience, FIRST_CONTACT_SECONDS) as client:
        command_id = full_id(client, command)
        has_pty = client.get(command_id).pty is not None
        code = AttachedTerminal(client, command_id, after=None, has_pty=has_pty).attend()
    raise typer.Exit(code)
