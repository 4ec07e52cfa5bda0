"""What ``serve`` takes from its environment beside the settings: a first token, a service manager.

These are no settings: a token on a command line or in a file of settings would be seen by others,
and the service manager's variables are between it and this one process. Called by ``cli.serve``
alone, which passes none of them on in an environment.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from scriptservice.errors import ConfigurationError

TOKEN_NAME = "SCRIPTSERVICE_TOKEN"  # noqa: S105 - its name
MANAGER_NAMES = ("NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID")

# It travels in a header, where spaces at an end vanish and nothing but ASCII is the same for all.
_TOKEN = re.compile(r"[\x21-\x7e]{16,256}")


@dataclass(frozen=True, slots=True)
class Given:
    """What the environment gives.

    Attributes:
        token: the admin token that a database without any gets; None: a random one.
        notify_socket: datagram socket of the service manager, None where there is none.
        watchdog_seconds: silence after which the service manager ends this process, None: never.
    """

    token: str | None = field(repr=False)
    notify_socket: str | None
    watchdog_seconds: float | None


def read_environment(environment: Mapping[str, str], pid: int) -> Given:
    """Return what an environment gives to a process.

    Args:
        environment: its variables.
        pid: of the process, which stays the same when it becomes the keeper.

    Raises:
        ConfigurationError: the token is none that can be used.
    """
    token = environment.get(TOKEN_NAME) or None
    if token is not None and not _TOKEN.fullmatch(token):
        message = f"cannot use {TOKEN_NAME}: it must be 16 to 256 visible ASCII characters"
        raise ConfigurationError(message)
    return Given(
        token=token,
        notify_socket=environment.get("NOTIFY_SOCKET") or None,
        watchdog_seconds=_watchdog_seconds(environment, pid),
    )


def without_given(environment: Mapping[str, str]) -> dict[str, str]:
    """Return an environment without what was read: for everything that runs from here on."""
    taken = {TOKEN_NAME, *MANAGER_NAMES}
    return {name: value for name, value in environment.items() if name not in taken}


def _watchdog_seconds(environment: Mapping[str, str], pid: int) -> float | None:
    # Inherited from a service manager's other service it is not meant for us.
    if environment.get("WATCHDOG_PID", str(pid)) != str(pid):
        return None
    microseconds = environment.get("WATCHDOG_USEC", "")
    return (
        int(microseconds) / 1_000_000 if re.fullmatch(r"[1-9][0-9]{0,17}", microseconds) else None
    )
