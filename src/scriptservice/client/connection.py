"""Where the service is and who asks: the same for both clients."""

import os
import re
from dataclasses import dataclass
from urllib.parse import urlsplit

import httpx2 as httpx

from scriptservice.client.problems import ClientError
from scriptservice.paths import default_data_dir

DEFAULT_URL = "http://127.0.0.1:8000"

_TOKEN = re.compile(r"[!-~]+")


@dataclass(frozen=True, slots=True)
class Connection:
    """How to reach a service.

    Attributes:
        url: without a slash at its end.
        token: None to ask without.
    """

    url: str
    token: str | None

    @property
    def headers(self) -> dict[str, str]:
        """What every request carries."""
        headers = {"User-Agent": "scriptservice-client"}
        return headers | ({"Authorization": f"Bearer {self.token}"} if self.token else {})


def connection(url: str | None, token: str | None) -> Connection:
    """Return how to reach a service.

    Args:
        url: None: ``SCRIPTSERVICE_URL``, else http://127.0.0.1:8000.
        token: None: ``SCRIPTSERVICE_TOKEN``, else the file ``token`` in the data directory.

    Raises:
        ClientError: the URL or the token is none.
    """
    url = (url or os.environ.get("SCRIPTSERVICE_URL") or DEFAULT_URL).rstrip("/")
    if not _usable(url):
        message = f"cannot use {url}: it is no URL such as {DEFAULT_URL}"
        raise ClientError(message)
    token = token or os.environ.get("SCRIPTSERVICE_TOKEN") or _token_file()
    if token is not None and not _TOKEN.fullmatch(token):
        message = "cannot use the token: it has characters that no token has"
        raise ClientError(message)
    return Connection(url, token)


def _usable(url: str) -> bool:
    try:
        parts = urlsplit(url)
        # A port that is none shows only when it is asked for.
        known = parts.scheme in ("http", "https") and parts.port != 0 and bool(parts.hostname)
        return known and bool(httpx.URL(url).host)
    except (ValueError, httpx.InvalidURL):
        return False


def _token_file() -> str | None:
    directory = os.environ.get("SCRIPTSERVICE_DATA_DIR") or default_data_dir(
        os.environ, os.geteuid()
    )
    try:
        with open(os.path.join(directory, "token"), encoding="utf-8") as file:
            return file.read().strip() or None
    except (OSError, UnicodeDecodeError):
        return None
