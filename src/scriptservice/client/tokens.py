"""Where the clients look for the access token, and where ``scriptservice login`` keeps it.

The places, in this order: the environment variable ``SCRIPTSERVICE_TOKEN``, the token that
``scriptservice login`` has kept for the service's URL, and the file ``token`` in the data directory
of a service on this machine.
"""

import os
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import quote

import httpx2 as httpx

from scriptservice.paths import default_config_dir, default_data_dir

TOKEN_NAME = "SCRIPTSERVICE_TOKEN"  # noqa: S105 - the variable's name


@dataclass(frozen=True, slots=True)
class TokenLookup:
    """The result of looking for the token of a service.

    Attributes:
        token: the token; None if there is none.
        source: the place where the token was found; None if it was not found.
        missing: the places that were searched without success, each with the reason.
    """

    token: str | None
    source: str | None
    missing: tuple[str, ...]


def find_token(url: str, environment: Mapping[str, str], uid: int) -> TokenLookup:
    """Look for the token of a service.

    Args:
        url: URL of the service.
        environment: environment variables of this process.
        uid: effective user id of this process.
    """
    if environment.get(TOKEN_NAME):
        return TokenLookup(environment[TOKEN_NAME], TOKEN_NAME, ())
    data_dir = environment.get("SCRIPTSERVICE_DATA_DIR") or default_data_dir(environment, uid)
    missing = [f"{TOKEN_NAME} (not set)"]
    for path in (kept_token_path(url, environment), os.path.join(data_dir, "token")):
        try:
            with open(path, encoding="utf-8") as file:
                token = file.read().strip()
        except OSError as error:
            missing.append(f"{path} ({_reason(error)})")
        except UnicodeDecodeError:
            missing.append(f"{path} (not text)")
        else:
            if token:
                return TokenLookup(token, path, tuple(missing))
            missing.append(f"{path} (empty)")
    return TokenLookup(None, None, tuple(missing))


def _reason(error: OSError) -> str:
    if isinstance(error, FileNotFoundError | NotADirectoryError):
        return "not found"
    return (error.strerror or str(error)).lower()


def kept_token_path(url: str, environment: Mapping[str, str]) -> str:
    """Return the path of the file that keeps the token of a service.

    Args:
        url: URL of the service.
        environment: environment variables of this process.
    """
    # httpx writes the host in lower case and leaves a default port out.
    name = quote(str(httpx.URL(url)).rstrip("/"), safe="")
    return os.path.join(default_config_dir(environment), "tokens", name)


def keep_token(url: str, token: str, environment: Mapping[str, str]) -> str:
    """Write the token of a service to a file that only this user can read; return its path.

    Args:
        url: URL of the service.
        token: the token.
        environment: environment variables of this process.

    Raises:
        OSError: the file cannot be written.
    """
    path = kept_token_path(url, environment)
    directory = os.path.dirname(path)
    os.makedirs(directory, mode=0o700, exist_ok=True)
    # A new file has mode 0600. Renaming it replaces a kept token in one step.
    descriptor, temporary = tempfile.mkstemp(dir=directory)
    try:
        with open(descriptor, "w", encoding="utf-8") as file:
            file.write(f"{token}\n")
        os.rename(temporary, path)
    except OSError:
        os.unlink(temporary)
        raise
    return path
