"""The protocols that mail delivery depends on (contacts, SMTP client, topics), and the event in processing."""

from collections.abc import Awaitable, Callable, Collection
from dataclasses import dataclass
from datetime import datetime
from email.message import EmailMessage
from enum import StrEnum
from typing import Protocol
from uuid import UUID

from faust.types import EventT

from notifier.mail import Contact
from notifier.messages import Retry, ScheduledConfirmation, ScheduledNotice


@dataclass(frozen=True, slots=True, eq=False)
class PendingEvent:
    """An event that is being processed, and the function that acknowledges it once its handling is complete."""

    event: EventT[bytes]
    acknowledge: Callable[[], Awaitable[None]]
    requeued: bool = False
    """True if an operator requeued the event after it had become a dead letter."""


class ConfirmationState(StrEnum):
    """The state of a confirmation mail, as its owner may see it."""

    WAITING = "waiting"
    """It could not be sent yet, and will be tried again."""
    SENT = "sent"
    """The mail server has accepted it."""
    FAILED = "failed"
    """It was refused for good, or given up."""


class ContactsLike(Protocol):
    """A client that finds users' contacts and reports to user_manager, implemented by `notifier.contacts`."""

    async def find_contact(self, user_id: UUID, interest_ids: Collection[UUID] = ()) -> Contact | None:
        """Return the contact of a user, with links to these interests, or None if the user does not exist.

        Raises UserManagerUnavailable.
        """
        ...

    async def report_bounce(self, user_id: UUID, at: datetime) -> None:
        """Report, in one attempt, that at `at` the user's address did not exist. Raises UserManagerUnavailable."""
        ...

    async def report_confirmation(self, user_id: UUID, confirmation_id: str, state: ConfirmationState) -> None:
        """Report, in one attempt, how far the user's confirmation mail is. Raises UserManagerUnavailable."""
        ...


class SmtpClientLike(Protocol):
    """A client that sends mails, implemented by `notifier.smtp.SmtpClient`."""

    async def send(
        self,
        mail: EmailMessage,
        envelope_from: str | None = None,
        before_content: Callable[[], Awaitable[None]] | None = None,
    ) -> None:
        """Send a mail; return once the server has accepted it. Raises NotSent.

        `envelope_from`: the address for bounces (None: the address in From). `before_content` is awaited when the
        server is ready for the content, before its first byte is sent.
        """
        ...


class EventTopics(Protocol):
    """Publishes retries and dead letters, and reports whether this worker still owns an event's partition.

    Each publish method returns once the broker has the record, however long that takes.
    """

    async def publish_retry(self, user_id: UUID, retry: Retry | ScheduledNotice | ScheduledConfirmation) -> None:
        """Publish a mail that must be sent later to the retry topic. Raises TooLargeToWaitError."""
        ...

    async def publish_waiting(self, user_id: UUID, retry: Retry) -> None:
        """Publish alerts that wait to alerts.waiting.v1, in place of an earlier record of theirs.

        Raises TooLargeToWaitError.
        """
        ...

    async def publish_dead_letter(self, event: EventT[bytes], reason: str) -> None:
        """Publish an event to the dead-letter topic, with the reason in a header."""
        ...

    def is_still_ours(self, event: EventT[bytes]) -> bool:
        """Return True if this worker still owns the event's partition, False after a rebalance."""
        ...
