"""Mails read back from a Maildir, also while others are being delivered."""

import re
from collections.abc import Container
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from email import message_from_bytes
from email.message import EmailMessage
from email.policy import default
from pathlib import Path

_LINK = re.compile(r"https?://\S+")
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Mail:
    """One mail in a Maildir."""

    key: str
    """Its name in the Maildir, which never changes."""
    delivered_at: datetime
    """Real time of delivery, UTC, to the microsecond."""
    message: EmailMessage = field(compare=False)


def mails(maildir: Path, besides: Container[str] = ()) -> list[Mail]:
    """The mails in the order of their delivery, without those whose keys are in `besides`.

    Empty where there is no Maildir (yet). A mail is seen whole or not at all; one that is taken away while this
    reads is left out.
    """
    # `new` before `cur`: a reader moves mails that way, so one that is moved now is met twice rather than never.
    found: dict[str, Mail] = {}
    for folder in ("new", "cur"):
        for path in _files(maildir / folder):
            key = path.name.partition(":")[0]
            if key in besides or key in found:
                continue
            mail = _read(key, path)
            if mail is not None:
                found[key] = mail
    return sorted(found.values(), key=lambda mail: (mail.delivered_at, mail.key))


def text(mail: Mail) -> str:
    """The plain text of a mail; empty where it has none."""
    body = mail.message.get_body(("plain",))
    return body.get_content() if isinstance(body, EmailMessage) else ""


def confirmation_link(mail: Mail) -> str | None:
    """The link that confirms an address, or None where the mail is another."""
    if "confirm" not in str(mail.message["Subject"]).lower():
        return None
    link = _LINK.search(text(mail))
    return link.group() if link else None


def _files(folder: Path) -> list[Path]:
    try:
        return list(folder.iterdir())
    except FileNotFoundError:
        return []


def _read(key: str, path: Path) -> Mail | None:
    try:
        with path.open("rb") as file:
            content = file.read()
            written_ns = path.stat().st_mtime_ns
    except FileNotFoundError:
        return None
    message = message_from_bytes(content, EmailMessage, policy=default)
    return Mail(key, _EPOCH + timedelta(microseconds=written_ns // 1000), message)
