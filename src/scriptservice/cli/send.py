"""``scriptservice send``: sends standard input to an interactive command."""

from typing import Annotated

import typer

from scriptservice.cli.command_ids import full_id
from scriptservice.cli.input_feeder import read_stdin, send_piece
from scriptservice.cli.options import CommandId, Url, connect


def send(
    command: CommandId,
    close: Annotated[
        bool, typer.Option("--close", help="close the command's input after the last byte")
    ] = False,
    url: Url = None,
) -> None:
    """Send standard input to an interactive command that runs.

    The input of the command stays open, unless --close is given: then its script reads the end of
    its input, and a script on a terminal gets Ctrl-D. While the script does not read, the verb
    waits.
    """
    with connect(url) as client:
        command_id = full_id(client, command)
        # At least one request is sent, so that an error of the command or its id is reported.
        data, offset = read_stdin(), None
        while data:
            offset = send_piece(client, command_id, data, offset, close=False)
            data = read_stdin()
        if close or offset is None:
            send_piece(client, command_id, b"", offset, close=close)
