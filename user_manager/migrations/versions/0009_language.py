"""Revision 0009: the language in which a person reads the pages."""

from sqlalchemy import Column, String

from chassis.db.migrations import add_column

revision = "0009"
down_revision = "0008"


def upgrade() -> None:
    """Add the column, without a value in any row: that counts as English."""
    # Nullable: replicas of the version before, which do not know it, can still register people.
    add_column("users", Column("language", String(8)))
