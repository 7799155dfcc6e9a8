"""Adds what is found from positions: movements, coverage, its agreement with the record, and the state of each feed."""

from sqlalchemy import BigInteger, Boolean, Column, Float, Integer, LargeBinary, String, Text, UniqueConstraint

from chassis.db.database import UtcDateTime
from chassis.db.migrations import create_index, create_table

revision = "0008"
down_revision = "0007"

_ID = BigInteger().with_variant(Integer, "sqlite")


def upgrade() -> None:
    """Add the tables that do not exist yet."""
    create_table(
        "live_movements",
        Column("id", _ID, primary_key=True, autoincrement=True),
        Column("airport", String(4), nullable=False),
        Column("direction", String(10), nullable=False),
        Column("icao24", String(6), nullable=False),
        Column("callsign", String(8), nullable=False),
        Column("event_time", UtcDateTime, nullable=False),
        Column("evidence", String(20), nullable=False),
        Column("feed", String(20), nullable=False),
        Column("found_at", UtcDateTime, nullable=False),
        Column("outcome", String(10), nullable=False),
        UniqueConstraint("airport", "direction", "icao24", "event_time", name="uq_live_movements_once"),
    )
    create_index("ix_live_movements_event_time", "live_movements", "airport", "direction", "event_time")
    create_table(
        "live_coverage",
        Column("id", _ID, primary_key=True, autoincrement=True),
        Column("airport", String(4), nullable=False),
        Column("direction", String(10), nullable=False),
        Column("begin_at", UtcDateTime, nullable=False),
        Column("end_at", UtcDateTime, nullable=False),
        Column("published", Boolean, nullable=False),
    )
    create_index("ix_live_coverage_end", "live_coverage", "airport", "direction", "end_at")
    create_table(
        "live_agreement",
        Column("airport", String(4), primary_key=True),
        Column("direction", String(10), primary_key=True),
        Column("day", UtcDateTime, primary_key=True),
        Column("recorded", Integer, nullable=False),
        Column("live", Integer, nullable=False),
        Column("matched", Integer, nullable=False),
        Column("added", Integer, nullable=False),
        Column("retracted", Integer, nullable=False),
        Column("hourly", Text, nullable=False),
    )
    create_table(
        "live_state",
        Column("feed", String(20), primary_key=True),
        Column("format", String(40), nullable=False),
        Column("stated_at", Float(53), nullable=False),
        Column("body", LargeBinary(1 << 24), nullable=False),
    )
