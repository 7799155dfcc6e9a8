"""The limit on unconfirmed mails: mails that the server may have accepted and that are not yet recorded as sent.

A crash between the server's "250" and our record sends a mail twice. The limit bounds how many mails a crash can
duplicate: mails above the limit wait before they send their content.
"""

import asyncio
from types import TracebackType
from typing import Self


class InFlightLimit:
    """A limit on the number of unconfirmed mails of a worker, shared by alert and confirmation mails.

    Each delivery takes a slot from `create_slot`; the SMTP client acquires the slot just before the mail's content.
    """

    def __init__(self, limit: int) -> None:
        """`limit`: the maximal number of unconfirmed mails."""
        self._semaphore = asyncio.Semaphore(limit)

    def create_slot(self) -> "InFlightSlot":
        """Return a new slot, not acquired yet: a context manager for sending and recording one mail."""
        return InFlightSlot(self._semaphore)


class InFlightSlot:
    """One mail's slot: acquired by `acquire`, not by entering, and released at the end of the `async with` block.

    The SMTP client awaits `acquire` before it sends the mail's content. The block ends once the mail is recorded as
    sent, or has failed; a slot that was never acquired releases nothing.
    """

    def __init__(self, semaphore: asyncio.Semaphore) -> None:
        self._semaphore = semaphore
        self._is_acquired = False

    async def acquire(self) -> None:
        """Wait for a free slot. A second call returns at once: another attempt of the same mail keeps its slot."""
        if not self._is_acquired:
            await self._semaphore.acquire()
            self._is_acquired = True

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._is_acquired:
            self._semaphore.release()
