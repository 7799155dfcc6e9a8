"""Creates the tables of interests, coverage, flights and the outbox, as they were before revisions were introduced."""

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Float,
    ForeignKeyConstraint,
    Integer,
    LargeBinary,
    String,
    UniqueConstraint,
    Uuid,
)

from chassis.db.database import UtcDateTime
from chassis.db.migrations import convert_to_binary_collation, create_index, create_table, require_foreign_key

revision = "0001"
down_revision = None


def upgrade() -> None:
    """Create each table and index that does not exist yet."""
    convert_to_binary_collation("interests", "coverage", "flights", "outbox", "outbox_relay")
    create_table(
        "interests",
        Column("interest_id", Uuid, primary_key=True),
        Column("user_id", Uuid, nullable=False),
        Column("airport", String(4), nullable=False),
        Column("direction", String(10), nullable=False),
        Column("window_length", String(2), nullable=False),
        Column("high", Integer),
        Column("low", Integer),
        Column("for_windows", Integer, nullable=False),
        Column("repeat", Boolean, nullable=False),
        Column("effective_from", UtcDateTime, nullable=False),
        Column("version", BigInteger, nullable=False),
        Column("created_at", UtcDateTime, nullable=False),
        Column("updated_at", UtcDateTime, nullable=False),
        UniqueConstraint("user_id", "airport", "direction", "window_length", name="uq_interests_what_of_whom"),
    )
    create_index("ix_interests_airport", "interests", "airport", "direction")
    create_table(
        "coverage",
        Column("airport", String(4), primary_key=True),
        Column("direction", String(10), primary_key=True),
        Column("covered_from", UtcDateTime, nullable=False),
        Column("covered_until", UtcDateTime, nullable=False),
    )
    create_table(
        "flights",
        Column("id", BigInteger().with_variant(Integer, "sqlite"), primary_key=True, autoincrement=True),
        Column("airport", String(4), nullable=False),
        Column("direction", String(10), nullable=False),
        Column("icao24", String(6), nullable=False),
        Column("callsign", String(8), nullable=False),
        Column("first_seen", UtcDateTime, nullable=False),
        Column("last_seen", UtcDateTime, nullable=False),
        Column("event_time", UtcDateTime, nullable=False),
        Column("other_airport", String(4), nullable=False),
        UniqueConstraint("airport", "direction", "icao24", "first_seen", name="uq_flights_seen_once"),
        ForeignKeyConstraint(("airport", "direction"), ("coverage.airport", "coverage.direction")),
    )
    require_foreign_key("flights", ["airport", "direction"], "coverage", ["airport", "direction"])
    create_index("ix_flights_event_time", "flights", "airport", "direction", "event_time")
    create_table(
        "outbox",
        Column("id", BigInteger().with_variant(Integer, "sqlite"), primary_key=True, autoincrement=True),
        Column("sequence", BigInteger, unique=True),
        Column("topic", String(249), nullable=False),
        Column("partition", Integer, nullable=False),
        Column("key", LargeBinary(512), nullable=False),
        Column("value", LargeBinary(1 << 24)),
    )
    create_table(
        "outbox_relay",
        Column("id", Integer, primary_key=True, autoincrement=False),
        Column("next_sequence", BigInteger, nullable=False),
        Column("owner", String(36)),
        Column("leased_until", Float(53), nullable=False),
    )
