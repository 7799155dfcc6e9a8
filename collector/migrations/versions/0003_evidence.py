"""Adds the evidence of the source's records, doubted answers, unheard airports, and what is kept about the source."""

from sqlalchemy import Column, Float, Integer, String, Uuid

from chassis.db.database import UtcDateTime
from chassis.db.migrations import add_column, create_table

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    """Add the new columns and tables that do not exist yet."""
    add_column("coverage", Column("doubted_day", UtcDateTime))
    add_column("coverage", Column("doubted_at", UtcDateTime))
    add_column("credits", Column("live_spent", Integer, nullable=False, server_default="0"))
    create_table(
        "nightly_records",
        Column("day", UtcDateTime, primary_key=True),
        Column("direction", String(10), primary_key=True),
        Column("asked_at", UtcDateTime),
        Column("attempts", Integer, nullable=False),
        Column("airport", String(4)),
        Column("flights", Integer, nullable=False),
        Column("digest", String(64)),
        Column("there_since", UtcDateTime),
        Column("whole_since", UtcDateTime),
    )
    create_table(
        "unheard",
        Column("airport", String(4), primary_key=True),
        Column("direction", String(10), primary_key=True),
        Column("since", UtcDateTime, nullable=False),
        Column("asked_until", UtcDateTime, nullable=False),
    )
    create_table(
        "unheard_notices",
        Column("airport", String(4), primary_key=True),
        Column("user_id", Uuid, primary_key=True),
    )
    create_table(
        "foreign_answers",
        Column("kind", String(40), primary_key=True),
        Column("answers", Integer, nullable=False),
        Column("last_at", UtcDateTime, nullable=False),
    )
    create_table(
        "source_clock",
        Column("id", Integer, primary_key=True, autoincrement=False),
        Column("compared_at", UtcDateTime, nullable=False),
        Column("error_s", Float(53), nullable=False),
    )
