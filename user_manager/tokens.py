"""Bearer tokens: 256 random bits, shown once, stored as their SHA-256 only.

A token has too many bits to be guessed, so a plain digest suffices where a password would need a slow one.
"""

import hashlib
import hmac
import secrets


def generate_token() -> str:
    """Generate a random token of 43 URL-safe characters, which nobody can guess."""
    return secrets.token_urlsafe(32)


def compute_digest(token: str) -> str:
    """Compute the SHA-256 that is stored and looked up instead of the token, as 64 hexadecimal digits."""
    return hashlib.sha256(token.encode()).hexdigest()


def is_same_token(token: str, expected: str) -> bool:
    """Return True if the two are equal, in a time that does not depend on where they differ."""
    return hmac.compare_digest(token.encode(), expected.encode())
