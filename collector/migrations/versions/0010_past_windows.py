"""Adds to each person until when the past windows that their changes have had judged are paid off."""

from sqlalchemy import BigInteger, Column

from chassis.db.migrations import add_column

revision = "0010"
down_revision = "0009"


def upgrade() -> None:
    """Add the column if it does not exist yet; 0 for those who are there: nothing is to be paid off."""
    add_column("people", Column("past_windows_until", BigInteger, nullable=False, server_default="0"))
