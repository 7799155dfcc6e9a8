"""Revision 0007: whether a person wants mails about what the settled record corrects."""

from sqlalchemy import Boolean, Column

from chassis.db.migrations import add_column

revision = "0007"
down_revision = "0006"


def upgrade() -> None:
    """Add the column, without a value in any row: that counts as yes."""
    # Nullable: replicas of the version before, which do not know it, can still register people.
    add_column("users", Column("corrections", Boolean))
