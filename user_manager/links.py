"""The links in mails: signed, so that they need no table and no login."""

import hashlib
import hmac
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Final
from uuid import UUID

from itsdangerous import BadSignature, SignatureExpired, Signer, TimestampSigner
from itsdangerous.encoding import base64_encode, int_to_bytes

from user_manager.errors import LinkExpiredError, LinkForgedError

CONFIRMATION_LIFE: Final = timedelta(days=7)

# A salt for each purpose: a link that does one thing is no link that does another.
_CONFIRMATION: Final = "confirm-address"
_UNSUBSCRIPTION: Final = "unsubscribe"

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND: Final = timedelta(microseconds=1)


@dataclass(frozen=True, slots=True)
class ConfirmationLink:
    """What a confirmation link says."""

    user_id: UUID
    wished_at: datetime
    """When the mail with this link was asked for; long ago where the link does not tell."""


@dataclass(frozen=True, slots=True)
class Links:
    """Makes and reads the links that confirm an address, and those that stop all alerts.

    itsdangerous reads the machine's own clock, so links expire in real time also where a service is handed another
    clock: a person clicks in real time.
    """

    signing_key: str = field(repr=False)
    public_url: str
    """Without a slash at its end."""

    def confirmation_url(self, user_id: UUID, wished_at: datetime = _EPOCH) -> str:
        """The link that confirms the address of this user's account. Good for `CONFIRMATION_LIFE` from now.

        `wished_at` is when the mail with it was asked for: mail that came back from the address after that voids it.
        """
        signed = f"{user_id}~{(wished_at - _EPOCH) // _MICROSECOND}"
        signer = TimestampSigner(self.signing_key, _CONFIRMATION, key_derivation="hmac", digest_method=hashlib.sha256)
        return f"{self.public_url}/confirm/{signer.sign(signed).decode('ascii')}"

    def confirming(self, link_token: str) -> ConfirmationLink:
        """What the confirmation link that ends with `link_token` says. Raises LinkForgedError, LinkExpiredError."""
        signer = TimestampSigner(self.signing_key, _CONFIRMATION, key_derivation="hmac", digest_method=hashlib.sha256)
        try:
            _require_canonical_signature(signer, link_token)
            max_age = int(CONFIRMATION_LIFE.total_seconds())
            value, signed_at = signer.unsign(link_token, max_age, return_timestamp=True)
            _require_canonical_timestamp(link_token, signed_at)
            # Links of the version before hold nothing but the user.
            user_id, _, microseconds = value.decode("ascii").partition("~")
            return ConfirmationLink(UUID(user_id), _EPOCH + int(microseconds or 0) * _MICROSECOND)
        except SignatureExpired:
            raise LinkExpiredError("This link has expired; ask for another mail.") from None
        except (BadSignature, ValueError):
            raise LinkForgedError(_FORGED) from None

    def unsubscription_url(self, user_id: UUID) -> str:
        """The link that stops all alerts for this user. Good for ever: it must work from the oldest mail too."""
        signer = Signer(self.signing_key, _UNSUBSCRIPTION, key_derivation="hmac", digest_method=hashlib.sha256)
        return f"{self.public_url}/unsubscribe/{signer.sign(str(user_id)).decode('ascii')}"

    def unsubscribing(self, link_token: str) -> UUID:
        """The user whose unsubscription link ends with `link_token`. Raises LinkForgedError."""
        signer = Signer(self.signing_key, _UNSUBSCRIPTION, key_derivation="hmac", digest_method=hashlib.sha256)
        try:
            _require_canonical_signature(signer, link_token)
            return UUID(signer.unsign(link_token).decode("ascii"))
        except (BadSignature, ValueError):
            raise LinkForgedError(_FORGED) from None


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
