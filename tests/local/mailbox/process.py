"""A real mailbox process for tests, and mails for it."""

import smtplib
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.ports import free_port


@dataclass(frozen=True)
class RunningMailbox:
    """A mailbox process that takes mail and serves its pages."""

    process: subprocess.Popen[str]
    port: int
    """Of the mail server."""
    url: str
    """Of the pages, without a slash at its end."""
    maildir: Path


@contextmanager
def running_mailbox(maildir: Path, port: int | None = None, web_port: int | None = None) -> Iterator[RunningMailbox]:
    """Run a real mailbox process for the block; on free ports unless the mail server's or the pages' one is given."""
    port, web_port = port or free_port(), web_port or free_port()
    command = [sys.executable, "-m", "local.mailbox", "--port", str(port), "--web-port", str(web_port)]
    with subprocess.Popen([*command, "--maildir", str(maildir)], stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            said = process.stdout.readline()
            assert "taking mail" in said
            assert f"http://127.0.0.1:{web_port}/" in said
            yield RunningMailbox(process, port, f"http://127.0.0.1:{web_port}", maildir)
        finally:
            process.kill()


def deliver(port: int, subject: str, body: str = "Hello.") -> None:
    """Send one plain mail to the mailbox."""
    deliver_bytes(port, f"Subject: {subject}\r\n\r\n{body}\r\n".encode())


def deliver_bytes(port: int, content: bytes) -> None:
    """Send one mail of any bytes to the mailbox."""
    with smtplib.SMTP("127.0.0.1", port, timeout=60) as client:
        client.sendmail("a@example.org", ["b@example.net"], content)
