"""The policy of mail delivery: sender, limits and retry times, and who may be mailed."""

from dataclasses import dataclass
from datetime import timedelta
from email.headerregistry import Address
from uuid import UUID

from notifier.delivery.interfaces import ContactsLike
from notifier.errors import UserManagerUnavailable
from notifier.mail import Contact, build_envelope_sender


@dataclass(frozen=True, slots=True)
class MailPolicy:
    """The configured rules for all mails: sender, mailbox for bounces, hourly limit and retry times."""

    sender: Address
    bounces_to: Address | None = None
    """The mailbox that receives bounces; each mail's envelope sender also names its recipient. None: the sender."""
    mails_per_hour: int | None = None
    """The maximal number of mails with alerts to one user in any hour. None: no limit."""
    retry_base: timedelta = timedelta(seconds=5)
    """The backoff after the first failure; it doubles with each further failure."""
    lifetime: timedelta = timedelta(hours=24)
    """The age at which an alert or a notice is given up."""

    def envelope_from(self, contact: Contact) -> str | None:
        """Return the envelope sender of mails to this contact, which names the contact's address (VERP).

        None if no mailbox for bounces is configured: the address of the From header is used.
        """
        return None if self.bounces_to is None else build_envelope_sender(self.bounces_to, contact.email)


@dataclass(frozen=True, slots=True)
class CorrectionPolicy:
    """The configured times of mails of corrections: how long corrections wait for each other."""

    quiet: timedelta = timedelta(minutes=30)
    """A mail is sent once so much time has passed since the user's last correction arrived …"""
    longest_wait: timedelta = timedelta(hours=6)
    """… or since the first of those that wait arrived."""
    pause: timedelta = timedelta(hours=20)
    """The shortest time between two mails of corrections to one user, so that there is one a day."""


def find_drop_reason(contact: Contact | None) -> str | None:
    """Return the metric label that explains why a user must not get alerts and notices; None: the user may get them.

    "user_gone" for a contact of None, else "suppressed", "unconfirmed" or "paused", in this order of precedence.
    """
    if contact is None:
        return "user_gone"
    if contact.suppressed:
        return "suppressed"
    if not contact.confirmed:
        return "unconfirmed"
    return "paused" if contact.paused else None


async def request_drop_reason(contacts: ContactsLike, user_id: UUID) -> str | None:
    """Request a user's contact, and return why the user must get no mail, as `find_drop_reason` does.

    None also while user_manager is unavailable.
    """
    try:
        return find_drop_reason(await contacts.find_contact(user_id))
    except UserManagerUnavailable:
        return None
