"""Adds to the coverage its last gap: the days that will never be collected."""

from sqlalchemy import Column

from chassis.db.database import UtcDateTime
from chassis.db.migrations import add_column

revision = "0007"
down_revision = "0006"


def upgrade() -> None:
    """Add the two columns if they do not exist yet."""
    for name in ("gap_from", "gap_until"):
        add_column("coverage", Column(name, UtcDateTime, nullable=True))
