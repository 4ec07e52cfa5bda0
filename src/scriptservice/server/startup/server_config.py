"""The server's configuration.

The command line makes a `ServerConfig`, and the keeper passes it to the server. The command line
has to start fast, so this module imports nothing that takes long to import.
"""

from dataclasses import dataclass, field

from scriptservice.model import DEFAULT_OUTPUT_LIMIT_BYTES


@dataclass(frozen=True, slots=True)
class ServerConfig:
    """The settings that the keeper passes to the server.

    Attributes:
        data_dir: the data directory.
        database: the database's URL.
        migrate: whether to migrate a PostgreSQL database too; SQLite is always migrated.
        start_queued: whether queued commands of a restored database may start.
        host_name: this machine's name in the list of hosts.
        max_running: how many commands may run at the same time; None for as many as the keeper can
            run.
        min_free_bytes: free disk space below which submissions are refused; None for a share of
            the file system, see `DiskSpace`.
        hosts: names besides localhost that a request's Host header may contain: those of
            ``--host`` and ``--allowed-host``.
        sign_in_link: whether each start prints a sign-in link.
        log_level: debug, info, warning or error.
        log_format: json or console.
        max_connections: how many client connections may be open at the same time; None for the
            default.
        output_limit_bytes: output limit of a command whose submission names no limit.
        max_timeout_seconds: see `Maxima`, also for the following four.
        max_grace_seconds: largest grace period.
        max_output_limit_bytes: largest limit of the output.
        max_script_bytes: largest script.
        max_interactive: how many interactive commands may be unfinished at a time.
        keep_days: how long finished commands are kept after their end, in days; None for ever.
        keep_commands: how many finished commands are kept; None for all.
        keep_output_bytes: how much stored output of finished commands is kept; None for all.
        first_token: the admin token for a database that has no token yet; None for a random token.
    """

    data_dir: str
    database: str
    migrate: bool
    start_queued: bool
    host_name: str
    max_running: int | None
    min_free_bytes: int | None
    log_level: str
    log_format: str
    first_token: str | None = field(default=None, repr=False)
    # Fields that were added later have defaults, because a keeper of an earlier release hands over
    # a configuration without these fields.
    hosts: list[str] = field(default_factory=list)
    sign_in_link: bool = True
    max_connections: int | None = None
    output_limit_bytes: int = DEFAULT_OUTPUT_LIMIT_BYTES
    max_timeout_seconds: float | None = None
    max_grace_seconds: float | None = None
    max_output_limit_bytes: int | None = None
    max_script_bytes: int | None = None
    max_interactive: int | None = None
    keep_days: float | None = None
    keep_commands: int | None = None
    keep_output_bytes: int | None = None
