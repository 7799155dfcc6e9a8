"""Alerts and confirmations as mail. Pure: the time is handed in; nothing here sends."""

from notifier.mail.compose import alert_mail, alerts_mail, confirmation_mail
from notifier.mail.contact import Contact
from notifier.mail.signing import SigningKey, signed
from notifier.mail.subject import subject
from notifier.mail.verp import envelope_sender, recipient_of

__all__ = [
    "Contact",
    "SigningKey",
    "alert_mail",
    "alerts_mail",
    "confirmation_mail",
    "envelope_sender",
    "recipient_of",
    "signed",
    "subject",
]
