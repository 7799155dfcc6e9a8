"""Confirmation links: signed, so that they need no table, and expiring."""

import hashlib
from dataclasses import dataclass, field
from datetime import timedelta
from uuid import UUID

from itsdangerous import BadSignature, SignatureExpired, TimestampSigner

from user_manager.errors import LinkExpiredError, LinkForgedError

LIFE = timedelta(days=7)


@dataclass(frozen=True, slots=True)
class Links:
    """Makes and reads the links that confirm an address.

    itsdangerous reads the machine's own clock, so links expire in real time also where the service is handed
    another clock: a person clicks in real time.
    """

    signing_key: str = field(repr=False)
    public_url: str
    """Without a slash at its end."""

    def url(self, user_id: UUID) -> str:
        """The link that confirms the address of this user's account. Good for `LIFE` from now."""
        return f"{self.public_url}/confirm/{self._signer().sign(str(user_id)).decode('ascii')}"

    def user_of(self, token: str) -> UUID:
        """The user whose link ends with `token`. Raises LinkForgedError, LinkExpiredError."""
        try:
            return UUID(self._signer().unsign(token, max_age=int(LIFE.total_seconds())).decode("ascii"))
        except SignatureExpired:
            raise LinkExpiredError("This link has expired; ask for another mail.") from None
        except (BadSignature, ValueError):
            raise LinkForgedError("This link is not one of ours, or a part of it is missing.") from None

    def _signer(self) -> TimestampSigner:
        # The salt keeps these signatures apart from any other that the same key may make one day.
        return TimestampSigner(
            self.signing_key, salt="confirm-address", key_derivation="hmac", digest_method=hashlib.sha256
        )
