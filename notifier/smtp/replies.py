"""Parsing of a server's SMTP replies, in the order of the commands, also of pipelined commands."""

import asyncio
import re
from collections import deque
from dataclasses import dataclass, field
from typing import Final

from notifier.smtp.outcomes import EnhancedCode

LONGEST_REPLY: Final = 64 * 1024
"""Bytes that may be unread at most. A reply line has 512 at most (RFC 5321, 4.5.3.1.5)."""

_LINE: Final = re.compile(rb"([2-5][0-9][0-9])(?:([ -])(.*))?", re.DOTALL)
_ENHANCED_CODE: Final = re.compile(rb"([245])\.([0-9]{1,3})\.([0-9]{1,3})(?![0-9.])")
_HASHED_CODE: Final = re.compile(rb"#([245])\.([0-9]{1,3})\.([0-9]{1,3})(?![0-9.])")
"""An enhanced code as qmail and IronPort write it, anywhere in the text: "no mailbox here by that name (#5.1.1)"."""

_MOST_LINES: Final = 1000
"""Lines that a reply may have at most; servers send some thirty, in their answer to EHLO."""

MOST_REPLIES: Final = 100
"""Replies that may be unread at most; of pipelined commands there are five at a time."""

_LONGEST_TEXT: Final = 4096
"""Bytes of a reply's text that are kept until it is classified."""


class NoReplyError(Exception):
    """No reply will come: the connection is lost, the reply is too late, or the server does not send valid SMTP."""


@dataclass(frozen=True, slots=True)
class SmtpReply:
    """One reply of the server, of one or several lines.

    `enhanced`: None if the text holds no enhanced status code. `words`: the text of all lines, to be classified; it may
    hold addresses, so it is neither logged nor compared.
    """

    code: int
    enhanced: EnhancedCode | None
    words: str = field(default="", repr=False, compare=False)


class ReplyReader(asyncio.Protocol):
    """The asyncio protocol that parses a server's replies and queues them for `read_reply`, in order.

    Only one task at a time may read them. The reading ends when the connection is lost or the server sends invalid
    SMTP; replies that were queued before can still be read.
    """

    def __init__(self) -> None:
        self._unread = bytearray()
        self._replies: deque[SmtpReply] = deque()
        self._earlier_lines: list[bytes] | None = None
        """The texts of the lines so far of a reply whose last line has not come yet; None: no reply has begun."""
        self._earlier_bytes = 0
        """Bytes of these texts in all."""
        self._ended = False
        """True once no further reply will be read: the connection is lost, or the server sent invalid SMTP."""
        self._waiter: asyncio.Future[None] | None = None

    @property
    def is_quiet(self) -> bool:
        """True while the reading has not ended and nothing of a reply is unread, such as a 421 before closing."""
        return not (self._ended or self._replies or self._unread or self._earlier_lines is not None)

    async def read_reply(self, timeout_s: float) -> SmtpReply:
        """Remove the oldest queued reply and return it; without one, wait for the next.

        Raises NoReplyError after `timeout_s` seconds, or at once when the reading ends or has ended and no reply is
        queued.
        """
        if not self._replies and not self._ended:
            self._waiter = asyncio.get_running_loop().create_future()
            try:
                async with asyncio.timeout(timeout_s):
                    await self._waiter
            except TimeoutError:
                raise NoReplyError("too late") from None
            finally:
                self._waiter = None
        if self._replies:
            return self._replies.popleft()
        raise NoReplyError("gone")

    def data_received(self, data: bytes) -> None:
        """Parse the complete lines of the received bytes, keep the rest for the next call, and wake the reader.

        Lines end with LF or CRLF. Ends the reading at an invalid line, at a reply of too many lines, at more than
        `LONGEST_REPLY` bytes without a line's end, and at more than `MOST_REPLIES` unread replies. Bytes that come
        after the end are dropped.
        """
        if self._ended:
            return
        self._unread += data
        while not self._ended and (end := self._unread.find(b"\n")) >= 0:
            line = bytes(self._unread[:end]).removesuffix(b"\r")
            del self._unread[: end + 1]
            self._parse_line(line)
        if len(self._unread) > LONGEST_REPLY:
            self._ended = True
        if self._ended:
            self._unread.clear()
        self._wake_reader()

    def connection_lost(self, exc: Exception | None) -> None:
        """End the reading, since no further reply will come, and wake the reader."""
        self._ended = True
        self._wake_reader()

    def eof_received(self) -> bool:
        """End the reading and wake the reader; return False, with which asyncio closes the transport."""
        self._ended = True
        self._wake_reader()
        return False

    def _parse_line(self, line: bytes) -> None:
        """Parse one line; if it is the last of a reply, queue that reply.

        The reply has the code of its last line, the enhanced code of its first line that has one, and the text of all
        its lines, cut at _LONGEST_TEXT. An invalid line ends the reading, and so does one more than _MOST_LINES.
        """
        match = _LINE.fullmatch(line)
        if match is None:
            self._ended = True  # not SMTP: the lines after it cannot be assigned to commands
            return
        code, separator, text = match.groups()
        texts = self._earlier_lines or []
        if len(texts) >= _MOST_LINES:
            self._ended = True
            return
        kept = (text or b"")[: max(0, _LONGEST_TEXT - self._earlier_bytes)]
        texts.append(kept)
        self._earlier_bytes += len(kept)
        if separator == b"-":
            self._earlier_lines = texts
            return
        self._earlier_lines, self._earlier_bytes = None, 0
        enhanced = next((found for each in texts if (found := _parse_enhanced_code(each))), None)
        words = b" ".join(texts).decode(errors="replace")
        self._replies.append(SmtpReply(int(code), enhanced, words))
        self._ended = len(self._replies) > MOST_REPLIES

    def _wake_reader(self) -> None:
        """Wake the task that waits in `read_reply`, if any, when a reply is queued or the reading has ended."""
        if self._waiter is not None and not self._waiter.done() and (self._replies or self._ended):
            self._waiter.set_result(None)


def parse_enhanced_code(text: str) -> EnhancedCode | None:
    """Return the enhanced status code in a reply's text; None: without such a code."""
    return _parse_enhanced_code(text.encode(errors="replace"))


def _parse_enhanced_code(text: bytes) -> EnhancedCode | None:
    """Return the enhanced status code at the beginning of a text (RFC 2034, 4), or after a # in it; None: without."""
    match = _ENHANCED_CODE.match(text) or _HASHED_CODE.search(text)
    return (int(match[1]), int(match[2]), int(match[3])) if match else None
