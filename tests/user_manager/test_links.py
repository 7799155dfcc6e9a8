"""Signed links: only genuine, complete links are accepted, each for one purpose, and only until they expire."""

import hashlib
import string
import time
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from uuid import UUID, uuid4

import pytest
from hypothesis import given, strategies as st
from itsdangerous import Signer, TimestampSigner

from user_manager.errors import LinkExpiredError, LinkForgedError
from user_manager.links import CONFIRMATION_LINK_LIFETIME, LinkSigner

LINKS = LinkSigner("the-signing-key-of-tests", "https://towerwatch.example")
USER = UUID("5f0e8f5c-2f0a-4a86-9d53-3a6d3b4b7c11")

INTEREST = UUID("1c6f7d1e-58a5-4f0b-9d4f-2a1f6f5d8c11")

BASE64_ALPHABET = string.ascii_letters + string.digits + "-_"

# As an earlier version mailed them, with the key of these tests.
UNSUBSCRIPTION_MAILED_BEFORE = "5f0e8f5c-2f0a-4a86-9d53-3a6d3b4b7c11.iL1RXmQz8vUsCsKFnWL4Cf5Uqz7hNFSGSTFHd6uXGr0"
CONFIRMATION_MAILED_BEFORE = (
    "5f0e8f5c-2f0a-4a86-9d53-3a6d3b4b7c11~1767225600000000.aVW5AA.8ivuClSqF7EFVMTkmp-xJZd0tOi8c-lEBWVkGV12YjI"
)
MAILED_AT = datetime(2026, 1, 1, tzinfo=UTC)

Make = Callable[[LinkSigner, UUID], str]
Read = Callable[[LinkSigner, str], UUID]
KINDS = {
    "confirm": (
        LinkSigner.build_confirmation_url,
        lambda links, link_token: links.parse_confirmation_link(link_token).user_id,
    ),
    "unsubscribe": (LinkSigner.build_unsubscription_url, LinkSigner.parse_unsubscription_link),
    "stop": (
        lambda links, user_id: links.build_alert_stop_url(user_id, INTEREST),
        lambda links, link_token: links.parse_alert_stop_link(link_token).user_id,
    ),
}
of_each_kind = pytest.mark.parametrize(("make", "read"), KINDS.values(), ids=KINDS)


def build_token(make: Make, links: LinkSigner = LINKS, user_id: UUID = USER) -> str:
    """Build a link and return its last path segment."""
    return make(links, user_id).rpartition("/")[2]


def pass_time(monkeypatch: pytest.MonkeyPatch, duration: timedelta) -> None:
    """Move itsdangerous' clock, which is the machine's, ahead by `duration`."""
    later = int(time.time() + duration.total_seconds())
    monkeypatch.setattr(TimestampSigner, "get_timestamp", lambda _self: later)


@pytest.mark.parametrize("kind", KINDS)
def test_a_link_identifies_its_user(kind: str) -> None:
    """The link begins with the public URL, and its last segment needs no quoting."""
    make, read = KINDS[kind]
    user_id = uuid4()
    url = make(LINKS, user_id)
    assert url.startswith(f"https://towerwatch.example/{kind}/")
    assert read(LINKS, url.rpartition("/")[2]) == user_id


@of_each_kind
def test_a_link_made_with_another_key_is_forged(make: Make, read: Read) -> None:
    """Only the holder of the signing key can build links."""
    with pytest.raises(LinkForgedError):
        read(LINKS, build_token(make, LinkSigner("another-key-of-the-tests", "https://towerwatch.example")))


@of_each_kind
def test_a_link_to_another_user_with_the_same_signature_is_forged(make: Make, read: Read) -> None:
    """The signature covers the user's id."""
    with pytest.raises(LinkForgedError):
        read(LINKS, build_token(make).replace(str(USER), str(uuid4())))


@pytest.mark.parametrize("made_for", KINDS)
@pytest.mark.parametrize("read_as", KINDS)
def test_a_link_has_one_purpose(made_for: str, read_as: str) -> None:
    """A link of one kind is forged for every other kind: to stop one alert is not to stop all."""
    link_token = build_token(KINDS[made_for][0])
    if made_for == read_as:
        assert KINDS[read_as][1](LINKS, link_token) == USER
    else:
        with pytest.raises(LinkForgedError):
            KINDS[read_as][1](LINKS, link_token)


