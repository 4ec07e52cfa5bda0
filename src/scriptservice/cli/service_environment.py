"""Reads environment variables that are not settings: the first token and the manager's variables.

The token is not a setting, because other users could see it on a command line or in a settings
file. The service manager sets its variables for this process only. Only ``cli.serve`` calls this
module. It does not pass these variables on to the keeper's environment.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from scriptservice.errors import ConfigurationError

TOKEN_NAME = "SCRIPTSERVICE_TOKEN"  # noqa: S105 - the variable's name
MANAGER_NAMES = ("NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID")

# Clients send the token in a header. HTTP strips spaces at both ends of a header's value, and
# different clients send the same bytes only for ASCII characters.
_TOKEN = re.compile(r"[\x21-\x7e]{16,256}")


@dataclass(frozen=True, slots=True)
class ServiceEnvironment:
    """The values that ``serve`` reads from environment variables besides the settings.

    Attributes:
        first_token: the admin token for a database that has no token yet; None for a random token.
        notify_socket: path of the service manager's datagram socket; None without a service
            manager.
        watchdog_seconds: if this process sends no notification for this time, the service manager
            kills the process; None if the service manager does not do this.
    """

    first_token: str | None = field(repr=False)
    notify_socket: str | None
    watchdog_seconds: float | None


def read_environment(environment: Mapping[str, str], pid: int) -> ServiceEnvironment:
    """Read the variables of an environment that the service uses.

    Args:
        environment: the environment variables.
        pid: the id of this process. This process later becomes the keeper and keeps its id.

    Raises:
        ConfigurationError: the token is too short or too long, or has invalid characters.
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
    """Return an environment without the variables that `read_environment` reads."""
    read = {TOKEN_NAME, *MANAGER_NAMES}
    return {name: value for name, value in environment.items() if name not in read}


def _watchdog_seconds(environment: Mapping[str, str], pid: int) -> float | None:
    # If another service started this process, the process may have inherited that service's
    # variables. WATCHDOG_PID then names another process, and no watchdog watches this process.
    if environment.get("WATCHDOG_PID", str(pid)) != str(pid):
        return None
    microseconds = environment.get("WATCHDOG_USEC", "")
    return (
        int(microseconds) / 1_000_000 if re.fullmatch(r"[1-9][0-9]{0,17}", microseconds) else None
    )
