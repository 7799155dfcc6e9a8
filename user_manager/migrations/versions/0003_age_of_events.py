"""Revision 0003: the time at which an event was added to the outbox."""

from sqlalchemy import Column, Float

from chassis.db.migrations import add_column

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    add_column("outbox", Column("added_at", Float(53)))
