"""The mail of a user's alerts: an ordinary one, or the catch-up mail of what became too old."""

from collections.abc import Sequence
from datetime import datetime
from email.headerregistry import Address
from email.message import EmailMessage

from notifier.delivery.catch_up import cancel_withdrawn
from notifier.mail import Contact, compose_alerts_mail, compose_catch_up_mail
from notifier.messages import RaisedAlert


def compose_mail(
    alerts: Sequence[RaisedAlert], contact: Contact, sender: Address, now: datetime, is_catch_up: bool
) -> EmailMessage | None:
    """Return the mail with these alerts; None if it is a catch-up mail whose alerts cancel each other."""
    reported = [each.alert for each in alerts]
    cause = min(each.cause_published_at for each in alerts)
    if not is_catch_up:
        return compose_alerts_mail(reported, contact, sender, now, cause)
    listed = cancel_withdrawn(reported)
    return compose_catch_up_mail(listed, reported, contact, sender, now, cause) if listed else None
