"""The service's default paths, which the client also uses. This module does no I/O."""

import os
from collections.abc import Mapping


def default_data_dir(environment: Mapping[str, str], uid: int) -> str:
    """Return the default data directory of a service.

    Args:
        environment: environment variables of the process.
        uid: effective user id of the process.
    """
    if uid == 0:
        return "/var/lib/scriptservice"
    home = environment.get("HOME", "/")
    base = environment.get("XDG_DATA_HOME") or os.path.join(home, ".local/share")
    return os.path.join(base, "scriptservice")


def default_config_dir(environment: Mapping[str, str]) -> str:
    """Return the directory where the client keeps what belongs to this user.

    Args:
        environment: environment variables of the process.
    """
    home = environment.get("HOME", "/")
    base = environment.get("XDG_CONFIG_HOME") or os.path.join(home, ".config")
    return os.path.join(base, "scriptservice")
