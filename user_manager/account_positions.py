"""Positions in the list of accounts, as the opaque text that a client sends for the next page."""

import base64
import binascii
from datetime import UTC, datetime
from uuid import UUID

from user_manager.errors import BadCursorError


def encode_position(created_at: datetime, user_id: UUID) -> str:
    """Encode the position just after an account as URL-safe text: its creation time and id in base64."""
    return base64.urlsafe_b64encode(f"{created_at.isoformat()} {user_id}".encode()).decode("ascii")


def decode_position(cursor: str) -> tuple[datetime, UUID]:
    """Decode a cursor into the creation time (UTC) and the id of the last account before the position.

    Raises BadCursorError if `cursor` was not made by `encode_position`.
    """
    try:
        created_at, _, user_id = (
            base64.b64decode(cursor.encode(), altchars=b"-_", validate=True).decode().partition(" ")
        )
        instant = datetime.fromisoformat(created_at)
        if instant.tzinfo is None:
            raise ValueError
        return instant.astimezone(UTC), UUID(user_id)
    except (binascii.Error, ValueError, OverflowError):
        raise BadCursorError("This cursor is not one of ours; begin without one.") from None
