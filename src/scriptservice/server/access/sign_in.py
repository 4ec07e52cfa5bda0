"""Signing in: by a token, or by the one-time link that the service prints when it starts."""

import hashlib
import hmac
import secrets
import time
from collections.abc import Callable

from scriptservice.errors import StoreError
from scriptservice.server.access.page_sessions import PageSession, PageSessions
from scriptservice.server.access.valid_tokens import ValidTokens
from scriptservice.server.http.problem_responses import CHALLENGE, ProblemError
from scriptservice.store.queries.tokens import Token

CODE_SECONDS = 600
TRIES = 20
TRY_SECONDS = 3.0
_ADDRESSES = 10_000


class OneTimeCode:
    """The code of the sign-in link: good once, and not for long. Only its hash is kept.

    Args:
        clock: seconds, monotonic.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._hash = b""
        self._until = 0.0

    def issue(self) -> str:
        """Return a new code: 128 random bits. One that was issued before is good no more."""
        text = secrets.token_urlsafe(16)
        self._hash = _hashed(text)
        self._until = self._clock() + CODE_SECONDS
        return text

    def take(self, text: str) -> bool:
        """Use the code up; return whether it was this one, and still good."""
        good = hmac.compare_digest(self._hash, _hashed(text)) and self._clock() < self._until
        if good:
            self._hash = b""
        return good

    def give_back(self, text: str) -> None:
        """Make the code good again that was taken and led nowhere; its time goes on."""
        self._hash = _hashed(text)


class AttemptLimiter:
    """How often someone may try: `TRIES` at once from an address, then one each `TRY_SECONDS`.

    Nobody guesses 128 bits; this keeps those who try from filling log and processor.

    Args:
        clock: seconds, monotonic.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._paid_at: dict[str, float] = {}

    def wait_seconds(self, address: str) -> float:
        """Return for how long an address may not try, 0 if it may."""
        ahead = self._paid_at.get(address, 0.0) - self._clock()
        return max(0.0, ahead - (TRIES - 1) * TRY_SECONDS)

    def failed(self, address: str) -> None:
        """Count a try that was wrong."""
        now = self._clock()
        paid_at = max(now, self._paid_at.pop(address, now)) + TRY_SECONDS
        if len(self._paid_at) >= _ADDRESSES:
            # The one that has been quiet for longest.
            self._paid_at.pop(next(iter(self._paid_at)))
        self._paid_at[address] = paid_at


class SignIn:
    """Begins sessions for who can show a token or a code.

    Args:
        tokens: all that are valid.
        sessions: who is signed in.
        code: of the link.
        tries: how often someone may try.
    """

    def __init__(
        self, tokens: ValidTokens, sessions: PageSessions, code: OneTimeCode, tries: AttemptLimiter
    ) -> None:
        self._tokens = tokens
        self._sessions = sessions
        self._code = code
        self._tries = tries

    async def enter(
        self, token_text: str | None, code: str | None, address: str
    ) -> tuple[str, PageSession]:
        """Begin a session; return its cookie's secret, and the session.

        Args:
            token_text: of a token; None if there is a code.
            code: of the link.
            address: from where it is tried.

        Raises:
            ProblemError: it is wrong, or there were too many that were.
            StoreError: the session cannot be stored; the code stays good.
        """
        # Who has the right one is let in, however many wrong ones came from the same address:
        # else anybody there could keep everybody else out.
        token = self._token_for(token_text, code)
        if token is None:
            wait_seconds = self._tries.wait_seconds(address)
            if wait_seconds > 0:
                raise ProblemError(
                    "too-many-requests",
                    "cannot let you in: too many tries were wrong; try again later",
                    headers={"Retry-After": str(int(wait_seconds) + 1)},
                )
            self._tries.failed(address)
            detail = "cannot let you in: there is no such token"
            if code is not None:
                detail = "cannot let you in: this sign-in link is used up, too old, or none of ours"
            raise ProblemError("unauthenticated", detail, headers=CHALLENGE)
        try:
            return await self._sessions.begin(token)
        except StoreError:
            if code is not None:
                self._code.give_back(code)
            raise

    def _token_for(self, token_text: str | None, code: str | None) -> Token | None:
        if code is not None:
            return self._tokens.admin() if self._code.take(code) else None
        return None if token_text is None else self._tokens.find(token_text.strip())


def _hashed(text: str) -> bytes:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()
