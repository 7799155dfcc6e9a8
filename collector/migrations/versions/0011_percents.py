"""Adds to the interests their thresholds in percent of what is usual."""

from sqlalchemy import Column, Integer

from chassis.db.migrations import add_column

revision = "0011"
down_revision = "0010"


def upgrade() -> None:
    """Add the two columns if they do not exist yet."""
    for name in ("high_percent", "low_percent"):
        add_column("interests", Column(name, Integer, nullable=True))
