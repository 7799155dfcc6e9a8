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

# A salt for each purpose: the signature of one kind of link is not valid for the other kind.
_CONFIRMATION: Final = "confirm-address"
_UNSUBSCRIPTION: Final = "unsubscribe"

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND: Final = timedelta(microseconds=1)


@dataclass(frozen=True, slots=True)
class ConfirmationLink:
    """The content of a genuine confirmation link."""

    user_id: UUID
    requested_at: datetime
    """Time at which the mail with this link was requested; 1970 if the link does not hold a time."""


@dataclass(frozen=True, slots=True)
class LinkSigner:
    """A builder and parser of signed links: links that confirm an address and links that stop all alerts.

    A link ends with a token: the user's id (in a confirmation link also times) and a signature, which the parsers
    verify. The signature of one kind of link is not valid for the other.
    itsdangerous reads the machine's own clock, so links expire in real time even if a service uses another clock:
    a person clicks in real time.
    """

    signing_key: str = field(repr=False)
    public_url: str
    """Base URL of the service as people reach it, without a trailing slash."""

    def build_confirmation_url(self, user_id: UUID, requested_at: datetime = _EPOCH) -> str:
        """Build the link that confirms the address of a user's account, valid for `CONFIRMATION_LINK_LIFETIME`.

        `requested_at` is the time at which the mail with the link was requested: a bounce after that time makes the
        link invalid.
        """
        value = f"{user_id}~{(requested_at - _EPOCH) // _MICROSECOND}"
        return f"{self.public_url}/confirm/{self._confirmation_signer().sign(value).decode('ascii')}"

    def parse_confirmation_link(self, link_token: str) -> ConfirmationLink:
        """Verify the last path segment of a confirmation link and return the link's content.

        Raises LinkExpiredError if a genuine link is older than CONFIRMATION_LINK_LIFETIME, LinkForgedError for any
        other defect, also for a link that is not, character for character, the one that was built.
        """
        signer = self._confirmation_signer()
        try:
            _require_canonical_signature(signer, link_token)
            # Its own check of the age would refuse a link from the future: the clock of the replica that signed it may
            # be a little ahead of this one's.
            value, signed_at = signer.unsign(link_token, return_timestamp=True)
            _require_canonical_timestamp(link_token, signed_at)
            if signer.get_timestamp() - signed_at.timestamp() > CONFIRMATION_LINK_LIFETIME.total_seconds():
                raise LinkExpiredError("This link has expired; ask for another mail.")
            # Links of the version before hold nothing but the user.
            user_id, _, microseconds = value.decode("ascii").partition("~")
            return ConfirmationLink(UUID(user_id), _EPOCH + int(microseconds or 0) * _MICROSECOND)
        except (BadSignature, ValueError):
            raise LinkForgedError(_FORGED) from None

    def build_unsubscription_url(self, user_id: UUID) -> str:
        """Build the link that stops all alerts of a user; the link never expires, so that the oldest mail's works."""
        return f"{self.public_url}/unsubscribe/{self._unsubscription_signer().sign(str(user_id)).decode('ascii')}"

    def parse_unsubscription_link(self, link_token: str) -> UUID:
        """Verify the last path segment of an unsubscription link, of any age, and return the user's id.

        Raises LinkForgedError.
        """
        signer = self._unsubscription_signer()
        try:
            _require_canonical_signature(signer, link_token)
            return UUID(signer.unsign(link_token).decode("ascii"))
        except (BadSignature, ValueError):
            raise LinkForgedError(_FORGED) from None

    def _confirmation_signer(self) -> TimestampSigner:
        return TimestampSigner(self.signing_key, _CONFIRMATION, key_derivation="hmac", digest_method=hashlib.sha256)

    def _unsubscription_signer(self) -> Signer:
        return Signer(self.signing_key, _UNSUBSCRIPTION, key_derivation="hmac", digest_method=hashlib.sha256)


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
