"""The records of deletions that no request waits for: the background task executes all of their steps."""

from datetime import datetime
from uuid import UUID, uuid4

from user_manager.deletion.steps import DeletionStep
from user_manager.model import Deletion


def build_due_deletion(user_id: UUID, now: datetime) -> Deletion:
    """Return the record of a new deletion of an account, whose first step is due at once; it is not stored yet."""
    return Deletion(
        deletion_id=uuid4(),
        user_id=user_id,
        step=DeletionStep.DELETE_INTERESTS,
        request=uuid4(),
        attempts=0,
        next_attempt_at=now,
        requested_at=now,
    )
