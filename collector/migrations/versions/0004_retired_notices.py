"""Adds the marks of users who were notified that an airport's code was retired."""

from sqlalchemy import Column, String, Uuid

from chassis.db.migrations import create_table

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    """Add the table if it does not exist yet."""
    create_table(
        "retired_notices",
        Column("airport", String(4), primary_key=True),
        Column("user_id", Uuid, primary_key=True),
    )
