"""Revision 0008: sessions of browsers, and the links by which people sign in."""

from sqlalchemy import Column, String, UniqueConstraint, Uuid

from chassis.db.database import UtcDateTime
from chassis.db.migrations import create_index, create_table

revision = "0008"
down_revision = "0007"


def upgrade() -> None:
    """Create both tables; replicas of the version before know neither, and erase accounts without them."""
    create_table(
        "web_sessions",
        Column("session_id", Uuid, primary_key=True),
        Column("secret_sha256", String(64), nullable=False),
        Column("user_id", Uuid, nullable=False),
        Column("device", String(80), nullable=False),
        Column("created_at", UtcDateTime, nullable=False),
        Column("last_used_at", UtcDateTime, nullable=False),
        UniqueConstraint("secret_sha256", name="uq_web_sessions_secret_sha256"),
    )
    create_index("ix_web_sessions_user_id", "web_sessions", "user_id")
    create_index("ix_web_sessions_created_at", "web_sessions", "created_at")
    create_index("ix_web_sessions_last_used_at", "web_sessions", "last_used_at")

    create_table(
        "sign_in_links",
        Column("address_hash", String(64), primary_key=True),
        Column("mail_id", Uuid, nullable=False),
        Column("requested_at", UtcDateTime, nullable=False),
    )
    create_index("ix_sign_in_links_requested_at", "sign_in_links", "requested_at")
