"""Reading of mails from a Maildir, also while other mails are being delivered."""

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
class ReceivedMail:
    """A mail that was read from a Maildir; two are equal if key and time of delivery are."""

    key: str
    """The mail's unique name in the Maildir, which never changes."""
    delivered_at: datetime
    """Real time of delivery, UTC, to the microsecond."""
    message: EmailMessage = field(compare=False)


@dataclass(frozen=True, slots=True)
class StoredMail:
    """The bytes of a mail in a Maildir, or the first of them."""

    key: str
    delivered_at: datetime
    """Real time of delivery, UTC, to the microsecond."""
    content: bytes


def read_mails(maildir: Path, besides: Container[str] = ()) -> list[ReceivedMail]:
    """Read the mails in the order of delivery, except those whose keys are in `besides`.

    Reads new mails and those that a mail reader has moved to `cur`, and changes nothing. Empty if the Maildir does not
    exist (yet). A mail is read whole or not at all; a mail that is deleted during the call is left out.
    """
    # `new` before `cur`: a mail reader moves mails that way, so a mail moved now is found twice rather than never.
    found: dict[str, ReceivedMail] = {}
    for folder in ("new", "cur"):
        for path in _list_files(maildir / folder):
            key = path.name.partition(":")[0]
            if key in besides or key in found:
                continue
            mail = _read_mail(key, path)
            if mail is not None:
                found[key] = mail
    return sorted(found.values(), key=lambda mail: (mail.delivered_at, mail.key))


def find_mail_files(maildir: Path) -> dict[str, Path]:
    """Return the path of each stored mail, by the mail's key; an empty dict if the Maildir does not exist (yet).

    Hidden files, and files with unprintable characters in their names, are no mails and are left out.
    """
    return {
        path.name.partition(":")[0]: path
        for folder in ("new", "cur")
        for path in _list_files(maildir / folder)
        if path.name.isprintable() and not path.name.startswith((".", ":"))
    }


def read_mail_file(key: str, path: Path, limit: int) -> StoredMail | None:
    """Read the first `limit` bytes of the mail of this key (-1: all of it); None if its file is not there any more."""
    try:
        with path.open("rb") as file:
            return StoredMail(key, _get_delivery_time(path), file.read(limit))
    except OSError:
        return None


def read_stored_mail(maildir: Path, key: str, limit: int = -1) -> StoredMail | None:
    """Read the first `limit` bytes of one mail (-1: all of it); None if the Maildir has no mail of this key.

    The key may be untrusted: it is only compared with the keys that the Maildir has, and never used as a path.
    """
    for _ in range(2):  # a mail reader may move the mail after its file was found
        path = find_mail_files(maildir).get(key)
        mail = None if path is None else read_mail_file(key, path, limit)
        if path is None or mail is not None:
            return mail
    return None


def get_plain_text(mail: ReceivedMail) -> str:
    """Return the plain text of a mail; empty if it has none."""
    body = mail.message.get_body(("plain",))
    return body.get_content() if isinstance(body, EmailMessage) else ""


def find_confirmation_link(mail: ReceivedMail) -> str | None:
    """Return the link that confirms an address, or None if the mail is no confirmation mail.

    The subject of a confirmation mail has the word `confirm`; the link is the first one in its plain text.
    """
    if "confirm" not in str(mail.message["Subject"]).lower():
        return None
    link = _LINK.search(get_plain_text(mail))
    return link.group() if link else None


def find_sign_in_link(mail: ReceivedMail) -> str | None:
    """Return the link that signs in, which no other mail has; None if the mail is another."""
    links = (link.group() for link in _LINK.finditer(get_plain_text(mail)))
    return next((link for link in links if "/sign-in/" in link), None)


def _list_files(folder: Path) -> list[Path]:
    """Return the paths in a folder, in no order; an empty list if the folder does not exist."""
    try:
        return list(folder.iterdir())
    except FileNotFoundError:
        return []


def _read_mail(key: str, path: Path) -> ReceivedMail | None:
    """Read one mail; None if the file does not exist any more."""
    try:
        with path.open("rb") as file:
            content = file.read()
            delivered_at = _get_delivery_time(path)
    except FileNotFoundError:
        return None
    message = message_from_bytes(content, EmailMessage, policy=default)
    return ReceivedMail(key, delivered_at, message)


def _get_delivery_time(path: Path) -> datetime:
    """Return the time at which a mail's file was changed last. Raises FileNotFoundError if there is no such file."""
    return _EPOCH + timedelta(microseconds=path.stat().st_mtime_ns // 1000)
