"""The door: by which name the service was called, and from which page.

It stands before the token check and before routing, on every method and path. A page elsewhere
can make a browser send requests here; what it cannot make up are the headers Host, Origin and
Sec-Fetch-Site. A name that such a page's owner lets point to this machine (DNS rebinding) is not
one of ours; an address cannot be such a name.
"""

import re
from collections.abc import Iterable
from functools import lru_cache
from ipaddress import AddressValueError, IPv4Address, IPv6Address
from typing import NamedTuple

from starlette.types import ASGIApp, Receive, Scope, Send

from scriptservice.server.http.problem_responses import problem_response

ANY = "*"
SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})
_LONGEST_HOST = 264  # a name of 255, its port, and brackets
_LONGEST_ORIGIN = _LONGEST_HOST + len("https://")
_HOST = re.compile(r"(?:\[([0-9a-f:.]+)\]|([a-z0-9._-]+))(?::([0-9]{0,5}))?")
_ORIGIN = re.compile(r"(https?)://([^/]+)")
_DEFAULT_PORTS = {"http": "80", "https": "443"}
_NOT_ELSEWHERE = (None, b"same-origin", b"none")


class HostName(NamedTuple):
    """Whom a request is for, in the one form in which two can be compared.

    Attributes:
        name: in lower case, without the root's dot; an IPv6 address in brackets.
        port: as text; empty where none is said.
        is_address: whether the name is an IP address.
    """

    name: str
    port: str
    is_address: bool

    def with_port(self, scheme: str) -> tuple[str, str]:
        """Return name and port, the scheme's own port where none is said."""
        return self.name, self.port or _DEFAULT_PORTS[scheme]


class Refusal(NamedTuple):
    """Why a request is not let in: the kind of problem, and what happened."""

    kind: str
    detail: str


_NO_HOST = Refusal("bad-request", "cannot tell whom this is for: its Host is no host")
_OTHER_ORIGIN = Refusal("forbidden", "cannot take this from a page of another origin")


def parse_host(text: str) -> HostName | None:
    """Return what a Host header says, None if it says nothing that is a host."""
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
    """The ASGI layer that refuses what was not meant for this service by whoever sent it.

    Args:
        app: what is behind it.
        hosts: names that the service has besides localhost; ``*`` for any.
    """

    def __init__(self, app: ASGIApp, hosts: Iterable[str]) -> None:
        self._app = app
        self._hosts = frozenset(host.lower().removesuffix(".") for host in hosts)
        # Clients say the same few again and again. What is longer than any is never kept.
        self._host_refusal = lru_cache(maxsize=256)(self._judge_host)
        self._origin_refusal = lru_cache(maxsize=256)(_judge_origin)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let a request through, or answer it."""
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
            elif name == b"sec-fetch-site" and site in _NOT_ELSEWHERE:
                site = value
        if len(hosts) != 1:
            return Refusal("bad-request", "cannot tell whom this is for: send one Host header")
        if len(hosts[0]) > _LONGEST_HOST:
            return _NO_HOST
        refusal = self._host_refusal(hosts[0])
        if refusal is None and origins:
            if len(origins) > 1 or len(origins[0]) > _LONGEST_ORIGIN:
                return _OTHER_ORIGIN
            refusal = self._origin_refusal(origins[0], hosts[0])
        # Any page may link to this one; none may change something here.
        if (
            refusal is None
            and site not in _NOT_ELSEWHERE
            and scope.get("method") not in SAFE_METHODS
        ):
            refusal = Refusal("forbidden", "cannot take this from a page of another site")
        return refusal

    def _judge_host(self, raw: bytes) -> Refusal | None:
        host = parse_host(raw.decode("latin-1").strip())
        if host is None:
            return _NO_HOST
        if (
            host.is_address
            or host.name == "localhost"
            or host.name.endswith(".localhost")
            or host.name in self._hosts
            or ANY in self._hosts
        ):
            return None
        return Refusal(
            "host-not-allowed",
            f"cannot answer for {host.name}: use an address or localhost, or start the service "
            f"with --allowed-host {host.name}",
        )


def _judge_origin(origin: bytes, host: bytes) -> Refusal | None:
    """Say what is wrong with where a request comes from: it has to be where it is sent to."""
    asked = parse_host(host.decode("latin-1").strip())
    match = _ORIGIN.fullmatch(origin.decode("latin-1").lower())
    if match is not None and asked is not None:
        scheme, said = match.groups()
        # Which scheme it was is for the proxy in front to know: here it is always http.
        page = parse_host(said)
        if page is not None and page.with_port(scheme) == asked.with_port(scheme):
            return None
    return _OTHER_ORIGIN
