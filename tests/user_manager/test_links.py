"""Confirmation links: ours only, whole, and not too old."""

import time
from datetime import timedelta
from uuid import UUID, uuid4

import pytest
from hypothesis import given, strategies as st
from itsdangerous import TimestampSigner

from user_manager.errors import LinkExpiredError, LinkForgedError
from user_manager.links import LIFE, Links

LINKS = Links("the-signing-key-of-tests", "https://towerwatch.example")
USER = UUID("5f0e8f5c-2f0a-4a86-9d53-3a6d3b4b7c11")


def token(links: Links = LINKS) -> str:
    return links.url(USER).rpartition("/")[2]


def pass_time(monkeypatch: pytest.MonkeyPatch, duration: timedelta) -> None:
    """Let the library's own clock, which is the machine's, be ahead."""
    later = int(time.time() + duration.total_seconds())
    monkeypatch.setattr(TimestampSigner, "get_timestamp", lambda _self: later)


def test_a_link_leads_back_to_its_user() -> None:
    """It begins with where people reach the service, and its end needs no quoting."""
    user_id = uuid4()
    url = LINKS.url(user_id)
    assert url.startswith("https://towerwatch.example/confirm/")
    assert LINKS.user_of(url.rpartition("/")[2]) == user_id


def test_a_link_made_with_another_key_is_forged() -> None:
    """Only the holder of the key makes links."""
    with pytest.raises(LinkForgedError):
        LINKS.user_of(token(Links("another-key-of-the-tests", "https://towerwatch.example")))


def test_a_link_to_another_user_with_the_same_signature_is_forged() -> None:
    """The signature covers the user."""
    with pytest.raises(LinkForgedError):
        LINKS.user_of(token().replace(str(USER), str(uuid4())))


def test_a_link_expires(monkeypatch: pytest.MonkeyPatch) -> None:
    """Good until its life is over, not after; expired is told from forged."""
    made = token()
    pass_time(monkeypatch, LIFE - timedelta(seconds=10))
    assert LINKS.user_of(made) == USER
    pass_time(monkeypatch, LIFE + timedelta(seconds=10))
    with pytest.raises(LinkExpiredError):
        LINKS.user_of(made)


def test_a_genuine_signature_under_something_else_is_no_link() -> None:
    """What is signed must be a user."""
    with pytest.raises(LinkForgedError):
        LINKS.user_of(LINKS._signer().sign("nobody").decode())


@given(st.text())
def test_no_text_is_taken_for_a_link(text: str) -> None:
    """Whatever comes in the path, the answer is the same error."""
    with pytest.raises(LinkForgedError):
        LINKS.user_of(text)


@given(st.integers(min_value=0, max_value=200), st.characters(codec="ascii"))
def test_a_changed_character_makes_a_link_forged(position: int, character: str) -> None:
    """No part of it may be changed."""
    made = token()
    position %= len(made)
    if made[position] == character:
        return
    with pytest.raises((LinkForgedError, LinkExpiredError)):
        LINKS.user_of(made[:position] + character + made[position + 1 :])


def test_the_key_is_not_shown() -> None:
    """A value that is printed by mistake tells no secret."""
    assert "signing-key" not in repr(LINKS)
