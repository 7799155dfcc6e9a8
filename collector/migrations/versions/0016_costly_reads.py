"""Adds the costly reads of each person, and indexes by which the latest flight of an airport is found at once."""

from sqlalchemy import BigInteger, Column, Integer

from chassis.db.migrations import add_column, create_index

revision = "0016"
down_revision = "0015"


def upgrade() -> None:
    """Add the columns and indexes that do not exist yet; nobody has read anything."""
    add_column("people", Column("read_minute", BigInteger, nullable=False, server_default="0"))
    add_column("people", Column("reads", Integer, nullable=False, server_default="0"))
    create_index("ix_flights_latest", "flights", "airport", "direction", "id")
    create_index("ix_live_movements_latest", "live_movements", "airport", "direction", "id")
