"""The client's end of an SMTP connection: replies in the order of the commands, also of several sent at once."""

import asyncio
import re
from collections import deque
from dataclasses import dataclass
from typing import Final

from notifier.smtp.outcomes import Enhanced

LONGEST_REPLY: Final = 64 * 1024
"""In bytes, of all that was not read yet. A reply line has 512 at most (RFC 5321, 4.5.3.1.5)."""

_LINE: Final = re.compile(rb"([2-5][0-9][0-9])(?:([ -])(.*))?", re.DOTALL)
_ENHANCED: Final = re.compile(rb"([245])\.([0-9]{1,3})\.([0-9]{1,3})(?![0-9.])")


class Silence(Exception):
    """There is and will be no reply: the connection is gone, too late, or speaks no SMTP."""


@dataclass(frozen=True, slots=True)
class Reply:
    """One reply, maybe of several lines. Its words are not kept."""

    code: int
    enhanced: Enhanced | None


class Replies(asyncio.Protocol):
    """Reads replies. For one reader at a time."""

    def __init__(self) -> None:
        self._unread = bytearray()
        self._replies: deque[Reply] = deque()
        self._first: bytes | None = None
        """The text of the first line of a reply whose last line has not come yet."""
        self._over = False
        self._waiter: asyncio.Future[None] | None = None

    @property
    def quiet(self) -> bool:
        """Whether the connection stands and the server has said nothing that nobody asked for, such as a good-bye."""
        return not (self._over or self._replies or self._unread or self._first is not None)

    async def next(self, within_s: float) -> Reply:
        """The next reply. Raises Silence."""
        if not self._replies and not self._over:
            self._waiter = asyncio.get_running_loop().create_future()
            try:
                async with asyncio.timeout(within_s):
                    await self._waiter
            except TimeoutError:
                raise Silence("too late") from None
            finally:
                self._waiter = None
        if self._replies:
            return self._replies.popleft()
        raise Silence("gone")

    def data_received(self, data: bytes) -> None:
        self._unread += data
        while not self._over and (end := self._unread.find(b"\n")) >= 0:
            line = bytes(self._unread[:end]).removesuffix(b"\r")
            del self._unread[: end + 1]
            self._read(line)
        if len(self._unread) > LONGEST_REPLY or len(self._replies) > LONGEST_REPLY:
            self._over = True
        self._wake()

    def connection_lost(self, exc: Exception | None) -> None:
        self._over = True
        self._wake()

    def eof_received(self) -> bool:
        self._over = True
        self._wake()
        return False

    def _read(self, line: bytes) -> None:
        match = _LINE.fullmatch(line)
        if match is None:
            self._over = True  # no SMTP: whatever follows cannot be told from it
            return
        code, more, text = match.groups()
        first = (text or b"") if self._first is None else self._first
        if more == b"-":
            self._first = first
            return
        self._first = None
        self._replies.append(Reply(int(code), _enhanced(first)))

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done() and (self._replies or self._over):
            self._waiter.set_result(None)


def enhanced_of(text: str) -> Enhanced | None:
    """The enhanced status code that a reply's text begins with (RFC 2034, 4)."""
    return _enhanced(text.encode(errors="replace"))


def _enhanced(text: bytes) -> Enhanced | None:
    match = _ENHANCED.match(text)
    return (int(match[1]), int(match[2]), int(match[3])) if match else None
