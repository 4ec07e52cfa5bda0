"""The origin check: refuses requests that a foreign web page made a browser send.

The check runs before the token check and before routing, for every method and path. A foreign page
can make a browser send requests here, but the page cannot set the headers Host, Origin and
Sec-Fetch-Site. The owner of the page can let its domain name point to this machine (DNS rebinding).
The browser then sends this name as the Host, and the check refuses it because it is not a name of
the service. The check accepts any IP address as the Host, because DNS rebinding needs a name.
"""

import re
from collections.abc import Iterable
from functools import lru_cache
from ipaddress import AddressValueError, IPv4Address, IPv6Address
from typing import NamedTuple

from starlette.types import ASGIApp, Receive, Scope, Send

from scriptservice.server.http.problem_responses import problem_response
from scriptservice.server.http.websocket_handshake import ACCEPT_KEY

ANY_HOST = "*"
SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})
_MAX_HOST_BYTES = 264  # a name of 255 bytes, a port, and brackets
_MAX_ORIGIN_BYTES = _MAX_HOST_BYTES + len("https://")
_HOST = re.compile(r"(?:\[([0-9a-f:.]+)\]|([a-z0-9._-]+))(?::([0-9]{0,5}))?")
_ORIGIN = re.compile(r"(https?)://([^/]+)")
_DEFAULT_PORTS = {"http": "80", "https": "443"}
_OWN_SITE = (None, b"same-origin", b"none")
"""Values of Sec-Fetch-Site with which a request does not come from another site. None means that
there is no such header."""


class HostName(NamedTuple):
    """The host of a Host or Origin header, normalized so that two hosts can be compared.

    Attributes:
        name: name in lower case, without a dot at its end; an IPv6 address is in brackets.
        port: port as text; empty if the header has no port.
        is_address: whether the name is an IP address.
    """

    name: str
    port: str
    is_address: bool

    def with_port(self, scheme: str) -> tuple[str, str]:
        """Return the name, and the port or else the scheme's default port."""
        return self.name, self.port or _DEFAULT_PORTS[scheme]


class Refusal(NamedTuple):
    """Why a request is refused: the problem's kind and detail."""

    kind: str
    detail: str


_INVALID_HOST = Refusal("bad-request", "cannot accept the request: its Host header is not valid")
_OTHER_ORIGIN = Refusal("forbidden", "cannot accept this request from a page of another origin")
_OTHER_SITE = Refusal("forbidden", "cannot accept this request from a page of another site")


def parse_host(text: str) -> HostName | None:
    """Return the host of a Host header, None if the header is not valid."""
    match = _HOST.fullmatch(text.lower())
    if match is None:
        return None
    v6, name, port = match.groups()
    port = str(int(port)) if port else ""
    try:
        if v6 is not None:
            return HostName(f"[{IPv6Address(v6)}]", port, is_address=True)
        name = name.removesuffix(".")
        return HostName(str(IPv4Address(name)), port, is_address=True)
    except AddressValueError:
        return HostName(name, port, is_address=False) if v6 is None and name else None


class OriginCheck:
    """The ASGI layer that refuses requests for another host or from another origin.

    Args:
        app: the next layer.
        hosts: names that the service has besides localhost; ``*`` allows any name.
    """

    def __init__(self, app: ASGIApp, hosts: Iterable[str]) -> None:
        self._app = app
        self._hosts = frozenset(host.lower().removesuffix(".") for host in hosts)
        # Clients send the same few values again and again, so keep the results. Very long values do
        # not reach these caches, because they are refused earlier.
        self._host_refusal = lru_cache(maxsize=256)(self._check_host)
        self._origin_refusal = lru_cache(maxsize=256)(_check_origin)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, or answer it with 400, 403 or 421."""
        refusal = self._refusal(scope)
        if refusal is None:
            await self._app(scope, receive, send)
            return
        response = problem_response(refusal.kind, refusal.detail, scope["path"])
        await response(scope, receive, send)

    def _refusal(self, scope: Scope) -> Refusal | None:
        hosts, origins, site = [], [], None
        for name, value in scope["headers"]:
            if name == b"host":
                hosts.append(value)
            elif name == b"origin":
                origins.append(value)
            elif name == b"sec-fetch-site" and site in _OWN_SITE:
                site = value
        if len(hosts) != 1:
            return Refusal("bad-request", "cannot accept the request: send exactly one Host header")
        if len(hosts[0]) > _MAX_HOST_BYTES:
            return _INVALID_HOST
        refusal = self._host_refusal(hosts[0])
        if refusal is None and origins:
            if len(origins) > 1 or len(origins[0]) > _MAX_ORIGIN_BYTES:
                return _OTHER_ORIGIN
            refusal = self._origin_refusal(origins[0], hosts[0])
        # A page of another site may link to this service, but a request from such a page must not
        # change anything, and must not open a WebSocket.
        is_safe = scope.get("method") in SAFE_METHODS and ACCEPT_KEY not in scope
        if refusal is None and site not in _OWN_SITE and not is_safe:
            refusal = _OTHER_SITE
        return refusal

    def _check_host(self, raw: bytes) -> Refusal | None:
        host = parse_host(raw.decode("latin-1").strip())
        if host is None:
            return _INVALID_HOST
        if (
            host.is_address
            or host.name == "localhost"
            or host.name.endswith(".localhost")
            or host.name in self._hosts
            or ANY_HOST in self._hosts
        ):
            return None
        return Refusal(
            "host-not-allowed",
            f"cannot answer for {host.name}: use an address or localhost, or start the service "
            f"with --allowed-host {host.name}",
        )


def _check_origin(origin: bytes, host: bytes) -> Refusal | None:
    """Return a refusal unless the request's Origin and Host name the same host and port."""
    target = parse_host(host.decode("latin-1").strip())
    match = _ORIGIN.fullmatch(origin.decode("latin-1").lower())
    if match is not None and target is not None:
        scheme, authority = match.groups()
        # A proxy in front of the service may have turned https into http. So only the scheme in the
        # Origin header tells whether the browser used http or https.
        page = parse_host(authority)
        if page is not None and page.with_port(scheme) == target.with_port(scheme):
            return None
    return _OTHER_ORIGIN
