"""Adds what the log is that events were published to, and up to where people were told what follows from them."""

from sqlalchemy import BigInteger, Boolean, Column, Float, Integer, String, Text

from chassis.db.database import UtcDateTime
from chassis.db.migrations import add_column, create_table

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    """Add the new columns and the new table, if they do not exist yet."""
    add_column("interests", Column("told_version", BigInteger, nullable=False, server_default="0"))
    add_column("coverage", Column("told_until", UtcDateTime))
    create_table(
        "event_log",
        Column("id", Integer, primary_key=True, autoincrement=False),
        Column("cluster", String(64), nullable=False),
        Column("topics", Text, nullable=False),
        Column("ends", Text, nullable=False),
        Column("republishing", Boolean, nullable=False),
        Column("told_flight_id", BigInteger, nullable=False),
        Column("compared_at", Float(53), nullable=False),
        Column("out_of_step", Integer, nullable=False),
    )
