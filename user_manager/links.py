"""Signed links for mails: they need no database table and no login."""

import hashlib
import hmac
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Final
from uuid import UUID

from itsdangerous import BadSignature, Signer, TimestampSigner
from itsdangerous.encoding import base64_encode, int_to_bytes

from user_manager.errors import LinkExpiredError, LinkForgedError

CONFIRMATION_LINK_LIFETIME: Final = timedelta(days=7)
TOKEN_LINK_LIFETIME: Final = CONFIRMATION_LINK_LIFETIME
"""As long as the longest pause between mails: else a stranger who asks for a mail each night, whose link nobody uses in
time, would keep the owner of a lost token out."""

SIGN_IN_LINK_LIFETIME: Final = timedelta(minutes=15)
"""Time for which a link signs in, from the attempt to send its mail."""
SIGN_IN_RENEWAL_LIFETIME: Final = CONFIRMATION_LINK_LIFETIME
"""Time for which a link that is too old to sign in may ask for a new one; as long for the same reason as
`TOKEN_LINK_LIFETIME`."""

# A salt for each purpose: the signature of one kind of link is not valid for the other kind.
_CONFIRMATION: Final = "confirm-address"
_UNSUBSCRIPTION: Final = "unsubscribe"
_TOKEN: Final = "new-token"  # noqa: S105 - a purpose
_STOP: Final = "stop-account-mails"
_ALERT_STOP: Final = "stop-alert"
_SIGN_IN: Final = "sign-in"

_TOKEN_DIGEST_LENGTH: Final = 16
"""Digits of the present token's digest in a link to a new token: enough to tell one token from the next."""

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND: Final = timedelta(microseconds=1)


@dataclass(frozen=True, slots=True)
class ConfirmationLink:
    """The content of a genuine confirmation link."""

    user_id: UUID
    requested_at: datetime
    """Time at which the mail with this link was requested; 1970 if the link does not hold a time."""
    address_digest: str = ""
    """The digest of the address that the link proves; empty in a link that proves its account's address only."""


@dataclass(frozen=True, slots=True)
class TokenLink:
    """The content of a genuine link to a new token."""

    user_id: UUID
    replaced_digest: str
    """The beginning of the digest of the token that the link replaces."""


@dataclass(frozen=True, slots=True)
class SignInLink:
    """The content of a genuine link that signs in."""

    user_id: UUID
    mail_id: UUID
    """The id of the mail with the link."""
    requested_at: datetime
    """Time at which that mail was requested."""


@dataclass(frozen=True, slots=True)
class StopLink:
    """The content of a genuine link that stops account mails."""

    mailbox_hash: str
    address_digest: str
    """The digest of the address that the mail with the link went to."""


@dataclass(frozen=True, slots=True)
class AlertStopLink:
    """The content of a genuine link that stops one alert: whose interest it removes, and which."""

    user_id: UUID
    interest_id: UUID


