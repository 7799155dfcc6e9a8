"""Revision 0005: which confirmation mail an account asked for last, and how far it is."""

from sqlalchemy import Column, String, Uuid

from chassis.db.migrations import add_column

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    # Both stay nullable: replicas of the version before, which know neither, can still register people.
    add_column("users", Column("confirmation_id", Uuid))
    add_column("users", Column("confirmation_state", String(16)))
