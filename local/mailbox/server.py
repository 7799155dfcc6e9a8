"""The SMTP side: whatever is sent lands in the Maildir."""

import asyncio
import mailbox
import os
from pathlib import Path

from aiosmtpd.smtp import SMTP, Envelope, Session

from local.mailbox.errors import CannotListenError

HOSTNAME = "mailbox.local"


class IntoMaildir:
    """Takes every mail to every recipient; "250" means that it is on the disk, whole."""

    def __init__(self, maildir: Path) -> None:
        maildir.parent.mkdir(parents=True, exist_ok=True)
        self._maildir = mailbox.Maildir(maildir, create=True)

    async def handle_DATA(  # noqa: N802 - aiosmtpd looks it up by this name
        self, _server: SMTP, _session: Session, envelope: Envelope
    ) -> str:
        """aiosmtpd's hook for a mail that has arrived."""
        trace = [f"Return-Path: <{envelope.mail_from or ''}>", *(f"Delivered-To: {each}" for each in envelope.rcpt_tos)]
        # Bytes, not a message object: that would be written anew, and given a date of its own.
        mail = "".join(f"{line}\n" for line in trace).encode() + (envelope.original_content or b"")
        await asyncio.to_thread(self._maildir.add, mail.replace(b"\r\n", b"\n"))
        return "250 delivered"


async def start(host: str, port: int, maildir: Path) -> asyncio.Server:
    """Listen. Raises CannotListenError."""
    handler = IntoMaildir(maildir)
    loop = asyncio.get_running_loop()
    try:
        return await loop.create_server(
            lambda: SMTP(handler, hostname=HOSTNAME, ident="Towerwatch mailbox", enable_SMTPUTF8=True, loop=loop),
            host,
            port,
        )
    except OSError as error:
        raise CannotListenError(
            f"cannot listen on {host}:{port}: {os.strerror(error.errno) if error.errno else error}"
        ) from None
