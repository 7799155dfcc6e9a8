"""The tables of user_manager's own database."""

from datetime import datetime
from uuid import UUID

from sqlalchemy import Index, LargeBinary, MetaData, String, UniqueConstraint, Uuid
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from chassis.db.database import TABLE_OPTIONS, UtcDateTime
from chassis.db.outbox import Outbox

SCHEMA = MetaData()


class Base(DeclarativeBase):
    """Puts the mapped classes into this service's schema."""

    metadata = SCHEMA


class User(Base):
    """An account."""

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
    """The address as it is compared: see `addresses.Address.key`."""
    name: Mapped[str] = mapped_column(String(100))
    time_zone: Mapped[str] = mapped_column(String(64))
    confirmed: Mapped[bool]
    paused: Mapped[bool]
    created_at: Mapped[datetime] = mapped_column(UtcDateTime)
    version: Mapped[int]
    """Grows with every change of what the owner sees."""
    token_sha256: Mapped[str] = mapped_column(String(64))
    """In hexadecimal. The token itself is not stored."""
    confirmation_asked_at: Mapped[datetime] = mapped_column(UtcDateTime)
    """When the last confirmation mail was asked for."""
    confirmations_asked: Mapped[int]
    """How many confirmation mails were asked for, the first by registering."""
    confirmed_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    """When a link last confirmed the address; None: never, or before this was recorded."""
    bounced_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    """When a mail server last said that there is no such address; None: never."""

    @property
    def suppressed(self) -> bool:
        """Whether mail came back since the address was last confirmed. ADR 19."""
        if self.bounced_at is None:
            return False
        return self.confirmed_at is None or self.bounced_at > self.confirmed_at

    @property
    def confirmable(self) -> bool:
        """Whether a confirmation mail may go to the address.

        To one that is suppressed only if its owner asked for it since mail last came back.
        """
        if self.bounced_at is not None and self.suppressed:
            return self.confirmation_asked_at > self.bounced_at
        return not self.confirmed


class Deletion(Base):
    """A deletion under way: the saga's record, which holds nothing about the person but the id. See `deletion`."""

    __tablename__ = "deletions"
    __table_args__ = (
        UniqueConstraint("user_id", name="uq_deletions_user_id"),
        Index("ix_deletions_next_attempt_at", "next_attempt_at"),
        TABLE_OPTIONS,
    )

    deletion_id: Mapped[UUID] = mapped_column(Uuid, primary_key=True)
    user_id: Mapped[UUID] = mapped_column(Uuid)
    step: Mapped[str] = mapped_column(String(16))
    """The step that comes next: a value of `deletion.Step`."""
    request: Mapped[UUID] = mapped_column(Uuid)
    """The last request that began on it; only that one may call the deletion off."""
    attempts: Mapped[int]
    """How often the next step was tried in the background since the last one succeeded."""
    next_attempt_at: Mapped[datetime] = mapped_column(UtcDateTime)
    """When the background goes on with it. Whoever moves it on in a transaction holds the deletion until then."""
    requested_at: Mapped[datetime] = mapped_column(UtcDateTime)


class IdempotencyRecord(Base):
    """That a request was answered, and how. Commits together with what the request did."""

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
    """Whom the request made, so that erasing the account erases the answer too."""
    sealed_answer: Mapped[bytes] = mapped_column(LargeBinary(1 << 16))
    """The answer, encrypted, for a token is in it."""
    expires_at: Mapped[datetime] = mapped_column(UtcDateTime)


OUTBOX = Outbox(SCHEMA)
