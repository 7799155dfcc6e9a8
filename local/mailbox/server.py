"""The SMTP server that stores every mail in the Maildir."""

import asyncio
import mailbox
from collections.abc import Callable
from pathlib import Path

from aiosmtpd.smtp import SMTP, Envelope, Session

from local.mailbox.errors import CannotListenError

HOSTNAME = "mailbox.local"


class MaildirHandler:
    """The SMTP handler that stores every mail in one Maildir, whoever its recipients are; creates the Maildir."""

    def __init__(self, maildir: Path, on_stored: Callable[[], None]) -> None:
        """`on_stored` is called after each stored mail."""
        maildir.parent.mkdir(parents=True, exist_ok=True)
        self._maildir = mailbox.Maildir(maildir, create=True)
        self._on_stored = on_stored

    async def handle_DATA(  # noqa: N802 - aiosmtpd looks it up by this name
        self, _server: SMTP, _session: Session, envelope: Envelope
    ) -> str:
        """Store a mail that has arrived, once for all its recipients, and return the SMTP reply `250 delivered`.

        The reply means that the whole mail is on the disk. Above its own headers, which stay as they are, the stored
        mail has `Return-Path` and one `Delivered-To` for each recipient; its lines end in LF.
        """
        trace = [f"Return-Path: <{envelope.mail_from or ''}>", *(f"Delivered-To: {each}" for each in envelope.rcpt_tos)]
        # Bytes, not a message object, which would be serialized anew and given a date of its own.
        mail = "".join(f"{line}\n" for line in trace).encode() + (envelope.original_content or b"")
        await asyncio.to_thread(self._maildir.add, mail.replace(b"\r\n", b"\n"))
        self._on_stored()
        return "250 delivered"


async def start_server(host: str, port: int, maildir: Path, on_stored: Callable[[], None]) -> asyncio.Server:
    """Start the SMTP server that stores mail in the Maildir, and return it once it listens.

    The caller closes it. `on_stored` is called after each stored mail. Raises CannotListenError if the port is in
    use or not allowed.
    """
    handler = MaildirHandler(maildir, on_stored)
    loop = asyncio.get_running_loop()
    try:
        return await loop.create_server(
            lambda: SMTP(handler, hostname=HOSTNAME, ident="Towerwatch mailbox", enable_SMTPUTF8=True, loop=loop),
            host,
            port,
        )
    except OSError as error:
        raise CannotListenError.on(host, port, error) from None
