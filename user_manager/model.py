"""The tables of user_manager's own database."""

from datetime import datetime
from uuid import UUID

from sqlalchemy import MetaData, String, UniqueConstraint, Uuid
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from chassis.database import UtcDateTime
from chassis.outbox import Outbox

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
    token_sha256: Mapped[str] = mapped_column(String(64))
    """In hexadecimal. The token itself is not stored."""


OUTBOX = Outbox(SCHEMA)
