"""The keeper's configuration: one frozen object, read from an inherited descriptor.

``cli.serve`` makes the object from the settings. The keeper reads no environment variables.
"""

import json
import os
from dataclasses import asdict, dataclass, field
from typing import Any

RESERVE_BYTES = 64 << 20
"""While the disk has less free space than this, in bytes, scripts that print output wait.

The service needs this space to store how scripts end, and to delete commands.
"""


@dataclass(frozen=True, slots=True)
class KeeperConfig:
    """The keeper's configuration.

    Attributes:
        data_dir: the data directory, absolute.
        listen_host: address of the listening socket; None for a worker, which has no socket.
        listen_port: port of the listening socket; with 0 the kernel chooses one.
        child_argv: the program of the child and its leading arguments.
        child_config: the child's configuration; the keeper only passes it on.
        run_as: name or number of the user that scripts run as; None for the user that
            `script_user` chooses.
        script_uid: number of the user and group of scripts. The number is used only if ``run_as``
            is None, the service runs as root, and no user ``scriptservice`` exists.
        no_new_privileges: whether set-uid programs, such as sudo, give scripts no further rights.
        use_cgroups: whether to use cgroup2 where it is writable.
        use_launcher: whether to start scripts through the program that is built from ``launcher/``,
            if that program works. Otherwise the keeper forks.
        shutdown_grace_seconds: the longest time between the signal of a shutdown and SIGKILL. If a
            command's own grace period is shorter, the command gets the shorter period.
        spool_limit_bytes: no output is read while more than this many bytes of the journal are not
            yet stored in the database.
        reserve_bytes: no output is read while the disk has less free space than this.
        path: ``PATH`` of scripts.
        lang: ``LANG`` of scripts.
        log_level: debug, info, warning or error.
        log_format: ``json`` or ``console``.
        host_name: the name of this host, for the log.
        notify_socket: address of the service manager's datagram socket; None if there is no
            service manager.
        watchdog_seconds: the service manager ends a keeper that sends no notification for this
            time; None if the service manager has no watchdog.
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
    reserve_bytes: int = RESERVE_BYTES
    path: str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
    lang: str = "C.UTF-8"
    log_level: str = "info"
    log_format: str = "console"
    host_name: str = ""
    notify_socket: str | None = None
    watchdog_seconds: float | None = None

    def to_descriptor(self) -> int:
        """Write the configuration to a file in memory; return a descriptor of the file.

        An exec keeps the descriptor open, and `from_descriptor` reads the file. The configuration
        is not passed on the command line, since it may contain a database password, and every user
        can see command lines.
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
