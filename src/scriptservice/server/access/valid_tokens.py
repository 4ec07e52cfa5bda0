"""The tokens that are valid, in memory, for everyone who lets somebody in."""

import hmac
from collections.abc import Iterable

from scriptservice.store.queries.tokens import Token, digest


class ValidTokens:
    """All tokens that are valid.

    Args:
        tokens: as they are stored.
    """

    def __init__(self, tokens: Iterable[Token]) -> None:
        self._by_sha256 = {token.sha256: token for token in tokens}

    def find(self, text: str) -> Token | None:
        """Return a token by its text, None if there is none."""
        hashed = digest(text)
        # Every token is compared, each in constant time: the time tells nothing about any.
        found: Token | None = None
        for token in self._by_sha256.values():
            if hmac.compare_digest(token.sha256, hashed):
                found = token
        return found

    def by_sha256(self, sha256: bytes) -> Token | None:
        """Return a token by what is kept of it, None if it is no longer valid."""
        return self._by_sha256.get(sha256)

    def admin(self) -> Token | None:
        """Return the oldest token that may do all."""
        admins = [token for token in self._by_sha256.values() if token.scope == "admin"]
        return min(admins, key=lambda token: token.created_at, default=None)
