"""The mail server of a storm: a process with a Maildir and moods.

`python -m tests.faults.storm.sink PORT MAILDIR MOOD`. The file MOOD holds the name of a mood; the recipient of each
mail is in its header `Delivered-To`.
"""

import mailbox
import signal
import sys
import threading
from email.message import EmailMessage
from pathlib import Path
from random import Random
from typing import Final

from tests.fakes.smtp_server import ACCEPT_THEN_CLOSE, HANG_UP, RESET, STALL, FakeSmtpServer

WELL: Final = "well"
MOODS: Final[dict[str, dict[str, tuple[str, ...]]]] = {
    WELL: {},
    "busy": {"CONNECT": ("421 4.3.2 busy",)},
    "closed": {"CONNECT": ("554 5.7.1 not you",)},
    "hanging": {"CONNECT": (STALL,), "MAIL": (STALL,)},
    "grey": {"RCPT": ("451 4.7.0 grey", "450 4.2.1 busy", "452 4.2.2 full")},
    "strict": {"DATA": ("554 5.7.1 policy",), "MAIL": ("550 5.7.1 not you",)},
    "full": {"CONTENT": ("452 4.3.1 full", "451 4.3.0 later", "421 4.3.2 busy")},
    "silent": {"CONTENT": (ACCEPT_THEN_CLOSE,)},
    "torn": {"RCPT": (HANG_UP, RESET), "DATA": (HANG_UP, RESET), "CONTENT": (RESET, ACCEPT_THEN_CLOSE)},
}
"""By mood, the replies in place of the usual one. In all but WELL half of the commands still get the usual reply."""


class MoodySink(FakeSmtpServer):
    """A mail server that stores what it accepts in a Maildir, before it replies, and fails as its mood is."""

    def __init__(self, maildir: Path, mood: Path) -> None:
        super().__init__(extensions=("PIPELINING", "SIZE 10000000", "8BITMIME"))
        self._maildir = mailbox.Maildir(maildir, create=True)
        self._mood = mood
        self._chance = Random(str(mood))

    def next_reply(self, command: str, address: str | None = None) -> str | None:
        """Return the mood's reply to a command, or None for the usual one, by chance."""
        replies = MOODS[self._mood.read_text()].get(command)
        with self._lock:
            if not replies or self._chance.random() < 0.5:
                return None
            return self._chance.choice(replies)

    def accept_mail(self, mail: EmailMessage, envelope: tuple[str, str]) -> None:
        """Store a mail, before the client is told that it was accepted."""
        address = envelope[1].partition("<")[2].partition(">")[0]
        with self._lock:
            self._maildir.add(f"Delivered-To: {address}\n".encode() + mail.as_bytes())


def main(port: str, maildir: str, mood: str) -> None:
    """Serve until SIGTERM."""
    ended = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: ended.set())
    with MoodySink(Path(maildir), Path(mood)).running(int(port)):
        ended.wait()


if __name__ == "__main__":
    main(*sys.argv[1:])
