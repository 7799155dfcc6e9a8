"""Tokens: unguessable, and never stored."""

from user_manager.tokens import digest, new_token, same


def test_tokens_differ_and_go_into_a_header() -> None:
    """256 bits, URL-safe."""
    tokens = {new_token() for _ in range(100)}
    assert len(tokens) == 100
    assert all(len(token) == 43 and token.isascii() and token.isprintable() for token in tokens)


def test_a_digest_tells_tokens_apart() -> None:
    """Also where somebody sends what no token can hold."""
    assert digest("a") == digest("a") != digest("b")
    assert len(digest("ü€")) == 64


def test_tokens_are_compared_whole() -> None:
    """Letters beyond ASCII are compared, not refused."""
    assert same("operator-ü", "operator-ü")
    assert not same("operator", "operator-ü")
