"""Variables that ``serve`` reads beside the settings: the first token, the service manager's.

They are not settings: others would see a token on a command line or in a settings file, and the
service manager sets its variables for this one process. Only ``cli.serve`` calls this module; it
passes none of these variables on in an environment.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from scriptservice.errors import ConfigurationError

TOKEN_NAME = "SCRIPTSERVICE_TOKEN"  # noqa: S105 - the variable's name
MANAGER_NAMES = ("NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID")

# A header carries the token: HTTP strips spaces at the ends, and only ASCII is unambiguous there.
_TOKEN = re.compile(r"[\x21-\x7e]{16,256}")


@dataclass(frozen=True, slots=True)
class ServiceEnvironment:
    """The variables that ``serve`` reads beside the settings.

    Attributes:
        first_token: the admin token for a database that has no token yet; None for a random one.
        notify_socket: datagram socket of the service manager; None where there is none.
        watchdog_seconds: the service manager ends this process after that much silence; None:
            never.
    """

    first_token: str | None = field(repr=False)
    notify_socket: str | None
    watchdog_seconds: float | None


def read_environment(environment: Mapping[str, str], pid: int) -> ServiceEnvironment:
    """Return what an environment says to a process.

    Args:
        environment: its variables.
        pid: of the process. It stays the same when the process becomes the keeper.

    Raises:
        ConfigurationError: the token cannot be used.
    """
    token = environment.get(TOKEN_NAME) or None
    if token is not None and not _TOKEN.fullmatch(token):
        message = f"cannot use {TOKEN_NAME}: it must be 16 to 256 visible ASCII characters"
        raise ConfigurationError(message)
    return ServiceEnvironment(
        first_token=token,
        notify_socket=environment.get("NOTIFY_SOCKET") or None,
        watchdog_seconds=_watchdog_seconds(environment, pid),
    )


def without_service_variables(environment: Mapping[str, str]) -> dict[str, str]:
    """Return an environment without these variables, for every process from here on."""
    read = {TOKEN_NAME, *MANAGER_NAMES}
    return {name: value for name, value in environment.items() if name not in read}


def _watchdog_seconds(environment: Mapping[str, str], pid: int) -> float | None:
    # A process that another service of the manager started inherits a watchdog that is not its own.
    if environment.get("WATCHDOG_PID", str(pid)) != str(pid):
        return None
    microseconds = environment.get("WATCHDOG_USEC", "")
    return (
        int(microseconds) / 1_000_000 if re.fullmatch(r"[1-9][0-9]{0,17}", microseconds) else None
    )
