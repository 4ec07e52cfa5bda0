"""Sign-in to the web page: by a token, or by the one-time link that the service prints."""

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
MAX_ATTEMPTS = 20
ATTEMPT_SECONDS = 3.0
_MAX_ADDRESSES = 10_000


class OneTimeCode:
    """The code of the sign-in link. It can be used once, within `CODE_SECONDS`.

    Only the hash of the code is kept.

    Args:
        clock: returns the time of a monotonic clock in seconds.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._hash = b""
        self._expires_at = 0.0

    def issue(self) -> str:
        """Return a new code of 128 random bits, and invalidate the previous code."""
        text = secrets.token_urlsafe(16)
        self._hash = _hashed(text)
        self._expires_at = self._clock() + CODE_SECONDS
        return text

    def use(self, text: str) -> bool:
        """Return whether a text is the valid code. If so, invalidate the code."""
        valid = hmac.compare_digest(self._hash, _hashed(text)) and self._clock() < self._expires_at
        if valid:
            self._hash = b""
        return valid

    def restore(self, text: str) -> None:
        """Make a used code valid again, because its session could not begin.

        The time at which the code expires does not change.
        """
        self._hash = _hashed(text)


class AttemptLimiter:
    """Limits failed attempts to sign in.

    An address may fail `MAX_ATTEMPTS` times without a pause, then once every `ATTEMPT_SECONDS`. The
    limit is not needed against guessing, because nobody can guess 128 bits. It keeps failed
    attempts from filling the log and from using up the processor.

    Args:
        clock: returns the time of a monotonic clock in seconds.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        # For each address, the time at which all its failures are forgotten. Each further failure
        # makes this time later by ATTEMPT_SECONDS.
        self._clear_at: dict[str, float] = {}

    def wait_seconds(self, address: str) -> float:
        """Return how many seconds an address must wait before its next attempt; 0 for no wait."""
        ahead = self._clear_at.get(address, 0.0) - self._clock()
        return max(0.0, ahead - (MAX_ATTEMPTS - 1) * ATTEMPT_SECONDS)

    def attempt_failed(self, address: str) -> None:
        """Count a failed attempt."""
        now = self._clock()
        clear_at = max(now, self._clear_at.pop(address, now)) + ATTEMPT_SECONDS
        if len(self._clear_at) >= _MAX_ADDRESSES:
            # Forget the address whose last failure is the oldest.
            self._clear_at.pop(next(iter(self._clear_at)))
        self._clear_at[address] = clear_at


class SignIn:
    """Begins sessions for clients that send a valid token or code.

    Args:
        tokens: the valid tokens.
        sessions: the sessions of the web page.
        code: the code of the sign-in link.
        limiter: limits failed attempts.
    """

    def __init__(
        self,
        tokens: ValidTokens,
        sessions: PageSessions,
        code: OneTimeCode,
        limiter: AttemptLimiter,
    ) -> None:
        self._tokens = tokens
        self._sessions = sessions
        self._code = code
        self._limiter = limiter

    async def begin(
        self, token_text: str | None, code: str | None, address: str
    ) -> tuple[str, PageSession]:
        """Begin a session; return its cookie's secret and the session.

        Args:
            token_text: text of a token; None if the client sent a code.
            code: the code of a sign-in link; None if the client sent a token.
            address: the client's address.

        Raises:
            ProblemError: the token or code is wrong, or the address has failed too often.
            StoreError: the session cannot be stored. If the client sent a code, the code stays
                valid.
        """
        # A correct token or code is always accepted, even if the address has failed too often.
        # Otherwise one client could lock out everybody who shares its address.
        token = self._find_token(token_text, code)
        if token is None:
            wait_seconds = self._limiter.wait_seconds(address)
            if wait_seconds > 0:
                raise ProblemError(
                    "too-many-requests",
                    "too many attempts to sign in have failed; try again later",
                    headers={"Retry-After": str(int(wait_seconds) + 1)},
                )
            self._limiter.attempt_failed(address)
            detail = "the token is not valid"
            if code is not None:
                detail = (
                    "the sign-in link was used before, has expired, or belongs to another service"
                )
            raise ProblemError("unauthenticated", detail, headers=CHALLENGE)
        try:
            return await self._sessions.begin(token)
        except StoreError:
            if code is not None:
                self._code.restore(code)
            raise

    def _find_token(self, token_text: str | None, code: str | None) -> Token | None:
        if code is not None:
            return self._tokens.admin() if self._code.use(code) else None
        return None if token_text is None else self._tokens.find(token_text.strip())


def _hashed(text: str) -> bytes:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()
