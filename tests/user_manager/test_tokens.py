"""Tokens are random, and only their digests are stored."""

from user_manager.tokens import compute_digest, generate_token, is_same_token


def test_tokens_differ_and_fit_into_a_header() -> None:
    """Tokens have 256 random bits in URL-safe characters."""
    tokens = {generate_token() for _ in range(100)}
    assert len(tokens) == 100
    assert all(len(token) == 43 and token.isascii() and token.isprintable() for token in tokens)


def test_different_tokens_have_different_digests() -> None:
    """A digest exists also for a text that is no valid token."""
    assert compute_digest("a") == compute_digest("a") != compute_digest("b")
    assert len(compute_digest("ü€")) == 64


def test_tokens_are_compared_whole() -> None:
    """Texts with characters beyond ASCII are compared, not refused."""
    assert is_same_token("operator-ü", "operator-ü")
    assert not is_same_token("operator", "operator-ü")
