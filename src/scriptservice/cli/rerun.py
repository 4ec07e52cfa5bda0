"""``scriptservice rerun``: submits a command again."""

from scriptservice.cli.command_ids import full_id
from scriptservice.cli.options import AsJson, CommandId, Url, connect, print_json


def rerun(command: CommandId, as_json: AsJson = False, url: Url = None) -> None:
    """Submit a command's script again with the same options, and print the new id."""
    with connect(url) as client:
        new = client.rerun(full_id(client, command))
    print_json(new.raw) if as_json else print(new.id)
