"""What the server is told; light, since the command line fills it in."""

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class ServerConfig:
    """What the server is told by the command line, through the keeper.

    Attributes:
        data_dir: the data directory.
        database: URL.
        migrate: whether its schema is brought up to date where that is not done unasked.
        start_queued: whether what waited in an older database that was put back may start.
        host_name: this machine's name among hosts.
        max_running: commands that may run at once, None for as many as the keeper can.
        min_free_bytes: disk space below which submits are refused.
        hosts: names of the service in requests, besides localhost: ``--host`` and the allowed ones.
        sign_in_link: whether each start prints a link that signs in.
        log_level: what is logged.
        log_format: how: json or console.
        max_connections: of clients at once, None for the default.
        first_token: the admin token of a database that has none yet; None: a random one.
    """

    data_dir: str
    database: str
    migrate: bool
    start_queued: bool
    host_name: str
    max_running: int | None
    min_free_bytes: int
    log_level: str
    log_format: str
    first_token: str | None = field(default=None, repr=False)
    # Later ones have defaults: a hand-over of an earlier release has no values for them.
    hosts: list[str] = field(default_factory=list)
    sign_in_link: bool = True
    max_connections: int | None = None
