"""The policy of mail delivery: sender, limits and retry times."""

from dataclasses import dataclass
from datetime import timedelta
from email.headerregistry import Address

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
    """The age at which an alert or a confirmation request is given up."""

    def envelope_from(self, contact: Contact) -> str | None:
        """Return the envelope sender of mails to this contact, which names the contact's address (VERP).

        None if no mailbox for bounces is configured: the address of the From header is used.
        """
        return None if self.bounces_to is None else build_envelope_sender(self.bounces_to, contact.email)
