"""The use cases: tell a person an alert, ask a person to confirm an address. Each is done once."""

import asyncio
import time
from collections.abc import Callable
from datetime import datetime
from email.headerregistry import Address
from email.message import EmailMessage
from typing import Final, Protocol
from uuid import UUID

from chassis.clock import Clock
from chassis.metrics import Metrics
from notifier.errors import NotSent
from notifier.mail import Contact, alert_mail, confirmation_mail
from notifier.messages import ConfirmationWish, RaisedAlert

_DRAIN_S: Final = 5.0


class SentLike(Protocol):
    """Who remembers what went out."""

    def __contains__(self, key: bytes) -> bool: ...
    async def record(self, key: bytes, at: datetime) -> None: ...


class ContactsLike(Protocol):
    """Who knows how to reach a user."""

    async def of(self, user_id: UUID) -> Contact | None: ...


class MailServerLike(Protocol):
    """Who takes a mail."""

    async def send(self, mail: EmailMessage) -> None: ...


class Mailroom:
    """Looks up whether a mail went out, asks for the contact, sends, and records: one mail at a time.

    One at a time because the same alert can come by two ways at once, fresh and as a retry, and only who looks,
    sends and records without a break in between can tell.
    """

    def __init__(
        self,
        sent: SentLike,
        contacts: ContactsLike,
        server: MailServerLike,
        sender: Address,
        clock: Clock,
        metrics: Metrics,
    ) -> None:
        self._sent = sent
        self._contacts = contacts
        self._server = server
        self._sender = sender
        self._clock = clock
        self._at_work = asyncio.Lock()
        self._emails = metrics.counter("emails_sent_total", "Mails handed to the mail server", "status")
        self._seconds = metrics.histogram("email_duration_seconds", "Time to hand over a mail").labels()
        self._last_seconds = metrics.gauge("last_email_sent_duration_seconds", "The same, of the last mail").labels()
        self._dropped = metrics.counter("alerts_dropped_total", "Alerts that need no mail", "reason")
        self._confirmations_dropped = metrics.counter(
            "confirmations_dropped_total", "Confirmation mails that nobody needs", "reason"
        )

    async def tell(self, raised: RaisedAlert) -> None:
        """Mail an alert, unless it was mailed, or the person is gone, unconfirmed or wants silence. Raises NotSent."""
        alert = raised.alert
        async with self._at_work:
            key = str(alert.alert_id).encode()
            if key in self._sent:
                self._dropped.labels(reason="already_sent").inc()
                return
            contact = await self._contacts.of(alert.user_id)
            if contact is None or not contact.confirmed or contact.paused:
                self._dropped.labels(reason=_why_no_alert(contact)).inc()
                return
            await self._send(
                key, lambda: alert_mail(alert, contact, self._sender, self._clock.now(), raised.cause_published_at)
            )

    async def ask_to_confirm(self, wish: ConfirmationWish) -> None:
        """Mail a confirmation link, unless it was mailed, or the person is gone or has confirmed. Raises NotSent."""
        async with self._at_work:
            key = b"confirmation/" + wish.confirmation_id.encode()
            if key in self._sent:
                self._confirmations_dropped.labels(reason="already_sent").inc()
                return
            contact = await self._contacts.of(wish.user_id)
            if contact is None or contact.confirmed or not contact.confirm_url:
                reason = "user_gone" if contact is None else "nothing_to_confirm"
                self._confirmations_dropped.labels(reason=reason).inc()
                return
            await self._send(
                key, lambda: confirmation_mail(contact, wish.confirmation_id, self._sender, self._clock.now())
            )

    async def _send(self, key: bytes, written: Callable[[], EmailMessage]) -> None:
        began = time.perf_counter()
        try:
            await self._server.send(written())
        except NotSent:
            self._emails.labels(status="failure").inc()
            raise
        took = time.perf_counter() - began
        await self._sent.record(key, self._clock.now())
        self._emails.labels(status="success").inc()
        self._seconds.observe(took)
        self._last_seconds.set(took)

    async def close(self) -> None:
        """Let the mail at hand be finished, and begin no other; whoever comes later waits until cancelled.

        Returns after _DRAIN_S seconds at the latest.
        """
        try:
            await asyncio.wait_for(self._at_work.acquire(), _DRAIN_S)
        except TimeoutError:
            return


def _why_no_alert(contact: Contact | None) -> str:
    if contact is None:
        return "user_gone"
    return "paused" if contact.confirmed else "unconfirmed"
