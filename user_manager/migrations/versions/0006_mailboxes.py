"""Revision 0006: an unconfirmed account beside the confirmed one, and what was mailed to which mailbox."""

import hashlib

from alembic import op
from sqlalchemy import Column, Integer, String, Uuid, text

from chassis.db.database import UtcDateTime
from chassis.db.migrations import add_column, create_index, create_table, replace_unique_constraint

revision = "0006"
down_revision = "0005"

_BATCH_SIZE = 1000


def upgrade() -> None:
    """Add the digest of addresses, let an address have two accounts, and create the tables of account mails."""
    # Nullable: replicas of the version before, which do not know it, can still register people.
    add_column("users", Column("address_digest", String(64)))
    _fill_address_digests()
    replace_unique_constraint("users", "uq_users_address_key", "uq_users_address", "address_key", "confirmed")
    create_index("ix_users_address_digest", "users", "address_digest")
    create_index("ix_users_confirmation_asked_at", "users", "confirmed", "confirmation_asked_at")

    create_table(
        "mailboxes",
        Column("mailbox_hash", String(64), primary_key=True),
        Column("mails", Integer, nullable=False),
        Column("last_mail_at", UtcDateTime),
        Column("stopped_at", UtcDateTime),
        Column("proved_at", UtcDateTime),
        Column("touched_at", UtcDateTime, nullable=False),
    )
    create_index("ix_mailboxes_touched_at", "mailboxes", "touched_at")

    create_table(
        "mail_quotas",
        Column("scope", String(80), primary_key=True),
        Column("hour", UtcDateTime, nullable=False),
        Column("mails", Integer, nullable=False),
    )
    create_index("ix_mail_quotas_hour", "mail_quotas", "hour")

    create_table(
        "mail_requests",
        Column("request_id", Uuid, primary_key=True),
        Column("mail_id", Uuid, nullable=False),
        Column("kind", String(16), nullable=False),
        Column("email", String(254), nullable=False),
        Column("address_digest", String(64), nullable=False),
        Column("requested_at", UtcDateTime, nullable=False),
    )
    create_index("ix_mail_requests_address_digest", "mail_requests", "address_digest")
    create_index("ix_mail_requests_requested_at", "mail_requests", "requested_at")


def _fill_address_digests() -> None:
    """Compute the digest of each account's address that has none, in batches; SQLite has no function for it."""
    connection = op.get_bind()
    query = text(f"SELECT address_key FROM users WHERE address_digest IS NULL LIMIT {_BATCH_SIZE}")
    update = text("UPDATE users SET address_digest = :digest WHERE address_key = :key")
    while keys := list(connection.scalars(query)):
        rows = [{"key": key, "digest": hashlib.sha256(key.encode()).hexdigest()} for key in keys]
        connection.execute(update, rows)