def test_a_link_that_stops_an_alert_names_one_interest_of_one_user() -> None:
    """It never changes and never expires; with the ids of another interest or another user it is forged."""
    url = LINKS.build_alert_stop_url(USER, INTEREST)
    assert url == LINKS.build_alert_stop_url(USER, INTEREST)
    link_token = url.rpartition("/")[2]
    link = LINKS.parse_alert_stop_link(link_token)
    assert (link.user_id, link.interest_id) == (USER, INTEREST)
    for changed in (
        link_token.replace(str(INTEREST), str(uuid4())),
        link_token.replace(f"{USER}~{INTEREST}", f"{INTEREST}~{USER}"),
        link_token.replace(str(INTEREST), str(INTEREST).upper()),
    ):
        with pytest.raises(LinkForgedError):
            LINKS.parse_alert_stop_link(changed)


@pytest.mark.parametrize("value", [str(USER), f"{USER}~", f"{USER}~x", f"{USER}~{INTEREST}~{INTEREST}", "~"])
def test_a_signed_text_that_names_no_interest_is_forged(value: str) -> None:
    """The signed text must be a user's id and an interest's."""
    signer = Signer(LINKS.signing_key, "stop-alert", key_derivation="hmac", digest_method=hashlib.sha256)
    with pytest.raises(LinkForgedError):
        LINKS.parse_alert_stop_link(signer.sign(value).decode())


def test_a_link_of_one_kind_is_forged_for_the_other_kind() -> None:
    """An unsubscription link cannot confirm, and a confirmation link cannot unsubscribe."""
    with pytest.raises(LinkForgedError):
        LINKS.parse_confirmation_link(build_token(LinkSigner.build_unsubscription_url))
    with pytest.raises(LinkForgedError):
        LINKS.parse_unsubscription_link(build_token(LinkSigner.build_confirmation_url))


def test_a_confirmation_link_expires(monkeypatch: pytest.MonkeyPatch) -> None:
    """A link is valid until its lifetime ends; then the error is "expired", not "forged"."""
    made = build_token(LinkSigner.build_confirmation_url)
    pass_time(monkeypatch, CONFIRMATION_LINK_LIFETIME - timedelta(seconds=10))
    assert LINKS.parse_confirmation_link(made).user_id == USER
    pass_time(monkeypatch, CONFIRMATION_LINK_LIFETIME + timedelta(seconds=10))
    with pytest.raises(LinkExpiredError):
        LINKS.parse_confirmation_link(made)


def test_a_link_from_a_clock_that_is_ahead_is_valid(monkeypatch: pytest.MonkeyPatch) -> None:
    """Replicas' clocks differ by seconds, and a mail scanner opens a link at once."""
    made = build_token(LinkSigner.build_confirmation_url)
    pass_time(monkeypatch, timedelta(seconds=-5))
    assert LINKS.parse_confirmation_link(made).user_id == USER


@given(requested_at=st.datetimes(datetime(1, 1, 1), datetime(9999, 1, 1), timezones=st.just(UTC)))
def test_a_confirmation_link_holds_the_time_of_its_request(requested_at: datetime) -> None:
    """The time has microseconds, like the database's: a bounce in the same second may be earlier or later."""
    url = LINKS.build_confirmation_url(USER, requested_at)
    link = LINKS.parse_confirmation_link(url.rpartition("/")[2])
    assert (link.user_id, link.requested_at) == (USER, requested_at)


def test_a_confirmation_link_of_the_version_before_has_an_old_time() -> None:
    """A link without a time stays valid, because people have a week to follow it, across deployments."""
    signer = TimestampSigner(LINKS.signing_key, "confirm-address", key_derivation="hmac", digest_method=hashlib.sha256)
    link = LINKS.parse_confirmation_link(signer.sign(str(USER)).decode())
    assert (link.user_id, link.requested_at) == (USER, datetime(1970, 1, 1, tzinfo=UTC))


def test_an_unsubscription_link_never_changes() -> None:
    """The link of the oldest mail must work."""
    assert build_token(LinkSigner.build_unsubscription_url) == build_token(LinkSigner.build_unsubscription_url)
    assert LINKS.parse_unsubscription_link(build_token(LinkSigner.build_unsubscription_url)) == USER


