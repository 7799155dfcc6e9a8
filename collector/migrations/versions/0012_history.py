"""Adds the days before an airport's coverage that are known already, as history for what is usual."""

from sqlalchemy import Boolean, Column, String

from chassis.db.database import UtcDateTime
from chassis.db.migrations import create_table

revision = "0012"
down_revision = "0011"


def upgrade() -> None:
    """Add the table if it does not exist yet."""
    create_table(
        "history_days",
        Column("airport", String(4), primary_key=True),
        Column("direction", String(10), primary_key=True),
        Column("day", UtcDateTime, primary_key=True),
        Column("covered", Boolean, nullable=False),
        Column("doubted_at", UtcDateTime, nullable=True),
    )
