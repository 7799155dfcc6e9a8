"""The events of users.changed.v1, ready for the outbox. None holds an address or a name."""

from uuid import UUID

from chassis.db.outbox import OutboxMessage
from towerwatch.topics import USERS_CHANGED, partition_of
from towerwatch.users.v1.events_pb2 import UserChanged, UserConfirmed, UserDeleted, UserRegistered


def registered(user_id: UUID, confirmation_id: UUID) -> OutboxMessage:
    """An account came to be; each new `confirmation_id` asks for one mail with the confirmation link."""
    return _message(UserChanged(user_id=str(user_id), registered=UserRegistered(confirmation_id=str(confirmation_id))))


def confirmed(user_id: UUID) -> OutboxMessage:
    """The owner of the address followed the link."""
    return _message(UserChanged(user_id=str(user_id), confirmed=UserConfirmed()))


def deleted(user_id: UUID) -> OutboxMessage:
    """The account is gone. The last event of its key, so that compaction keeps this one."""
    return _message(UserChanged(user_id=str(user_id), deleted=UserDeleted()))


def _message(change: UserChanged) -> OutboxMessage:
    return OutboxMessage(
        topic=USERS_CHANGED.name,
        partition=partition_of(change.user_id, USERS_CHANGED),
        key=change.user_id.encode("ascii"),
        value=change.SerializeToString(),
    )