def test_a_signed_text_that_is_no_user_is_forged() -> None:
    """The signed text must be a user's id, with a time or without."""
    options = {"key_derivation": "hmac", "digest_method": hashlib.sha256}
    with pytest.raises(LinkForgedError):
        LINKS.parse_confirmation_link(
            TimestampSigner(LINKS.signing_key, "confirm-address", **options).sign("nobody").decode()
        )
    with pytest.raises(LinkForgedError):
        LINKS.parse_confirmation_link(
            TimestampSigner(LINKS.signing_key, "confirm-address", **options).sign(f"{USER}~x").decode()
        )
    with pytest.raises(LinkForgedError):
        LINKS.parse_unsubscription_link(Signer(LINKS.signing_key, "unsubscribe", **options).sign("nobody").decode())


@of_each_kind
@given(text=st.text())
def test_any_other_text_is_forged(make: Make, read: Read, text: str) -> None:
    """Any text in the path gets the same error."""
    with pytest.raises(LinkForgedError):
        read(LINKS, text)


@of_each_kind
@given(position=st.integers(min_value=0, max_value=200), character=st.characters(codec="ascii"))
def test_a_changed_character_makes_a_link_forged(make: Make, read: Read, position: int, character: str) -> None:
    """A link is invalid once any of its characters is changed."""
    made = build_token(make)
    position %= len(made)
    if made[position] == character:
        return
    with pytest.raises((LinkForgedError, LinkExpiredError)):
        read(LINKS, made[:position] + character + made[position + 1 :])


@of_each_kind
@pytest.mark.parametrize("user_id", [USER, *(UUID(int=number) for number in range(8))], ids=str)
def test_only_the_genuine_last_character_makes_a_link(make: Make, read: Read, user_id: UUID) -> None:
    """base64 leaves two bits of a signature's last character unused: four characters decode to the same signature."""
    made = build_token(make, user_id=user_id)
    accepted = []
    for character in BASE64_ALPHABET:
        with suppress(LinkForgedError):
            assert read(LINKS, made[:-1] + character) == user_id
            accepted.append(character)
    assert accepted == [made[-1]]


@of_each_kind
@pytest.mark.parametrize("suffix", ["=", "==", "=====", "!", "\n", " ", "%3D", ".", "\u0660"])
def test_a_character_that_base64_decoders_skip_makes_a_link_forged(make: Make, read: Read, suffix: str) -> None:
    """Python's decoder accepts padding and skips characters outside the alphabet, at the end as within."""
    made = build_token(make)
    for changed in (made + suffix, made[:-1] + suffix + made[-1], made[:-20] + suffix + made[-20:]):
        with pytest.raises(LinkForgedError):
            read(LINKS, changed)


@pytest.mark.parametrize("respell", [lambda text: f"{text}=", lambda text: f"{text}==", lambda text: f"AAAA{text}"])
def test_a_timestamp_in_another_spelling_makes_a_link_forged(respell: Callable[[str], str]) -> None:
    """The signature covers the timestamp's text, and even under a genuine signature only one spelling is a link's."""
    made = build_token(LinkSigner.build_confirmation_url)
    value, timestamp, signature = made.rsplit(".", 2)
    with pytest.raises(LinkForgedError):
        LINKS.parse_confirmation_link(f"{value}.{respell(timestamp)}.{signature}")
    options = {"key_derivation": "hmac", "digest_method": hashlib.sha256}
    signer = Signer(LINKS.signing_key, "confirm-address", **options)
    assert LINKS.parse_confirmation_link(signer.sign(f"{value}.{timestamp}").decode()).user_id == USER
    with pytest.raises(LinkForgedError):
        LINKS.parse_confirmation_link(signer.sign(f"{value}.{respell(timestamp)}").decode())


def test_links_that_were_mailed_before_keep_working(monkeypatch: pytest.MonkeyPatch) -> None:
    """A link made by an earlier version, kept as it was mailed, identifies its user."""
    assert LINKS.parse_unsubscription_link(UNSUBSCRIPTION_MAILED_BEFORE) == USER
    monkeypatch.setattr(TimestampSigner, "get_timestamp", lambda _self: int(MAILED_AT.timestamp()) + 60)
    link = LINKS.parse_confirmation_link(CONFIRMATION_MAILED_BEFORE)
    assert (link.user_id, link.requested_at) == (USER, MAILED_AT)


def test_the_key_is_not_shown() -> None:
    """The printed form of the signer holds no secret."""
    assert "signing-key" not in repr(LINKS)
