"""Sessions of the web page: a cookie in place of a token.

The cookie has 256 random bits; what they hash to is in the database and here in memory, where a
request finds it. So a session lives through a restart, answers while the database is away, and is
over for every copy of its cookie as soon as it is ended. It is also over when its token is.
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
NOTE_SECONDS = 600.0
MOST_OF_A_TOKEN = 100
"""Sessions of one token at once; one more ends the one that was used least recently."""

COOKIE = "scriptservice_session"
SECURE_COOKIE = f"__Host-{COOKIE}"
_SECOND = 1_000_000
_SECRET_CHARACTERS = 43
_MAX_COOKIE_BYTES = 16 << 10
_CSRF_PURPOSE = b"scriptservice csrf"


@dataclass(frozen=True, slots=True)
class PageSession:
    """A session that a request has.

    Attributes:
        sha256: names it.
        token: whose it is.
        csrf_token: what has to come with it where something changes; made of the cookie's
            secret, so that it needs no place of its own and no script can find it out by itself.
    """

    sha256: bytes
    token: Token
    csrf_token: str


class SessionCookies:
    """The session that a request's cookies name.

    Args:
        headers: the request's, as ASGI has them.

    Attributes:
        secret: the cookie's; None if there is none, or several that differ: which of them the
            user's own page has set cannot be told.
    """

    def __init__(self, headers: Iterable[tuple[bytes, bytes]]) -> None:
        text = b";".join(value for name, value in headers if name == b"cookie")
        found: dict[bytes, set[bytes]] = {}
        if len(text) <= _MAX_COOKIE_BYTES:
            for part in text.split(b";"):
                name, _, value = part.strip(b" \t").partition(b"=")
                found.setdefault(name, set()).add(value)
        # The one that only https can set counts alone where there is one.
        values = found.get(SECURE_COOKIE.encode()) or found.get(COOKIE.encode()) or set()
        secret = values.pop() if len(values) == 1 else b""
        self.secret = secret if len(secret) == _SECRET_CHARACTERS else None


def set_cookie(secret: str, *, secure: bool) -> str:
    """Return the value of the header that gives a browser its cookie.

    Args:
        secret: of the session; empty takes the cookie away.
        secure: whether the page came by https.
    """
    name = SECURE_COOKIE if secure else COOKIE
    age = LIFE_SECONDS if secret else 0
    end = "; Secure" if secure else ""
    return f"{name}={secret}; Path=/; Max-Age={age}; HttpOnly; SameSite=Strict{end}"


@dataclass(slots=True)
class _Known:
    token_sha256: bytes
    created_at: int
    used_at: int
    noted_at: int  # used_at as the database has it

    def is_over(self, now: int) -> bool:
        return (
            now > self.used_at + IDLE_SECONDS * _SECOND
            or now > self.created_at + LIFE_SECONDS * _SECOND
        )


class PageSessions:
    """Who is signed in.

    Args:
        tokens: all that are valid.
        writer: of the database.
        stored: the sessions that the database has.
        clock: microseconds since 1970 UTC; what is stored outlives a monotonic clock.
    """

    def __init__(
        self,
        tokens: ValidTokens,
        writer: Writer,
        stored: Iterable[store.Session],
        clock: Callable[[], int] = now_us,
    ) -> None:
        self._tokens = tokens
        self._writer = writer
        self._clock = clock
        self._known = {
            each.sha256: _Known(each.token_sha256, each.created_at, each.used_at, each.used_at)
            for each in stored
        }

    def find(self, secret: bytes) -> PageSession | None:
        """Return the session of a cookie, None if there is none; it counts as used now."""
        sha256 = hashlib.sha256(secret).digest()
        known = self._known.get(sha256)
        now = self._clock()
        if known is None or known.is_over(now):
            return None
        token = self._tokens.by_sha256(known.token_sha256)
        if token is None:
            return None
        known.used_at = max(now, known.used_at)
        return PageSession(sha256, token, _csrf_token(secret))

    async def begin(self, token: Token) -> tuple[str, PageSession]:
        """Begin a session of a token; return its cookie's secret, and the session.

        Raises:
            StoreError: it cannot be stored.
        """
        secret = secrets.token_urlsafe(32)
        sha256 = hashlib.sha256(secret.encode()).digest()
        now = self._clock()
        if over := self._too_many(token):
            await self._forget(over)
        await self._writer.run(store.add_sessions, store.Session(sha256, token.sha256, now, now))
        self._known[sha256] = _Known(token.sha256, now, now, now)
        return secret, PageSession(sha256, token, _csrf_token(secret.encode()))

    def _too_many(self, token: Token) -> list[bytes]:
        """Return the sessions of a token that have to go for one more, by ``sha256``."""
        mine = [which for which, known in self._known.items() if known.token_sha256 == token.sha256]
        mine.sort(key=lambda which: self._known[which].used_at)
        return mine[: max(0, len(mine) + 1 - MOST_OF_A_TOKEN)]

    async def _forget(self, over: Iterable[bytes], used: dict[bytes, int] | None = None) -> None:
        """Store which sessions are over, and when others were used; then they are gone."""
        await self._writer.run(store.note_sessions, store.Noted(used or {}, tuple(over)))
        for which in over:
            self._known.pop(which, None)

    async def end(self, session: PageSession) -> None:
        """End a session, for whoever has its cookie.

        Raises:
            StoreError: it cannot be stored. The session goes on then: it would come back with
                the next server.
        """
        await self._writer.run(store.end_sessions, session.sha256)
        self._known.pop(session.sha256, None)

    async def run(self) -> None:
        """Note now and then when sessions were used and which are over, until cancelled."""
        while True:
            with suppress(StoreError):  # the next time will do
                await self._note()
            await asyncio.sleep(NOTE_SECONDS)

    async def _note(self) -> None:
        now = self._clock()
        over = [which for which, known in self._known.items() if known.is_over(now)]
        used = {
            which: known.used_at
            for which, known in self._known.items()
            if known.used_at != known.noted_at and which not in over
        }
        if not (over or used):
            return
        await self._forget(over, used)
        for which, at in used.items():
            if which in self._known:
                self._known[which].noted_at = at


def _csrf_token(secret: bytes) -> str:
    made = hmac.digest(secret, _CSRF_PURPOSE, "sha256")
    return base64.urlsafe_b64encode(made).decode().rstrip("=")
