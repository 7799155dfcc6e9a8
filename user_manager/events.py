"""Builders of the events of users.changed.v1, as outbox messages. No event holds an address or a name."""

from uuid import UUID

from chassis.db.outbox import OutboxMessage
from towerwatch.topics import USERS_CHANGED, partition_of
from towerwatch.users.v1.events_pb2 import UserChanged, UserConfirmed, UserDeleted, UserRegistered


def build_registered_event(user_id: UUID, confirmation_id: UUID, *, has_account: bool = True) -> OutboxMessage:
    """Build the event that requests an account mail: one mail for each new `confirmation_id`.

    `user_id` is that of an account or, if `has_account` is False, of a request that no account stands for: that for a
    token has an id of its own (`mail_requests`).
    """
    registered = UserRegistered(confirmation_id=str(confirmation_id), without_account=not has_account)
    return _build_message(UserChanged(user_id=str(user_id), registered=registered))


def build_confirmed_event(user_id: UUID) -> OutboxMessage:
    """Build the event that announces that the owner of the address followed the confirmation link."""
    return _build_message(UserChanged(user_id=str(user_id), confirmed=UserConfirmed()))


def build_deleted_event(user_id: UUID) -> OutboxMessage:
    """Build the event that announces the end of an account; the last event of its key, so compaction keeps it."""
    return _build_message(UserChanged(user_id=str(user_id), deleted=UserDeleted()))


def _build_message(change: UserChanged) -> OutboxMessage:
    """Build the outbox message of an event, keyed and partitioned by the user's id."""
    return OutboxMessage(
        topic=USERS_CHANGED.name,
        partition=partition_of(change.user_id, USERS_CHANGED),
        key=change.user_id.encode("ascii"),
        value=change.SerializeToString(),
    )
