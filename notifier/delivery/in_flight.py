"""Mails in doubt: those that the mail server may have, while no record of it is safe yet.

Between the server's "250" and our record a crash repeats a mail. So many mails may be in that state at a time; the
others hold their content back. It is what a crash may repeat at most.
"""

import asyncio
from types import TracebackType
from typing import Self


class Doubts:
    """The places for mails in doubt."""

    def __init__(self, most: int) -> None:
        self._places = asyncio.Semaphore(most)

    def of_one_mail(self) -> "Doubt":
        """To be entered around the sending and the recording of one mail."""
        return Doubt(self._places)


class Doubt:
    """One mail's place, taken when its content is about to be sent, given back when the block ends."""

    def __init__(self, places: asyncio.Semaphore) -> None:
        self._places = places
        self._taken = False

    async def begin(self) -> None:
        """Wait for a place. Once it has one it keeps it, also for another try of the same mail."""
        if not self._taken:
            await self._places.acquire()
            self._taken = True

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._taken:
            self._places.release()
