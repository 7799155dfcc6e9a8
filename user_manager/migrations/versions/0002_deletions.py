"""Revision 0002: deletions that survive a crash, idempotency records, account versions, confirmation limits."""

from alembic import op
from sqlalchemy import Column, Integer, LargeBinary, String, UniqueConstraint, Uuid

from chassis.db.database import UtcDateTime
from chassis.db.migrations import add_column, create_index, create_table, require_not_null

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    """Add the columns of accounts with values for existing rows, and create the two tables."""
    added = (
        Column("version", Integer),
        Column("confirmation_asked_at", UtcDateTime),
        Column("confirmations_asked", Integer),
    )
    for column in added:
        add_column("users", column)
    op.execute(
        "UPDATE users SET version = 1, confirmation_asked_at = created_at, confirmations_asked = 1"
        " WHERE version IS NULL"
    )
    require_not_null("users", *added)
    create_index("ix_users_created_at", "users", "created_at", "user_id")

    create_table(
        "deletions",
        Column("deletion_id", Uuid, primary_key=True),
        Column("user_id", Uuid, nullable=False),
        Column("step", String(16), nullable=False),
        Column("request", Uuid, nullable=False),
        Column("attempts", Integer, nullable=False),
        Column("next_attempt_at", UtcDateTime, nullable=False),
        Column("requested_at", UtcDateTime, nullable=False),
        UniqueConstraint("user_id", name="uq_deletions_user_id"),
    )
    create_index("ix_deletions_next_attempt_at", "deletions", "next_attempt_at")

    create_table(
        "idempotency_records",
        Column("key_sha256", String(64), primary_key=True),
        Column("body_sha256", String(64), nullable=False),
        Column("user_id", Uuid, nullable=False),
        Column("sealed_answer", LargeBinary(1 << 16), nullable=False),
        Column("expires_at", UtcDateTime, nullable=False),
    )
    create_index("ix_idempotency_records_expires_at", "idempotency_records", "expires_at")
    create_index("ix_idempotency_records_user_id", "idempotency_records", "user_id")
