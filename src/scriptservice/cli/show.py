"""``scriptservice show``: prints all fields of one command."""

import json

from scriptservice.cli.command_ids import full_id
from scriptservice.cli.options import AsJson, CommandId, Url, connect, print_json
from scriptservice.cli.terminal import printable


def show(command: CommandId, as_json: AsJson = False, url: Url = None) -> None:
    """Show all fields of a command, and its script."""
    with connect(url) as client:
        found = client.get(full_id(client, command))
    if as_json:
        print_json(found.raw)
        return
    for name, value in found.raw.items():
        if name != "script" and value not in (None, {}, [], ""):
            text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
            print(f"{name:<22} {printable(text)}")
    print("script")
    for line in (found.script or "").splitlines():
        print(f"    {printable(line)}")
