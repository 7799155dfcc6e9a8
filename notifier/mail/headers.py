"""The headers of a mail, each by its RFC."""

import re
from collections.abc import Collection, Sequence
from datetime import datetime
from email.errors import MessageError
from email.headerregistry import Address
from email.message import EmailMessage
from email.utils import format_datetime
from typing import Final
from uuid import UUID, uuid5

from chassis.texts import DEFAULT_LANGUAGE, Texts
from domain.alerts import Alert
from notifier.errors import FailureReason, PermanentlyRefused
from notifier.mail.contact import ENCODED_WORD_START, Contact, sanitize_link, sanitize_name
from notifier.mail.serialization import RecipientHeader, WireMessage, build_from_header
from notifier.mail.texts import find_mail_texts

_NAMESPACE: Final = UUID("a3c1de4e-4a0f-5d0e-9a6a-3a6b0f7f6c52")
"""Of the ids of mails about several alerts (UUIDv5)."""

_MAX_REFERENCES: Final = 20
"""Threads that one mail joins at most. A mail about more episodes would join more threads than people can follow."""


_ATOM: Final = r"[^\s<>()\[\]\\,;:\"@.]+"
_PLAIN_ADDRESS: Final = re.compile(r"[\w+-]+(?:\.[\w+-]+)*@[\w-]+(?:\.[\w-]+)*", re.ASCII)
"""An address that `email` would not change; a part of what RFC 5322, 3.4.1, allows."""
_UTF8_ADDRESS: Final = re.compile(rf"{_ATOM}(?:\.{_ATOM})*@{_ATOM}(?:\.{_ATOM})*")
"""RFC 6532, 3.3: any letter beyond ASCII, and what a local part may hold without quotation marks."""


def create_mail(contact: Contact, sender: Address, now: datetime, message_id: str) -> WireMessage:
    """Return a mail without body or subject, with the headers that every mail has (RFC 5322, 3.6).

    The headers: Date (`now`), From (`sender`), To (the contact), Message-ID, Auto-Submitted (RFC 3834) and, if the mail
    is not in English, Content-Language (RFC 3282). Raises PermanentlyRefused for an invalid address.
    """
    mail = WireMessage()
    mail["Date"] = format_datetime(now)
    mail["From"] = build_from_header(sender.display_name, sender.username, sender.domain)
    mail["To"] = _build_recipient(contact)
    mail["Message-ID"] = message_id
    mail["Auto-Submitted"] = "auto-generated"  # RFC 3834: no holiday replies, please
    language = find_mail_texts(contact.language).language
    if language != DEFAULT_LANGUAGE:  # without the header, mails are taken for English
        mail["Content-Language"] = language
    return mail


def format_message_id(unique: UUID, sender: Address) -> str:
    """Return the Message-ID (RFC 5322, 3.6.4) of a mail with this id: <id@domain>, with the sender's domain."""
    return f"<{unique}@{sender.domain}>"


def compute_mail_id(alerts: Sequence[Alert]) -> UUID:
    """Return the id of the mail that reports these alerts: the same for the same set, in any order.

    For one alert it is the alert's id, for several a UUIDv5 of all ids.
    """
    ids = sorted(str(each.alert_id) for each in alerts)
    return UUID(ids[0]) if len(ids) == 1 else uuid5(_NAMESPACE, " ".join(ids))


def add_thread_headers(mail: EmailMessage, alerts: Sequence[Alert], sender: Address) -> None:
    """Add In-Reply-To and References to the mails that reported the first alerts of the episodes (RFC 5322, 3.6.4).

    A mail of several alerts has an id of its own. So it also refers to the Message-IDs that its episodes' first alerts
    would have in mails of their own: a later mail with the same reference joins its thread, whether such a mail exists
    or not. At most 20 episodes, in the order of `alerts`; an alert without an episode, and a single alert that is the
    first of its episode, add none.
    """
    own_ids = {each.alert_id for each in alerts}
    episodes = [each.episode_id for each in alerts if each.episode_id is not None]
    roots = [each for each in dict.fromkeys(episodes) if len(own_ids) > 1 or each not in own_ids][:_MAX_REFERENCES]
    earlier = [each for each in roots if each not in own_ids]
    if earlier:
        mail["In-Reply-To"] = " ".join(format_message_id(each, sender) for each in earlier)
    if roots:
        mail["References"] = " ".join(format_message_id(each, sender) for each in roots)


def add_list_headers(
    mail: EmailMessage, texts: Texts, airports: Collection[str], unsubscribe_url: str, sender: Address
) -> None:
    """Add List-Id (RFC 2919) and, if the link for it is valid, the headers to unsubscribe (RFC 2369, 8058).

    Only an HTTPS link also gets List-Unsubscribe-Post, for one click. A mail about one airport has that airport's list;
    mails about several airports have one common list. `airports`: ICAO codes, each once.
    """
    if len(airports) == 1:
        [airport] = airports
        name = texts.get("list.airport", airport=airport)
        mail["List-Id"] = f"{name} <{airport.lower()}.alerts.{sender.domain}>"
    else:
        mail["List-Id"] = f"{texts.get('list.all')} <alerts.{sender.domain}>"
    add_unsubscribe_headers(mail, unsubscribe_url)


def add_unsubscribe_headers(mail: EmailMessage, url: str) -> None:
    """Add the headers to unsubscribe by a link (RFC 2369, 8058); nothing if the link cannot stand in a header."""
    unsubscribe = sanitize_link(url)
    if unsubscribe:
        mail["List-Unsubscribe"] = f"<{unsubscribe}>"
        if unsubscribe.startswith("https://"):  # RFC 8058, 3.1: one-click unsubscription requires HTTPS
            mail["List-Unsubscribe-Post"] = "List-Unsubscribe=One-Click"


def _build_recipient(contact: Contact) -> Address | RecipientHeader:
    """Return the contact's sanitized name and address for the To header.

    A plain address, as nearly all are, gives the same header as `email` writes, in a fifth of the time.

    Raises PermanentlyRefused for an address that is invalid, or that `email` would change when it parses or writes it.
    """
    if _PLAIN_ADDRESS.fullmatch(contact.email):
        local_part, _, domain = contact.email.rpartition("@")
        return RecipientHeader(Address(sanitize_name(contact.name), local_part, domain))
    try:
        if contact.email.isascii():
            recipient = Address(sanitize_name(contact.name), addr_spec=contact.email)
            if recipient.addr_spec != contact.email:  # `email` has corrected something: who knows what was meant
                raise ValueError
            return recipient
        if not _UTF8_ADDRESS.fullmatch(contact.email) or not contact.email.isprintable():
            raise ValueError
        if ENCODED_WORD_START in contact.email:  # `email` would decode it when it writes the header
            raise ValueError
        local_part, _, domain = contact.email.rpartition("@")  # RFC 6531, which `addr_spec` refuses
        return Address(sanitize_name(contact.name), local_part, domain)
    except (MessageError, ValueError, LookupError, AttributeError):  # `email` raises any of them: "a@[" the last
        raise PermanentlyRefused("the address cannot be written in a mail", FailureReason.ADDRESS) from None
