"""Adds the people's accounts: what each has paid of the credits, and their writes; and the round that is served."""

from sqlalchemy import BigInteger, Column, Integer, Uuid

from chassis.db.migrations import add_column, create_table

revision = "0006"
down_revision = "0005"


def upgrade() -> None:
    """Add the column and the table if they do not exist yet."""
    add_column("credits", Column("level", BigInteger, nullable=False, server_default="0"))
    create_table(
        "people",
        Column("user_id", Uuid, primary_key=True),
        Column("paid", BigInteger, nullable=False),
        Column("minute", BigInteger, nullable=False),
        Column("writes", Integer, nullable=False),
    )