@dataclass(frozen=True, slots=True)
class LinkSigner:
    """A builder and parser of signed links: confirm an address, stop alerts, replace a token, sign in, stop mails.

    A link ends with a token: what it is about (and times, where it expires) and a signature, which the parsers verify.
    The signature of one kind of link is not valid for another.
    itsdangerous reads the machine's own clock, so links expire in real time even if a service uses another clock:
    a person clicks in real time.
    """

    signing_key: str = field(repr=False)
    public_url: str
    """Base URL of the service as people reach it, without a trailing slash."""

    def build_confirmation_url(self, user_id: UUID, requested_at: datetime = _EPOCH, address_digest: str = "") -> str:
        """Build the link that confirms the address of a user's account, valid for `CONFIRMATION_LINK_LIFETIME`.

        `requested_at` is the time at which the mail with the link was requested: a bounce after that time makes the
        link invalid. With `address_digest` the link also confirms the address after that account was replaced.
        """
        value = f"{user_id}~{(requested_at - _EPOCH) // _MICROSECOND}"
        if address_digest:
            value += f"~{address_digest}"
        return f"{self.public_url}/confirm/{self._build_timestamp_signer(_CONFIRMATION).sign(value).decode('ascii')}"

    def parse_confirmation_link(self, link_token: str) -> ConfirmationLink:
        """Verify the last path segment of a confirmation link and return the link's content.

        Raises LinkExpiredError if a genuine link is older than CONFIRMATION_LINK_LIFETIME, LinkForgedError for any
        other defect, also for a link that is not, character for character, the one that was built.
        """
        try:
            value = self._parse_timed_link(_CONFIRMATION, link_token, CONFIRMATION_LINK_LIFETIME)
            # Links of versions before hold nothing but the user, or the user and a time.
            user_id, _, rest = value.partition("~")
            microseconds, _, digest = rest.partition("~")
            return ConfirmationLink(UUID(user_id), _EPOCH + int(microseconds or 0) * _MICROSECOND, digest)
        except (BadSignature, ValueError):
            raise LinkForgedError(_FORGED) from None

    def build_token_url(self, user_id: UUID, token_sha256: str) -> str:
        """Build the link that replaces the token with this digest by a new one, valid for `TOKEN_LINK_LIFETIME`."""
        value = f"{user_id}~{token_sha256[:_TOKEN_DIGEST_LENGTH]}"
        return f"{self.public_url}/token/{self._build_timestamp_signer(_TOKEN).sign(value).decode('ascii')}"

    def parse_token_link(self, link_token: str) -> TokenLink:
        """Verify the last path segment of a link to a new token and return the link's content.

        Raises LinkExpiredError if a genuine link is older than TOKEN_LINK_LIFETIME, else LinkForgedError.
        """
        try:
            user_id, _, digest = self._parse_timed_link(_TOKEN, link_token, TOKEN_LINK_LIFETIME).partition("~")
            return TokenLink(UUID(user_id), digest)
        except (BadSignature, ValueError):
            raise LinkForgedError(_FORGED) from None

    def build_sign_in_url(self, user_id: UUID, mail_id: UUID, requested_at: datetime) -> str:
        """Build the link that signs a user in, in the mail with this id, valid for `SIGN_IN_LINK_LIFETIME`.

        The time is counted from now: a mail that waits for the mail server gets a new link at each attempt.
        """
        value = f"{user_id}~{mail_id}~{(requested_at - _EPOCH) // _MICROSECOND}"
        return f"{self.public_url}/sign-in/{self._build_timestamp_signer(_SIGN_IN).sign(value).decode('ascii')}"

    def parse_sign_in_link(self, link_token: str, lifetime: timedelta = SIGN_IN_LINK_LIFETIME) -> SignInLink:
        """Verify the last path segment of a link that signs in, and return its content.

        Raises LinkExpiredError if a genuine link is older than `lifetime`, else LinkForgedError.
        """
        try:
            user_id, mail_id, microseconds = self._parse_timed_link(_SIGN_IN, link_token, lifetime).split("~")
            return SignInLink(UUID(user_id), UUID(mail_id), _EPOCH + int(microseconds) * _MICROSECOND)
        except (BadSignature, ValueError):
            raise LinkForgedError(_FORGED) from None

    def build_stop_url(self, mailbox_hash: str, address_digest: str) -> str:
        """Build the link "this was not me", which stops account mails to a mailbox; it never expires."""
        value = f"{mailbox_hash}~{address_digest}"
        return f"{self.public_url}/not-me/{self._build_signer(_STOP).sign(value).decode('ascii')}"

    def parse_stop_link(self, link_token: str) -> StopLink:
        """Verify the last path segment of a link "this was not me", of any age, and return its content.

        Raises LinkForgedError.
        """
        mailbox_hash, _, address_digest = self._parse_lasting_link(_STOP, link_token).partition("~")
        return StopLink(mailbox_hash, address_digest)

    def build_unsubscription_url(self, user_id: UUID) -> str:
        """Build the link that stops all alerts of a user; the link never expires, so that the oldest mail's works."""
        return f"{self.public_url}/unsubscribe/{self._build_signer(_UNSUBSCRIPTION).sign(str(user_id)).decode('ascii')}"

    def parse_unsubscription_link(self, link_token: str) -> UUID:
        """Verify the last path segment of an unsubscription link, of any age, and return the user's id.

        Raises LinkForgedError.
        """
        try:
            return UUID(self._parse_lasting_link(_UNSUBSCRIPTION, link_token))
        except ValueError:
            raise LinkForgedError(_FORGED) from None

    def build_change_url(self, interest_id: UUID) -> str:
        """Build the link to the page on which an interest is changed; it is not signed and opens nothing by itself."""
        return f"{self.public_url}/watch?interest={interest_id}"

    def build_alert_stop_url(self, user_id: UUID, interest_id: UUID) -> str:
        """Build the link that removes one interest of a user; it never expires, so that the oldest mail's works.

        It does not check that the interest exists and is this user's: the collector does when the link is used.
        """
        value = f"{user_id}~{interest_id}"
        return f"{self.public_url}/stop/{self._build_signer(_ALERT_STOP).sign(value).decode('ascii')}"

    def parse_alert_stop_link(self, link_token: str) -> AlertStopLink:
        """Verify the last path segment of a link that stops one alert, of any age, and return its content.

        Raises LinkForgedError.
        """
        try:
            user_id, interest_id = self._parse_lasting_link(_ALERT_STOP, link_token).split("~")
            return AlertStopLink(UUID(user_id), UUID(interest_id))
        except ValueError:
            raise LinkForgedError(_FORGED) from None

    def _parse_timed_link(self, purpose: str, link_token: str, lifetime: timedelta) -> str:
        """Verify a link that expires, and return its value.

        Raises LinkExpiredError if a genuine link is older than `lifetime`, BadSignature or ValueError for any other
        defect.
        """
        signer = self._build_timestamp_signer(purpose)
        _require_canonical_signature(signer, link_token)
        # Its own check of the age would refuse a link from the future: the clock of the replica that signed it may be a
        # little ahead of this one's.
        value, signed_at = signer.unsign(link_token, return_timestamp=True)
        _require_canonical_timestamp(link_token, signed_at)
        if signer.get_timestamp() - signed_at.timestamp() > lifetime.total_seconds():
            raise LinkExpiredError("This link has expired; ask for another mail.")
        return value.decode("ascii")

    def _parse_lasting_link(self, purpose: str, link_token: str) -> str:
        """Verify a link that never expires, and return its value. Raises LinkForgedError."""
        signer = self._build_signer(purpose)
        try:
            _require_canonical_signature(signer, link_token)
            return signer.unsign(link_token).decode("ascii")
        except (BadSignature, ValueError):
            raise LinkForgedError(_FORGED) from None

    def _build_timestamp_signer(self, purpose: str) -> TimestampSigner:
        return TimestampSigner(self.signing_key, purpose, key_derivation="hmac", digest_method=hashlib.sha256)

    def _build_signer(self, purpose: str) -> Signer:
        return Signer(self.signing_key, purpose, key_derivation="hmac", digest_method=hashlib.sha256)


def _require_canonical_signature(signer: Signer, link_token: str) -> None:
    """Raise BadSignature unless the signature in `link_token` is, character for character, the one that `signer` makes.

    itsdangerous compares decoded bytes. Several texts decode to the same bytes: the last character of base64 without
    padding has unused bits, and Python's decoder accepts padding and skips characters outside the alphabet.
    """
    payload, _, signature = link_token.rpartition(".")
    if not hmac.compare_digest(signer.get_signature(payload), signature.encode()):
        raise BadSignature("The signature is not in its canonical form.")


def _require_canonical_timestamp(link_token: str, signed_at: datetime) -> None:
    """Raise BadSignature unless the timestamp in `link_token` is `signed_at` in the form that the signer writes."""
    timestamp = link_token.split(".")[-2]
    if timestamp.encode() != base64_encode(int_to_bytes(int(signed_at.timestamp()))):
        raise BadSignature("The timestamp is not in its canonical form.")


_FORGED: Final = "This link is not one of ours, or a part of it is missing."
