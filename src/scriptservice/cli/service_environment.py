"""Environment variables that are not settings: the first token, and the service manager's.

The token is not a setting, because other users could see it on a command line or in a settings
file. The service manager sets its variables for this process only. Only ``cli.serve`` calls this
module, and it removes all these variables from the keeper's environment.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from scriptservice.errors import ConfigurationError

TOKEN_NAME = "SCRIPTSERVICE_TOKEN"  # noqa: S105 - the variable's name
MANAGER_NAMES = ("NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID")

# Clients send the token in a header. HTTP strips spaces at both ends of a header's value, and only
# ASCII characters have the same bytes with every client.
_TOKEN = re.compile(r"[\x21-\x7e]{16,256}")


@dataclass(frozen=True, slots=True)
class ServiceEnvironment:
    """The values that ``serve`` reads from environment variables besides the settings.

    Attributes:
        first_token: the admin token for a database that has no token yet; None for a random token.
        notify_socket: path of the service manager's datagram socket; None without a service
            manager.
        watchdog_seconds: seconds without a notification after which the service manager kills
            this process; None if it never does.
    """

    first_token: str | None = field(repr=False)
    notify_socket: str | None
    watchdog_seconds: float | None


def read_environment(environment: Mapping[str, str], pid: int) -> ServiceEnvironment:
    """Return the values that an environment has for a process.

    Args:
        environment: the environment variables.
        pid: the process's id, which stays the same when the process executes the keeper.

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
    # A process may inherit these variables from another service that started it. Then WATCHDOG_PID
    # names that service's process, and the watchdog does not watch this process.
    if environment.get("WATCHDOG_PID", str(pid)) != str(pid):
        return None
    microseconds = environment.get("WATCHDOG_USEC", "")
    return (
        int(microseconds) / 1_000_000 if re.fullmatch(r"[1-9][0-9]{0,17}", microseconds) else None
    )
