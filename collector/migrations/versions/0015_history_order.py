"""Adds to the days of history how far the coverage reached when they were published, and from where on it held them."""

from sqlalchemy import Column

from chassis.db.database import UtcDateTime
from chassis.db.migrations import add_column

revision = "0015"
down_revision = "0014"


def upgrade() -> None:
    """Add the columns, which are null for the days that exist."""
    add_column("history_days", Column("known_at", UtcDateTime, nullable=True))
    add_column("history_days", Column("judged_from", UtcDateTime, nullable=True))
