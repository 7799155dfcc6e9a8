"""Idempotency of requests: a request with the same key and the same body is executed once and gets the same answer.

It follows draft-ietf-httpapi-idempotency-key-header. The record commits in the same transaction as the request's
effect, so a crash leaves no state in between: "still in flight" is the database's own lock on the key.

An answer holds a token, which is never stored in clear: the answer is encrypted with a key derived from the service's
own secret and the idempotency key, of which only a digest is stored.
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

ANSWER_LIFETIME: Final = timedelta(minutes=5)
"""Default time for which an answer is stored."""


@dataclass(frozen=True, slots=True)
class IdempotentRequest:
    """The identity of a request: two requests with the same key are the same request, if their bodies are equal."""

    key: str = field(repr=False)
    body_sha256: str
    """In hexadecimal."""

    @property
    def has_key(self) -> bool:
        """Return True if an Idempotency-Key identifies the request, False if its body does, which others may know."""
        return self.key.startswith("key ")

    @classmethod
    def from_key_and_body(cls, key: UUID | None, body: bytes) -> "IdempotentRequest":
        """Build the identity of a request from its Idempotency-Key and its body; without a key, the body is the key.

        `body` must have the same bytes for equal requests.
        """
        digest = hashlib.sha256(body).hexdigest()
        return cls(f"key {key}" if key is not None else f"body {digest}", digest)


@dataclass(frozen=True, slots=True)
class IdempotencyStore:
    """A store of answers to idempotent requests, encrypted in the database, each for `lifetime`.

    In one transaction a caller first calls `load_answer`; if the request is new, it calls `record_answer` and creates
    the effect of the request.
    """

    secret: str = field(repr=False)
    lifetime: timedelta = ANSWER_LIFETIME

    def load_answer(self, session: Session, request: IdempotentRequest, now: datetime) -> bytes | None:
        """Return the decrypted answer that this request got before; None if it got none or the answer has expired.

        Raises IdempotencyKeyReusedError if the key was used with another body.
        """
        record = session.get(IdempotencyRecord, _compute_digest(request.key))
        if record is None or record.expires_at <= now:
            return None
        if record.body_sha256 != request.body_sha256:
            raise IdempotencyKeyReusedError("This Idempotency-Key was used with another body; take a new one.")
        return self._build_cipher(request).decrypt(record.sealed_answer)

    def record_answer(
        self, session: Session, request: IdempotentRequest, user_id: UUID, answer: bytes, now: datetime
    ) -> None:
        """Store the encrypted answer to a request that creates this user, in the transaction that creates the user.

        Replaces an expired answer with the same key, and flushes the session. Waits while another request with the same
        key is in flight. Raises IntegrityError if that other request commits, and the database's error if the wait
        takes too long.
        """
        key_sha256 = _compute_digest(request.key)
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
                sealed_answer=self._build_cipher(request).encrypt(answer),
                expires_at=now + self.lifetime,
            )
        )
        session.flush()

    def delete_expired(self, session: Session, now: datetime) -> int:
        """Delete all expired answers in the session's transaction, and return their number."""
        deleted = session.connection().execute(delete(IdempotencyRecord).where(IdempotencyRecord.expires_at <= now))
        return deleted.rowcount

    def _build_cipher(self, request: IdempotentRequest) -> Fernet:
        """Derive the cipher for the answer to this request from the service's secret and the idempotency key (HKDF)."""
        derivation = HKDF(hashes.SHA256(), length=32, salt=None, info=b"idempotent answer")
        return Fernet(base64.urlsafe_b64encode(derivation.derive(f"{self.secret} {request.key}".encode())))


def delete_answers_of_user(session: Session, user_id: UUID) -> None:
    """Delete all stored answers to requests that created this user, in the session's transaction."""
    session.execute(delete(IdempotencyRecord).where(IdempotencyRecord.user_id == user_id))


def _compute_digest(key: str) -> str:
    return hashlib.sha256(key.encode()).hexdigest()
