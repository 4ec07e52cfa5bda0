"""The server's configuration.

The command line fills it in and the keeper passes it on, so this module imports nothing heavy.
"""

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class ServerConfig:
    """The settings that the keeper passes to the server.

    Attributes:
        data_dir: the data directory.
        database: the database's URL.
        migrate: whether to migrate the schema of a database that is not migrated by default.
        start_queued: whether queued commands of a restored database may start.
        host_name: this machine's name among the hosts.
        max_running: how many commands may run at once; None: as many as the keeper can run.
        min_free_bytes: free disk space below which submissions are refused.
        hosts: names of the service in requests, besides localhost: ``--host`` and the allowed ones.
        sign_in_link: whether each start prints a sign-in link.
        log_level: debug, info, warning or error.
        log_format: json or console.
        max_connections: how many client connections may be open at once; None: the default.
        first_token: the admin token for a database that has no token yet; None: a random one.
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
    # Fields that were added later have defaults: a hand-over of an earlier release lacks them.
    hosts: list[str] = field(default_factory=list)
    sign_in_link: bool = True
    max_connections: int | None = None
