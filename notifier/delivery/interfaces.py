"""What delivering a mail needs, alerts and confirmations alike."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from email.headerregistry import Address
from email.message import EmailMessage
from typing import Protocol
from uuid import UUID

from faust.types import EventT

from notifier.mail import Contact, build_envelope_sender
from notifier.messages import Retry


@dataclass(frozen=True, slots=True, eq=False)
class Arrival:
    """An event, and how it is acknowledged."""

    event: EventT[bytes]
    acknowledge: Callable[[], Awaitable[None]]
    requeued: bool = False
    """Somebody wants it to be tried again, although it became a dead letter once."""


class ContactsLike(Protocol):
    """Who knows how to reach a user: `notifier.contacts.Contacts`."""

    async def of(self, user_id: UUID) -> Contact | None: ...
    async def report_bounce(self, user_id: UUID, at: datetime) -> None: ...


class MailServerLike(Protocol):
    """Who takes a mail: `notifier.smtp.SmtpClient`."""

    async def send(
        self,
        mail: EmailMessage,
        envelope_from: str | None = None,
        before_content: Callable[[], Awaitable[None]] | None = None,
    ) -> None: ...


class Topics(Protocol):
    """Where events go that are not done with. Each returns once the broker has it, however long that takes."""

    async def put_off(self, user_id: UUID, retry: Retry) -> None:
        """Publish what has to wait. Raises TooLargeToWaitError."""
        ...

    async def bury(self, event: EventT[bytes], reason: str) -> None:
        """Make a dead letter of an event."""
        ...

    def are_ours(self, event: EventT[bytes]) -> bool:
        """Whether the event is still this worker's to handle."""
        ...


@dataclass(frozen=True, slots=True)
class Manner:
    """How mails go out."""

    sender: Address
    bounces_to: Address | None = None
    """Who hears of what comes back; each mail names its recipient in it. None: the sender."""
    mails_per_hour: int | None = None
    """To one person, with alerts."""
    retry_base: timedelta = timedelta(seconds=5)
    """The pause after a first failure; each later one is twice as long."""
    lifetime: timedelta = timedelta(hours=24)
    """For so long an alert, or the wish for a confirmation, is news."""

    def envelope_from(self, contact: Contact) -> str | None:
        return None if self.bounces_to is None else build_envelope_sender(self.bounces_to, contact.email)
