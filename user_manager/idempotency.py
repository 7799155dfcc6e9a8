"""Requests that are carried out at most once: the same key with the same body gets the same answer again.

After draft-ietf-httpapi-idempotency-key-header. The record commits in the transaction of what the request does, so
there is no state in between that a crash could leave behind: "still in flight" is the database's own lock on the key.

An answer holds a token, which is never stored in clear: it is sealed with a key that is made of the service's own
secret and the idempotency key, of which only a digest is stored.
"""

import base64
import hashlib
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Final
from uuid import UUID

from cryptography.fernet import Fernet
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from sqlalchemy import delete
from sqlalchemy.orm import Session

from user_manager.errors import IdempotencyKeyReusedError
from user_manager.model import IdempotencyRecord

LIFE: Final = timedelta(minutes=5)


@dataclass(frozen=True, slots=True)
class IdempotentRequest:
    """A request as it is recognised."""

    key: str = field(repr=False)
    body_sha256: str

    @classmethod
    def of(cls, key: UUID | None, body: bytes) -> "IdempotentRequest":
        """`body`: equal for equal requests. Without a key it is the body itself that is recognised."""
        digest = hashlib.sha256(body).hexdigest()
        return cls(f"key {key}" if key is not None else f"body {digest}", digest)


@dataclass(frozen=True, slots=True)
class IdempotentAnswers:
    """The answers that were given, for as long as `life`."""

    secret: str = field(repr=False)
    life: timedelta = LIFE

    def given(self, session: Session, request: IdempotentRequest, now: datetime) -> bytes | None:
        """The answer that this request got before, or None. Raises IdempotencyKeyReusedError."""
        record = session.get(IdempotencyRecord, _digest(request.key))
        if record is None or record.expires_at <= now:
            return None
        if record.body_sha256 != request.body_sha256:
            raise IdempotencyKeyReusedError("This Idempotency-Key was used with another body; take a new one.")
        return self._seal(request).decrypt(record.sealed_answer)

    def record(self, session: Session, request: IdempotentRequest, user_id: UUID, answer: bytes, now: datetime) -> None:
        """Remember the answer to a request that made this user, in the transaction that makes them.

        Waits for another request with the same key that is in flight. Raises IntegrityError when that one commits,
        and the database's error when it takes too long.
        """
        key_sha256 = _digest(request.key)
        session.execute(
            delete(IdempotencyRecord).where(
                IdempotencyRecord.key_sha256 == key_sha256, IdempotencyRecord.expires_at <= now
            )
        )
        session.add(
            IdempotencyRecord(
                key_sha256=key_sha256,
                body_sha256=request.body_sha256,
                user_id=user_id,
                sealed_answer=self._seal(request).encrypt(answer),
                expires_at=now + self.life,
            )
        )
        session.flush()

    def sweep(self, session: Session, now: datetime) -> int:
        """Delete what has expired. Returns how many there were."""
        gone = session.connection().execute(delete(IdempotencyRecord).where(IdempotencyRecord.expires_at <= now))
        return gone.rowcount

    def _seal(self, request: IdempotentRequest) -> Fernet:
        derivation = HKDF(hashes.SHA256(), length=32, salt=None, info=b"idempotent answer")
        return Fernet(base64.urlsafe_b64encode(derivation.derive(f"{self.secret} {request.key}".encode())))


def forget_answers_about(session: Session, user_id: UUID) -> None:
    """Delete all answers that tell of this user."""
    session.execute(delete(IdempotencyRecord).where(IdempotencyRecord.user_id == user_id))


def _digest(key: str) -> str:
    return hashlib.sha256(key.encode()).hexdigest()
