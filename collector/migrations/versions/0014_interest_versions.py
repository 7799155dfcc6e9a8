"""Adds the former versions of interests, so that windows of before show by which version they were judged."""

from sqlalchemy import BigInteger, Boolean, Column, Integer, String, Uuid

from chassis.db.database import UtcDateTime
from chassis.db.migrations import create_index, create_table

revision = "0014"
down_revision = "0013"


def upgrade() -> None:
    """Add the table if it does not exist yet; of versions of before nothing is known."""
    create_table(
        "interest_versions",
        Column("id", BigInteger().with_variant(Integer, "sqlite"), primary_key=True, autoincrement=True),
        Column("interest_id", Uuid, nullable=False),
        Column("user_id", Uuid, nullable=False),
        Column("airport", String(4), nullable=False),
        Column("direction", String(10), nullable=False),
        Column("window_length", String(2), nullable=False),
        Column("aligned_to", String(7), nullable=False),
        Column("high", Integer, nullable=True),
        Column("low", Integer, nullable=True),
        Column("high_percent", Integer, nullable=True),
        Column("low_percent", Integer, nullable=True),
        Column("for_windows", Integer, nullable=False),
        Column("repeat", Boolean, nullable=False),
        Column("effective_from", UtcDateTime, nullable=False),
        Column("version", BigInteger, nullable=False),
        Column("since_at", UtcDateTime, nullable=False),
        Column("until_at", UtcDateTime, nullable=False),
    )
    create_index("ix_interest_versions_user", "interest_versions", "user_id", "id")
    create_index("ix_interest_versions_interest", "interest_versions", "interest_id", "id")
    create_index("ix_interest_versions_until", "interest_versions", "until_at")
