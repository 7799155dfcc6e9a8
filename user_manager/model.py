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
    """The state of the confirmation of an address. The column holds the values that the notifier reports."""

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
        # An address has at most one confirmed and one unconfirmed account. ADR 28.
        UniqueConstraint("address_key", "confirmed", name="uq_users_address"),
        UniqueConstraint("token_sha256", name="uq_users_token_sha256"),
        Index("ix_users_created_at", "created_at", "user_id"),
        Index("ix_users_address_digest", "address_digest"),
        Index("ix_users_confirmation_asked_at", "confirmed", "confirmation_asked_at"),
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
    address_digest: Mapped[str | None] = mapped_column(String(64))
    """SHA-256 of `address_key` in hexadecimal, by which links name an address; None: written by a version before."""
    language: Mapped[str | None] = mapped_column(String(8))
    """Tag of the language in which the person reads the pages; None: English."""
    corrections: Mapped[bool | None]
    """False if the person wants no mails about what the settled record corrects; True or None: wants them."""

    @property
    def suppressed(self) -> bool:
        """Return True if mail to the address bounced after the address was last confirmed, else False. ADR 19."""
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


class Mailbox(Base):
    """A row of the table of mailboxes that strangers can cause mail to. It outlives accounts. See `mailbox_limits`."""

    __tablename__ = "mailboxes"
    __table_args__ = (Index("ix_mailboxes_touched_at", "touched_at"), TABLE_OPTIONS)

    mailbox_hash: Mapped[str] = mapped_column(String(64), primary_key=True)
    """HMAC of the normalized address, in hexadecimal."""
    mails: Mapped[int]
    """Number of mails that were requested since the row exists."""
    last_mail_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    """Time of the last of these requests; None: there was none."""
    stopped_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    """Time at which the owner stopped these mails by a link; None: they are not stopped."""
    proved_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    """Time at which a link last confirmed this spelling of the address; None: never."""
    touched_at: Mapped[datetime] = mapped_column(UtcDateTime)
    """Time of the last request or change; the row is deleted some time after it."""


class MailQuota(Base):
    """A row of the table of mail counts: of a client, a network or all, in one hour. See `mailbox_limits`."""

    __tablename__ = "mail_quotas"
    __table_args__ = (Index("ix_mail_quotas_hour", "hour"), TABLE_OPTIONS)

    scope: Mapped[str] = mapped_column(String(80), primary_key=True)
    """"all"; or "client " and the HMAC of a client's IP address; or "network " and the HMAC of a network."""
    hour: Mapped[datetime] = mapped_column(UtcDateTime)
    """Start of the hour that `mails` is about."""
    mails: Mapped[int]


class MailRequest(Base):
    """A row of the table of account mails that were requested and are not known to be sent. See `mail_requests`."""

    __tablename__ = "mail_requests"
    __table_args__ = (
        Index("ix_mail_requests_address_digest", "address_digest"),
        Index("ix_mail_requests_requested_at", "requested_at"),
        TABLE_OPTIONS,
    )

    request_id: Mapped[UUID] = mapped_column(Uuid, primary_key=True)
    """The user id in the event that requests the mail; a token request has an id that is no user's."""
    mail_id: Mapped[UUID] = mapped_column(Uuid)
    """The confirmation id in that event."""
    kind: Mapped[str] = mapped_column(String(16))
    """A value of `mail_requests.MailKind`."""
    email: Mapped[str] = mapped_column(String(254))
    address_digest: Mapped[str] = mapped_column(String(64))
    requested_at: Mapped[datetime] = mapped_column(UtcDateTime)


class WebSession(Base):
    """A row of the table of sessions: a browser in which somebody is signed in. See `web_sessions`."""

    __tablename__ = "web_sessions"
    __table_args__ = (
        UniqueConstraint("secret_sha256", name="uq_web_sessions_secret_sha256"),
        Index("ix_web_sessions_user_id", "user_id"),
        Index("ix_web_sessions_created_at", "created_at"),
        Index("ix_web_sessions_last_used_at", "last_used_at"),
        TABLE_OPTIONS,
    )

    session_id: Mapped[UUID] = mapped_column(Uuid, primary_key=True)
    """The name of the session for its owner; it opens nothing."""
    secret_sha256: Mapped[str] = mapped_column(String(64))
    """In hexadecimal. The secret itself is in the browser's cookie alone."""
    user_id: Mapped[UUID] = mapped_column(Uuid)
    device: Mapped[str] = mapped_column(String(80))
    """Browser and system in words, such as "Firefox on Linux"; see `devices`."""
    created_at: Mapped[datetime] = mapped_column(UtcDateTime)
    last_used_at: Mapped[datetime] = mapped_column(UtcDateTime)
    """Time of the last use that was recorded: at most `web_sessions.USE_RECORDED_EVERY` before the last one."""


class SignInLink(Base):
    """A row of the table of links that sign in: the one link of each address that still works. See `sign_in`."""

    __tablename__ = "sign_in_links"
    __table_args__ = (Index("ix_sign_in_links_requested_at", "requested_at"), TABLE_OPTIONS)

    address_hash: Mapped[str] = mapped_column(String(64), primary_key=True)
    """HMAC of the address' digest, in hexadecimal; the address need not have an account."""
    mail_id: Mapped[UUID] = mapped_column(Uuid)
    """The id of the mail with the link, as the link holds it."""
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
