"""Functions that compose the mails of alerts, confirmations and notices. Pure: the caller passes the time."""

from notifier.mail.compose import (
    compose_alert_mail,
    compose_alerts_mail,
    compose_catch_up_mail,
    compose_confirmation_mail,
    compose_retired_mail,
    compose_sign_in_mail,
    compose_token_mail,
    compose_unheard_mail,
)
from notifier.mail.contact import Contact, InterestLinks, is_printable_link
from notifier.mail.corrections import compose_corrections_mail
from notifier.mail.signing import SigningKey, sign_mail
from notifier.mail.subject import format_subject
from notifier.mail.verp import build_envelope_sender, parse_recipient

__all__ = [
    "Contact",
    "InterestLinks",
    "SigningKey",
    "build_envelope_sender",
    "compose_alert_mail",
    "compose_alerts_mail",
    "compose_catch_up_mail",
    "compose_confirmation_mail",
    "compose_corrections_mail",
    "compose_retired_mail",
    "compose_sign_in_mail",
    "compose_token_mail",
    "compose_unheard_mail",
    "format_subject",
    "is_printable_link",
    "parse_recipient",
    "sign_mail",
]
