"""Adds to the last poll of each airport and direction its last answer that could not be counted."""

from sqlalchemy import Column

from chassis.db.database import UtcDateTime
from chassis.db.migrations import add_column

revision = "0009"
down_revision = "0008"


def upgrade() -> None:
    """Add the two columns if they do not exist yet."""
    for name in ("uncounted_begin", "uncounted_at"):
        add_column("turns", Column(name, UtcDateTime, nullable=True))
