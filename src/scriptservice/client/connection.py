"""How both clients reach a service: URL, token, TLS and proxy, and how long the clients try."""

import os
import re
import ssl
from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit

import httpx2 as httpx

from scriptservice.client.problems import ClientError
from scriptservice.client.retry import Retry, silence_seconds_of
from scriptservice.client.tokens import find_token

DEFAULT_URL = "http://127.0.0.1:8000"

_TOKEN = re.compile(r"[!-~]+")


class Connection:
    """How to reach a service, and how long to try.

    If an argument is None, its value comes from the environment variable that is named below. If
    this variable is not set, the default that follows the variable's name is used.

    Args:
        url: URL of the service; ``SCRIPTSERVICE_URL``, else http://127.0.0.1:8000.
        token: access token; else see `find_token`.
        ca_file: PEM file with the certificates to trust; ``SCRIPTSERVICE_CA_FILE``, else the
            certificates that this machine trusts.
        proxy: URL of an HTTP proxy; ``SCRIPTSERVICE_PROXY``, else no proxy.
        retry_seconds: see `Retry`.
        silence_seconds: see `Retry`.
        first_contact_seconds: see `Retry`.
        on_unreachable: see `Retry`.

    Attributes:
        url: URL of the service, without a slash at its end.
        token: access token; None to send requests without a token.
        silence_seconds: how long a stream may be silent; see `silence_seconds_of`.

    Raises:
        ClientError: the URL, the token, the CA file or the proxy cannot be used.
    """

    def __init__(
        self,
        url: str | None,
        token: str | None,
        *,
        ca_file: str | os.PathLike[str] | None,
        proxy: str | None,
        retry_seconds: float,
        silence_seconds: float,
        first_contact_seconds: float | None,
        on_unreachable: Callable[[float], None] | None,
    ) -> None:
        self.url = _checked_url(url or os.environ.get("SCRIPTSERVICE_URL") or DEFAULT_URL)
        self.token = _checked_token(token or find_token(self.url, os.environ, os.geteuid()).token)
        self._ssl_context = _ssl_context(ca_file or os.environ.get("SCRIPTSERVICE_CA_FILE") or None)
        proxy = proxy or os.environ.get("SCRIPTSERVICE_PROXY") or None
        self._proxy = _proxy(proxy, self._ssl_context)
        self._retry_seconds = retry_seconds
        self.silence_seconds = silence_seconds_of(retry_seconds, silence_seconds)
        self._first_contact_seconds = first_contact_seconds
        self._on_unreachable = on_unreachable

    def http_options(self, *, idle_connections: int) -> dict[str, Any]:
        """Return the arguments to construct an `httpx.Client` or an `httpx.AsyncClient`.

        Args:
            idle_connections: how many connections to keep open for later requests.
        """
        headers = {"User-Agent": "scriptservice-client"}
        if self.token:
            headers["Authorization"] = f"Bearer {self.token}"
        return {
            "base_url": self.url,
            "headers": headers,
            "limits": httpx.Limits(max_keepalive_connections=idle_connections),
            "verify": self._ssl_context,
            "proxy": self._proxy,
            "trust_env": False,
        }

    def retry(self) -> Retry:
        """Return a new `Retry` for the next request or stream."""
        return Retry(
            self.url,
            self._retry_seconds,
            self.silence_seconds,
            first_contact_seconds=self._first_contact_seconds,
            on_unreachable=self._on_unreachable,
            tunnelled=self._proxy is not None and self.url.startswith("https:"),
        )

    def answered(self) -> None:
        """Record that the service has answered, so the next contact is not the first."""
        self._first_contact_seconds = None
        self._on_unreachable = None


def _checked_url(url: str) -> str:
    if not _is_http_url(url):
        message = f"cannot use {url}: it is not a URL such as {DEFAULT_URL}"
        raise ClientError(message)
    return url.rstrip("/")


def _is_http_url(url: str) -> bool:
    try:
        parts = urlsplit(url)
        # Reading `port` raises ValueError for an invalid port; `urlsplit` itself accepts any text.
        usable = parts.scheme in ("http", "https") and parts.port != 0 and bool(parts.hostname)
        return usable and bool(httpx.URL(url).host)
    except (ValueError, httpx.InvalidURL):
        return False


def _checked_token(token: str | None) -> str | None:
    if token is not None and not _TOKEN.fullmatch(token):
        message = "cannot use the token: it has characters that a token cannot have"
        raise ClientError(message)
    return token


def _ssl_context(ca_file: str | os.PathLike[str] | None) -> ssl.SSLContext:
    if ca_file is None:
        return httpx.create_ssl_context(trust_env=False)
    try:
        return ssl.create_default_context(cafile=ca_file)
    except (OSError, ValueError) as error:  # an SSLError is an OSError
        reason = error.strerror if isinstance(error, FileNotFoundError) else error
        message = f"cannot use CA file {os.fspath(ca_file)}: {reason}"
        raise ClientError(message) from error


def _proxy(url: str | None, ssl_context: ssl.SSLContext) -> httpx.Proxy | None:
    if url is None:
        return None
    if not _is_http_url(url):
        # The message does not quote the URL, because the URL may contain a password.
        message = "cannot use the proxy: its URL must begin with http:// or https:// and a host"
        raise ClientError(message)
    return httpx.Proxy(url, ssl_context=ssl_context if url.startswith("https:") else None)
