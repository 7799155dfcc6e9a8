"""Bearer tokens: 256 random bits, given out once, stored as their SHA-256 only.

A token has too many bits to be guessed, so a plain digest suffices where a password would need a slow one.
"""

import hashlib
import hmac
import secrets


def new_token() -> str:
    """A token that nobody can guess, 43 URL-safe characters."""
    return secrets.token_urlsafe(32)


def digest(token: str) -> str:
    """What is stored and looked up instead of the token: 64 hexadecimal digits."""
    return hashlib.sha256(token.encode()).hexdigest()


def same(token: str, expected: str) -> bool:
    """Whether the two are equal, in a time that tells nothing about where they differ."""
    return hmac.compare_digest(token.encode(), expected.encode())
