"""The headers of a mail, each by its RFC."""

import re
from collections.abc import Sequence
from datetime import datetime
from email.errors import MessageError
from email.headerregistry import Address
from email.message import EmailMessage
from email.utils import format_datetime
from typing import Final
from uuid import UUID, uuid5

from domain.alerts import Alert
from notifier.errors import FailureReason, PermanentlyRefused
from notifier.mail.contact import ENCODED_WORD, Contact, link, printable
from notifier.mail.serialization import Letter, sender_header

_NAMESPACE: Final = UUID("a3c1de4e-4a0f-5d0e-9a6a-3a6b0f7f6c52")

_MOST_REFERENCES: Final = 20
"""Threads that one mail can join. Those of a mail about more are too many to be read as threads."""


_ATOM: Final = r"[^\s<>()\[\]\\,;:\"@.]+"
_UTF8_ADDRESS: Final = re.compile(rf"{_ATOM}(?:\.{_ATOM})*@{_ATOM}(?:\.{_ATOM})*")
"""RFC 6532, 3.3: any letter beyond ASCII, and what a local part may hold without quotation marks."""


def addressed(contact: Contact, sender: Address, now: datetime, message_id: str) -> Letter:
    """A mail with what every mail has (RFC 5322, 3.6). Raises PermanentlyRefused for an address that is none."""
    mail = Letter()
    mail["Date"] = format_datetime(now)
    mail["From"] = sender_header(sender.display_name, sender.username, sender.domain)
    mail["To"] = _recipient(contact)
    mail["Message-ID"] = message_id
    mail["Auto-Submitted"] = "auto-generated"  # RFC 3834: no holiday replies, please
    return mail


def message_id(unique: UUID, sender: Address) -> str:
    """A Message-ID (RFC 5322, 3.6.4)."""
    return f"<{unique}@{sender.domain}>"


def id_of_alerts(alerts: Sequence[Alert]) -> UUID:
    """What names a mail by what it tells: of one alert its id, of several the same for the same set of them."""
    ids = sorted(str(each.alert_id) for each in alerts)
    return UUID(ids[0]) if len(ids) == 1 else uuid5(_NAMESPACE, " ".join(ids))


def join_thread(mail: EmailMessage, alerts: Sequence[Alert], sender: Address) -> None:
    """Refer to the mails in which the breaches began (RFC 5322, 3.6.4).

    A mail of several alerts has an id of its own, so it refers to the ids that its beginnings would have alone: who
    refers to one of them later is threaded with it, whether there is such a mail or not.
    """
    own = {each.alert_id for each in alerts}
    began = [each.episode_id for each in alerts if each.episode_id is not None]
    roots = [each for each in dict.fromkeys(began) if len(own) > 1 or each not in own][:_MOST_REFERENCES]
    answered = [each for each in roots if each not in own]
    if answered:
        mail["In-Reply-To"] = " ".join(message_id(each, sender) for each in answered)
    if roots:
        mail["References"] = " ".join(message_id(each, sender) for each in roots)


def join_list(mail: EmailMessage, alerts: Sequence[Alert], contact: Contact, sender: Address) -> None:
    """Say which list it is (RFC 2919): that of an airport, or of several; and how to leave it (RFC 2369, 8058)."""
    airports = {each.airport for each in alerts}
    if len(airports) == 1:
        [airport] = airports
        mail["List-Id"] = f"Towerwatch alerts for {airport} <{airport.lower()}.alerts.{sender.domain}>"
    else:
        mail["List-Id"] = f"Towerwatch alerts <alerts.{sender.domain}>"
    unsubscribe = link(contact.unsubscribe_url)
    if unsubscribe:
        mail["List-Unsubscribe"] = f"<{unsubscribe}>"
        if unsubscribe.startswith("https://"):  # RFC 8058, 3.1: without it there is no such thing as one click
            mail["List-Unsubscribe-Post"] = "List-Unsubscribe=One-Click"


def _recipient(contact: Contact) -> Address:
    try:
        if contact.email.isascii():
            recipient = Address(printable(contact.name), addr_spec=contact.email)
            if recipient.addr_spec != contact.email:  # `email` has put something right: who knows what was meant
                raise ValueError
            return recipient
        if not _UTF8_ADDRESS.fullmatch(contact.email) or not contact.email.isprintable():
            raise ValueError
        if ENCODED_WORD in contact.email:  # `email` would decode it when it writes the header
            raise ValueError
        local_part, _, domain = contact.email.rpartition("@")  # RFC 6531, which `addr_spec` refuses
        return Address(printable(contact.name), local_part, domain)
    except (MessageError, ValueError, LookupError):  # `email` raises any of them for text that is no address
        raise PermanentlyRefused("the address cannot be written in a mail", FailureReason.ADDRESS) from None
