"""``scriptservice hosts``: lists the machines that run commands."""

from datetime import datetime

from scriptservice.cli.options import AsJson, Url, connect, print_json
from scriptservice.cli.table import Column, print_rows
from scriptservice.cli.terminal import printable
from scriptservice.cli.units import format_moment
from scriptservice.client import Host

COLUMNS = (
    Column("NAME"),
    Column("STATUS", styles={"up": "green", "silent": "red", "draining": "yellow"}),
    Column("RUNNING"),
    Column("CAPACITY"),
    Column("LAST SEEN", drop=2),
    Column("VERSION", drop=1),
)


def hosts(as_json: AsJson = False, url: Url = None) -> None:
    """List the hosts, and how many commands run on each."""
    with connect(url) as client:
        found = client.hosts()
    if as_json:
        print_json([host.raw for host in found])
    else:
        print_rows(COLUMNS, [_cells(host) for host in found], if_empty="No hosts.")


def _cells(host: Host) -> tuple[str, ...]:
    """Return the cells of a host's row, in the order of `COLUMNS`."""
    seen = host.raw.get("last_seen_at")
    return (
        printable(host.name),
        host.status,
        str(host.running),
        "unlimited" if host.capacity is None else str(host.capacity),
        format_moment(datetime.fromisoformat(seen)) if seen else "",
        str(host.raw.get("version") or ""),
    )
