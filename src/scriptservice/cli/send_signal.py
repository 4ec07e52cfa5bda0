"""``scriptservice signal``: sends a signal to the script of a command."""

from typing import Annotated

import typer

from scriptservice.cli.command_ids import full_id, short_id
from scriptservice.cli.options import AsJson, CommandId, Url, connect, print_json


def send_signal(
    command: CommandId,
    signal: Annotated[
        str, typer.Argument(metavar="SIGNAL", help="name of the signal, such as HUP or SIGHUP")
    ],
    as_json: AsJson = False,
    url: Url = None,
) -> None:
    """Send a signal to the process group of a running script."""
    with connect(url) as client:
        sent = client.signal(full_id(client, command), signal)
        if as_json:
            print_json(sent.raw)
        else:
            print(f"{short_id(sent.id)} {sent.status}")
