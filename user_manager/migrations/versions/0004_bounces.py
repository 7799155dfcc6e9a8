"""Revision 0004: the times of an address's last confirmation and last bounce."""

from sqlalchemy import Column

from chassis.db.database import UtcDateTime
from chassis.db.migrations import add_column

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    # Both stay nullable: replicas of the version before, which know neither, can still register people.
    add_column("users", Column("confirmed_at", UtcDateTime))
    add_column("users", Column("bounced_at", UtcDateTime))
