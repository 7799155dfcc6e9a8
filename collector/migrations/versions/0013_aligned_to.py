"""Adds to the interests the clock by which their windows begin; two interests may differ in it alone."""

from sqlalchemy import Column, String

from chassis.db.migrations import add_column, replace_unique_constraint

revision = "0013"
down_revision = "0012"


def upgrade() -> None:
    """Add the column, which is "utc" for the interests that exist, and the constraint with it where needed."""
    add_column("interests", Column("aligned_to", String(7), nullable=False, server_default="utc"))
    replace_unique_constraint(
        "interests",
        "uq_interests_what_of_whom",
        "uq_interests_windows_of_whom",
        "user_id",
        "airport",
        "direction",
        "window_length",
        "aligned_to",
    )
