"""Revision 0001: the tables of accounts and of the outbox, as they were before revisions existed."""

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Float,
    Integer,
    LargeBinary,
    String,
    UniqueConstraint,
    Uuid,
)

from chassis.db.database import UtcDateTime
from chassis.db.migrations import convert_to_binary_collation, create_table

revision = "0001"
down_revision = None


def upgrade() -> None:
    """Create the tables, unless they exist, and let existing ones compare texts letter by letter."""
    convert_to_binary_collation("users", "outbox", "outbox_relay")
    create_table(
        "users",
        Column("user_id", Uuid, primary_key=True),
        Column("email", String(254), nullable=False),
        Column("address_key", String(254), nullable=False),
        Column("name", String(100), nullable=False),
        Column("time_zone", String(64), nullable=False),
        Column("confirmed", Boolean, nullable=False),
        Column("paused", Boolean, nullable=False),
        Column("created_at", UtcDateTime, nullable=False),
        Column("token_sha256", String(64), nullable=False),
        UniqueConstraint("address_key", name="uq_users_address_key"),
        UniqueConstraint("token_sha256", name="uq_users_token_sha256"),
    )
    create_table(
        "outbox",
        Column("id", BigInteger().with_variant(Integer, "sqlite"), primary_key=True, autoincrement=True),
        Column("sequence", BigInteger, unique=True),
        Column("topic", String(249), nullable=False),
        Column("partition", Integer, nullable=False),
        Column("key", LargeBinary(512), nullable=False),
        Column("value", LargeBinary(1 << 24)),
    )
    create_table(
        "outbox_relay",
        Column("id", Integer, primary_key=True, autoincrement=False),
        Column("next_sequence", BigInteger, nullable=False),
        Column("owner", String(36)),
        Column("leased_until", Float(53), nullable=False),
    )
