"""The keeper's configuration: one frozen object, read from an inherited descriptor.

``cli.serve`` fills it in from the settings. The keeper reads no environment variables.
"""

import json
import os
from dataclasses import asdict, dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class KeeperConfig:
    """The keeper's configuration.

    Attributes:
        data_dir: the data directory, absolute.
        listen_host: address of the listening socket; None for a worker, which has no socket.
        listen_port: its port; 0 lets the kernel choose.
        child_argv: the program of the child and its leading arguments.
        child_config: the child's configuration, which the keeper passes on and does not read.
        run_as: user name or number for scripts; None for the default of the service's own user.
        script_uid: numeric user and group for scripts when the service is root and there is no
            user ``scriptservice``.
        no_new_privileges: whether set-uid programs have no effect in scripts.
        use_cgroups: whether to use cgroup2 where it is writable.
        use_launcher: whether to start scripts by the launcher where it was built.
        shutdown_grace_seconds: the longest grace of a script at shutdown.
        spool_limit_bytes: unrecorded journal beyond which output is no longer read.
        reserve_bytes: free disk space below which output is no longer read.
        path: ``PATH`` of scripts.
        lang: ``LANG`` of scripts.
        log_level: debug, info, warning or error.
        log_format: ``json`` or ``console``.
        host_name: this machine's name among hosts, for the log.
        notify_socket: datagram socket of the service manager, None for none.
        watchdog_seconds: the service manager ends a keeper that sends nothing for this time; None
            if it does not.
    """

    data_dir: str
    listen_host: str | None
    listen_port: int
    child_argv: list[str]
    child_config: dict[str, Any] = field(default_factory=dict)
    run_as: str | None = None
    script_uid: int = 59999
    no_new_privileges: bool = True
    use_cgroups: bool = True
    use_launcher: bool = True
    shutdown_grace_seconds: float = 30
    spool_limit_bytes: int = 8 << 30
    reserve_bytes: int = 8 << 20
    path: str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
    lang: str = "C.UTF-8"
    log_level: str = "info"
    log_format: str = "console"
    host_name: str = ""
    notify_socket: str | None = None
    watchdog_seconds: float | None = None

    def to_descriptor(self) -> int:
        """Return the descriptor of an inheritable file in memory, for `from_descriptor`.

        The configuration may contain a database password, which a command line would show.
        """
        descriptor = os.memfd_create("scriptservice-config", os.MFD_CLOEXEC)
        os.write(descriptor, json.dumps(asdict(self)).encode())
        os.lseek(descriptor, 0, os.SEEK_SET)
        os.set_inheritable(descriptor, True)  # noqa: FBT003
        return descriptor

    @classmethod
    def from_descriptor(cls, descriptor: int) -> "KeeperConfig":
        """Read the configuration and close the descriptor."""
        with os.fdopen(descriptor, "rb") as file:
            return cls(**json.load(file))
