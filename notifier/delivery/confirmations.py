"""The delivery of mails about accounts: each request is mailed once (`notifier.delivery.single_mails`).

The mail confirms an address or, if that has a confirmed account by now, offers its owner a new token, or to sign in if
somebody asked for that. A mail that the server defers is tried again like alerts are, for as long as a link in it would
be valid; meanwhile its owner sees at user_manager that it waits.
"""

import asyncio
from datetime import datetime, timedelta
from email.message import EmailMessage
from typing import ClassVar, Final

from faust.types import EventT

from notifier.delivery.interfaces import ConfirmationState
from notifier.delivery.retries import CONFIRMATION_LIFETIME
from notifier.delivery.single_mails import SingleMailDelivery
from notifier.delivery.store import DeliveryStatus
from notifier.errors import NotSent, UserManagerUnavailable
from notifier.mail import Contact, compose_confirmation_mail, compose_sign_in_mail, compose_token_mail
from notifier.messages import ScheduledConfirmation

_PAUSE_BETWEEN_REPORTS: Final = timedelta(seconds=1)


class ConfirmationDelivery(SingleMailDelivery[ScheduledConfirmation]):
    """The use case that mails confirmation links, links to new tokens, and links that sign in.

    Each attempt requests the contact anew, with a link that is valid from then on: the request is dropped once the user
    is deleted or confirmed.
    """

    kind: ClassVar[str] = "confirmation"
    capacity: ClassVar[int] = 10_000
    concurrent_attempts: ClassVar[int] = 100
    """High enough that a few silent mail servers do not delay the mails of people who have just registered."""

    def _get_lifetime(self) -> timedelta:
        return CONFIRMATION_LIFETIME

    def _find_status(self, event: EventT[bytes], scheduled: ScheduledConfirmation) -> DeliveryStatus | None:
        return self._store.find_confirmation_status(event, scheduled.mail_key)

    def _mark_mailed(self, event: EventT[bytes], scheduled: ScheduledConfirmation, at: datetime) -> None:
        self._store.mark_confirmation_mailed(event, scheduled.mail_key, at)

    def _mark_dead_lettered(self, event: EventT[bytes], scheduled: ScheduledConfirmation, at: datetime) -> None:
        self._store.mark_confirmation_dead_lettered(event, scheduled.mail_key, at)

    def _clear_dead_lettered(self, event: EventT[bytes], scheduled: ScheduledConfirmation) -> None:
        """Do nothing: requests are not requeued, their users ask for another mail."""

    def _find_drop_reason(self, contact: Contact | None) -> str | None:
        """Return "user_gone", or "nothing_to_confirm" such as after the confirmation; None: the mail is needed."""
        if contact is None:
            return "user_gone"
        has_link = contact.confirm_url or contact.token_url or contact.sign_in_url
        return None if has_link else "nothing_to_confirm"

    def _compose(self, scheduled: ScheduledConfirmation, contact: Contact) -> EmailMessage:
        if contact.confirm_url:
            compose = compose_confirmation_mail
        else:
            compose = compose_sign_in_mail if contact.sign_in_url else compose_token_mail
        return compose(contact, scheduled.mail_key, self._policy.sender, self._clock.wall.now())

    def _count_dropped(self, reason: str) -> None:
        self._metrics.count_dropped_confirmation(reason)

    async def _on_sent(self, scheduled: ScheduledConfirmation) -> None:
        await self._report(scheduled, ConfirmationState.SENT, attempts=2)

    async def _on_deferred(self, scheduled: ScheduledConfirmation, error: NotSent) -> None:
        """Report that the mail waits; in one attempt, since each deferral reports it again."""
        if not isinstance(error, UserManagerUnavailable):
            await self._report(scheduled, ConfirmationState.WAITING, attempts=1)

    async def _on_dead_lettered(self, scheduled: ScheduledConfirmation) -> None:
        await self._report(scheduled, ConfirmationState.FAILED, attempts=2)

    async def _report(self, scheduled: ScheduledConfirmation, state: ConfirmationState, attempts: int) -> None:
        """Report to user_manager how far the mail is, in up to `attempts` attempts; raise nothing if all fail.

        Then its owner sees the state before: a report decides nothing about the mail.
        """
        for attempt in range(1, attempts + 1):
            try:
                await self._contacts.report_confirmation(scheduled.user_id, scheduled.mail_key, state)
                return
            except UserManagerUnavailable:
                if attempt < attempts:
                    await asyncio.sleep(self._clock.real_seconds(_PAUSE_BETWEEN_REPORTS))
