"""Tokens: unguessable, and never stored."""

from user_manager.tokens import compute_digest, generate_token, is_same_token


def test_tokens_differ_and_go_into_a_header() -> None:
    """256 bits, URL-safe."""
    tokens = {generate_token() for _ in range(100)}
    assert len(tokens) == 100
    assert all(len(token) == 43 and token.isascii() and token.isprintable() for token in tokens)


def test_a_digest_tells_tokens_apart() -> None:
    """Also where somebody sends what no token can hold."""
    assert compute_digest("a") == compute_digest("a") != compute_digest("b")
    assert len(compute_digest("ü€")) == 64


def test_tokens_are_compared_whole() -> None:
    """Letters beyond ASCII are compared, not refused."""
    assert is_same_token("operator-ü", "operator-ü")
    assert not is_same_token("operator", "operator-ü")
