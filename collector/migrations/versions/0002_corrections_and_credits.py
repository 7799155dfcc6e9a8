"""Adds the correction cursors, the last polls (`turns`), the credits, the leader's term and the outbox rows' age."""

from sqlalchemy import BigInteger, Column, Float, Integer, String

from chassis.db.database import UtcDateTime
from chassis.db.migrations import add_column, create_table

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    """Add the new columns and tables that do not exist yet."""
    add_column("coverage", Column("corrected_until", UtcDateTime))
    add_column("coverage", Column("incomplete_correction", UtcDateTime))
    add_column("outbox", Column("added_at", Float(53)))
    create_table(
        "turns",
        Column("airport", String(4), primary_key=True),
        Column("direction", String(10), primary_key=True),
        Column("asked_at", UtcDateTime, nullable=False),
    )
    create_table(
        "credits",
        Column("id", Integer, primary_key=True, autoincrement=False),
        Column("day", UtcDateTime, nullable=False),
        Column("spent", Integer, nullable=False),
        Column("unaccounted", Integer, nullable=False),
        Column("paused_until", UtcDateTime),
    )
    create_table(
        "leadership",
        Column("id", Integer, primary_key=True, autoincrement=False),
        Column("term", BigInteger, nullable=False),
    )
