"""The valid tokens, in memory."""

import hmac
from collections.abc import Iterable

from scriptservice.store.queries.tokens import Token, digest


class ValidTokens:
    """All valid tokens.

    Args:
        tokens: the tokens in the database.
    """

    def __init__(self, tokens: Iterable[Token]) -> None:
        self._by_sha256 = {token.sha256: token for token in tokens}

    def find(self, text: str) -> Token | None:
        """Return the token with this text, None if no valid token has this text."""
        hashed = digest(text)
        # Compare with every token, each time in constant time, so that the duration of this call
        # reveals nothing about the tokens.
        found: Token | None = None
        for token in self._by_sha256.values():
            if hmac.compare_digest(token.sha256, hashed):
                found = token
        return found

    def by_sha256(self, sha256: bytes) -> Token | None:
        """Return the token with this hash, None if no valid token has this hash."""
        return self._by_sha256.get(sha256)

    def admin(self) -> Token | None:
        """Return the oldest token with the scope ``admin``, None if there is none."""
        admins = [token for token in self._by_sha256.values() if token.scope == "admin"]
        return min(admins, key=lambda token: token.created_at, default=None)
