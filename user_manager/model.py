"""The tables of user_manager's own database."""

from datetime import datetime
from enum import StrEnum
from uuid import UUID

from sqlalchemy import Index, LargeBinary, MetaData, String, UniqueConstraint, Uuid
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from chassis.db.database import TABLE_OPTIONS, UtcDateTime
from chassis.db.outbox import Outbox

SCHEMA = MetaData()


class Base(DeclarativeBase):
    """Base class of the mapped classes; it assigns them to this service's schema."""

    metadata = SCHEMA


class ConfirmationState(StrEnum):
    """How far the confirmation of an address is. The column holds the values that the notifier reports."""

    CONFIRMED = "confirmed"
    """The address is confirmed, and no mail to it has come back since. Never stored."""
    REQUESTED = "requested"
    """A mail was asked for, and nothing is known of it yet. Never stored."""
    WAITING = "waiting"
    """The mail server has put the mail off, or is away; the mail is tried again until its link would have expired."""
    SENT = "sent"
    """The mail server has accepted the mail."""
    FAILED = "failed"
    """The mail was refused for good, or given up."""


class User(Base):
    """A row of the table of accounts."""

    __tablename__ = "users"
    __table_args__ = (
        UniqueConstraint("address_key", name="uq_users_address_key"),
        UniqueConstraint("token_sha256", name="uq_users_token_sha256"),
        Index("ix_users_created_at", "created_at", "user_id"),
        TABLE_OPTIONS,
    )

    user_id: Mapped[UUID] = mapped_column(Uuid, primary_key=True)
    email: Mapped[str] = mapped_column(String(254))
    address_key: Mapped[str] = mapped_column(String(254))
    """The address in the form that is compared: see `addresses.Address.key`."""
    name: Mapped[str] = mapped_column(String(100))
    time_zone: Mapped[str] = mapped_column(String(64))
    confirmed: Mapped[bool]
    paused: Mapped[bool]
    created_at: Mapped[datetime] = mapped_column(UtcDateTime)
    version: Mapped[int]
    """Increases with every change of a value that the owner may see."""
    token_sha256: Mapped[str] = mapped_column(String(64))
    """In hexadecimal. The token itself is not stored."""
    confirmation_asked_at: Mapped[datetime] = mapped_column(UtcDateTime)
    """Time at which the last confirmation mail was requested."""
    confirmations_asked: Mapped[int]
    """Number of confirmation mails requested so far; the first is requested by the registration."""
    confirmed_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    """Time at which a link last confirmed the address; None: never, or before this column existed."""
    bounced_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    """Time of the last permanent rejection by a mail server; None: never."""
    confirmation_id: Mapped[UUID | None] = mapped_column(Uuid)
    """Id of the last request for a confirmation mail; None: requested before this column existed."""
    confirmation_state: Mapped[str | None] = mapped_column(String(16))
    """How far that mail is, as the notifier reported last; None: it has reported nothing."""

    @property
    def suppressed(self) -> bool:
        """Return True if mail to the address bounced after the address was last confirmed. ADR 19."""
        if self.bounced_at is None:
            return False
        return self.confirmed_at is None or self.bounced_at > self.confirmed_at

    @property
    def confirmation(self) -> ConfirmationState:
        """Return how far the confirmation of the address is, as its owner may see it.

        FAILED also if mail to the address has come back since the last confirmation mail was requested.
        """
        if self.confirmed and not self.suppressed:
            return ConfirmationState.CONFIRMED
        if not self.can_get_confirmation_mail:
            return ConfirmationState.FAILED
        return ConfirmationState(self.confirmation_state or ConfirmationState.REQUESTED)

    @property
    def can_get_confirmation_mail(self) -> bool:
        """Return True if a confirmation mail may be sent to the address, False if none may.

        A suppressed address gets one only if the owner requested it after the last bounce; any other address only if it
        is not confirmed.
        """
        if self.bounced_at is not None and self.suppressed:
            return self.confirmation_asked_at > self.bounced_at
        return not self.confirmed


class Deletion(Base):
    """A row of the table of deletions: the saga's record, which holds no personal data but the id. See `deletion`."""

    __tablename__ = "deletions"
    __table_args__ = (
        UniqueConstraint("user_id", name="uq_deletions_user_id"),
        Index("ix_deletions_next_attempt_at", "next_attempt_at"),
        TABLE_OPTIONS,
    )

    deletion_id: Mapped[UUID] = mapped_column(Uuid, primary_key=True)
    user_id: Mapped[UUID] = mapped_column(Uuid)
    step: Mapped[str] = mapped_column(String(16))
    """The next step to execute: a value of `deletion.steps.DeletionStep`."""
    request: Mapped[UUID] = mapped_column(Uuid)
    """Id of the last request for this deletion; only that request may cancel it."""
    attempts: Mapped[int]
    """Number of failed background attempts of the next step."""
    next_attempt_at: Mapped[datetime] = mapped_column(UtcDateTime)
    """Time of the next background attempt. A replica that moves it into the future holds a lease on the deletion."""
    requested_at: Mapped[datetime] = mapped_column(UtcDateTime)


class IdempotencyRecord(Base):
    """A row of the table of stored answers to requests, by idempotency key. Commits with the request's effect."""

    __tablename__ = "idempotency_records"
    __table_args__ = (
        Index("ix_idempotency_records_expires_at", "expires_at"),
        Index("ix_idempotency_records_user_id", "user_id"),
        TABLE_OPTIONS,
    )

    key_sha256: Mapped[str] = mapped_column(String(64), primary_key=True)
    """In hexadecimal, of the idempotency key."""
    body_sha256: Mapped[str] = mapped_column(String(64))
    user_id: Mapped[UUID] = mapped_column(Uuid)
    """The user whom the request created, so that erasing the account erases the answer too."""
    sealed_answer: Mapped[bytes] = mapped_column(LargeBinary(1 << 16))
    """The answer, encrypted because it holds a token."""
    expires_at: Mapped[datetime] = mapped_column(UtcDateTime)


OUTBOX = Outbox(SCHEMA)
