"""Sessions of the web page. In a session, requests have a cookie instead of a token.

The cookie holds 256 random bits. The hash of these bits is stored in the database, so a session
survives a restart. The hash is also kept in memory, and the check of a request uses only the hashes
in memory. So a session works while the database is unavailable, and its end applies immediately to
every copy of its cookie. A session also ends when its token is no longer valid.
"""

import asyncio
import base64
import hashlib
import hmac
import secrets
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass

from scriptservice.errors import StoreError
from scriptservice.protocol.clock import now_us
from scriptservice.server.access.valid_tokens import ValidTokens
from scriptservice.store.queries import sessions as store
from scriptservice.store.queries.tokens import Token
from scriptservice.store.writer import Writer

IDLE_SECONDS = 12 * 3600
LIFE_SECONDS = 7 * 24 * 3600
STORE_SECONDS = 600.0
"""Pause between two writes of the times at which the sessions were last used."""

MAX_SESSIONS_PER_TOKEN = 100
"""If a token has this many sessions, a new session ends the least recently used of them."""

COOKIE = "scriptservice_session"
SECURE_COOKIE = f"__Host-{COOKIE}"
_SECOND = 1_000_000
_SECRET_CHARACTERS = 43
_MAX_COOKIE_BYTES = 16 << 10
_CSRF_PURPOSE = b"scriptservice csrf"


@dataclass(frozen=True, slots=True)
class PageSession:
    """The session of a request.

    Attributes:
        sha256: hash of the cookie's secret; identifies the session.
        token: the token that began the session.
        csrf_token: text that must come with every request that changes something. It is computed
            from the cookie's secret, so it need not be stored. Scripts in a browser cannot read the
            cookie, so they cannot compute this text.
    """

    sha256: bytes
    token: Token
    csrf_token: str


def session_secret(headers: Iterable[tuple[bytes, bytes]]) -> bytes | None:
    """Return the secret in a request's session cookie.

    Args:
        headers: names and values of the request's headers, as in ASGI.

    Returns:
        The secret; None if there is no valid session cookie. The result is also None if there are
        session cookies with different values, because it is unknown which one this service set.
    """
    text = b";".join(value for name, value in headers if name == b"cookie")
    found: dict[bytes, set[bytes]] = {}
    if len(text) <= _MAX_COOKIE_BYTES:
        for part in text.split(b";"):
            name, _, value = part.strip(b" \t").partition(b"=")
            found.setdefault(name, set()).add(value)
    # Only a page that was loaded over https can set the secure cookie. So the secure cookie has
    # precedence over the other cookie.
    values = found.get(SECURE_COOKIE.encode()) or found.get(COOKIE.encode()) or set()
    secret = values.pop() if len(values) == 1 else b""
    return secret if len(secret) == _SECRET_CHARACTERS else None


def set_cookie(secret: str, *, secure: bool) -> str:
    """Return the value of a Set-Cookie header for the session cookie.

    Args:
        secret: the session's secret; an empty secret removes the cookie.
        secure: whether the page was loaded over https.
    """
    name = SECURE_COOKIE if secure else COOKIE
    age = LIFE_SECONDS if secret else 0
    end = "; Secure" if secure else ""
    return f"{name}={secret}; Path=/; Max-Age={age}; HttpOnly; SameSite=Strict{end}"


@dataclass(slots=True)
class _SessionState:
    token_sha256: bytes
    created_at: int
    used_at: int
    stored_used_at: int  # the value of used_at in the database

    def is_expired(self, now: int) -> bool:
        return (
            now > self.used_at + IDLE_SECONDS * _SECOND
            or now > self.created_at + LIFE_SECONDS * _SECOND
        )


class PageSessions:
    """All sessions of the web page.

    Args:
        tokens: the valid tokens.
        writer: writes to the database.
        stored: the sessions in the database.
        clock: returns microseconds since 1970 UTC. A monotonic clock does not work, because
            stored times must stay valid after a restart.
    """

    def __init__(
        self,
        tokens: ValidTokens,
        writer: Writer,
        stored: Iterable[store.StoredSession],
        clock: Callable[[], int] = now_us,
    ) -> None:
        self._tokens = tokens
        self._writer = writer
        self._clock = clock
        self._sessions = {
            each.sha256: _SessionState(
                each.token_sha256, each.created_at, each.used_at, each.used_at
            )
            for each in stored
        }

    def find(self, secret: bytes) -> PageSession | None:
        """Return the session with this secret, None if there is no such session.

        The call counts as a use of the session.
        """
        sha256 = hashlib.sha256(secret).digest()
        state = self._sessions.get(sha256)
        now = self._clock()
        if state is None or state.is_expired(now):
            return None
        token = self._tokens.by_sha256(state.token_sha256)
        if token is None:
            return None
        state.used_at = max(now, state.used_at)
        return PageSession(sha256, token, _csrf_token(secret))

    def is_valid(self, session: PageSession) -> bool:
        """Return whether a session has not ended. The call does not count as a use."""
        state = self._sessions.get(session.sha256)
        if state is None or state.is_expired(self._clock()):
            return False
        return self._tokens.by_sha256(state.token_sha256) is not None

    async def begin(self, token: Token) -> tuple[str, PageSession]:
        """Begin a session for a token; return its cookie's secret and the session.

        Raises:
            StoreError: the session cannot be stored.
        """
        secret = secrets.token_urlsafe(32)
        sha256 = hashlib.sha256(secret.encode()).digest()
        now = self._clock()
        if surplus := self._surplus_sessions(token):
            await self._store(ended=surplus)
        await self._writer.run(
            store.add_sessions, store.StoredSession(sha256, token.sha256, now, now)
        )
        self._sessions[sha256] = _SessionState(token.sha256, now, now, now)
        return secret, PageSession(sha256, token, _csrf_token(secret.encode()))

    def _surplus_sessions(self, token: Token) -> list[bytes]:
        """Return the ``sha256`` of the sessions that must end before a token gets a new session."""
        own = [
            sha256 for sha256, state in self._sessions.items() if state.token_sha256 == token.sha256
        ]
        own.sort(key=lambda sha256: self._sessions[sha256].used_at)
        return own[: max(0, len(own) + 1 - MAX_SESSIONS_PER_TOKEN)]

    async def _store(self, *, ended: list[bytes], used: dict[bytes, int] | None = None) -> None:
        """Store which sessions have ended and when others were last used.

        Args:
            ended: the ``sha256`` of the sessions that have ended. They are also removed from
                memory.
            used: times of the last use, by the ``sha256`` of the session; None to store no times.
        """
        await self._writer.run(store.update_sessions, store.SessionUpdate(used or {}, tuple(ended)))
        for sha256 in ended:
            self._sessions.pop(sha256, None)

    async def end(self, session: PageSession) -> None:
        """End a session, for every copy of its cookie.

        Raises:
            StoreError: the end cannot be stored. The session then stays valid, because it is still
                in the database and the next server would load it.
        """
        await self._writer.run(store.delete_sessions, session.sha256)
        self._sessions.pop(session.sha256, None)

    async def run(self) -> None:
        """Store the times of use and remove expired sessions every ten minutes, until cancelled."""
        while True:
            with suppress(StoreError):  # the next round tries again
                await self._store_changes()
            await asyncio.sleep(STORE_SECONDS)

    async def _store_changes(self) -> None:
        now = self._clock()
        expired = [sha256 for sha256, state in self._sessions.items() if state.is_expired(now)]
        used = {
            sha256: state.used_at
            for sha256, state in self._sessions.items()
            if state.used_at != state.stored_used_at and sha256 not in expired
        }
        if not (expired or used):
            return
        await self._store(ended=expired, used=used)
        for sha256, used_at in used.items():
            if sha256 in self._sessions:
                self._sessions[sha256].stored_used_at = used_at


def _csrf_token(secret: bytes) -> str:
    digest = hmac.digest(secret, _CSRF_PURPOSE, "sha256")
    return base64.urlsafe_b64encode(digest).decode().rstrip("=")
