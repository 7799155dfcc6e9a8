"""What went out: the notifier's only memory, a Faust table that is written through to the broker."""

from datetime import datetime

import faust
from faust.types import TableT


class SentMails:
    """The mails that went out, by the id of the alert or wish.

    Entries end with the changelog's retention; what this process holds in memory it holds until it ends.
    """

    def __init__(self, app: faust.App, table: TableT[bytes, bytes]) -> None:
        self._app = app
        self._table = table

    def __contains__(self, key: bytes) -> bool:
        return key in self._table

    async def record(self, key: bytes, at: datetime) -> None:
        """Returns once the broker has it: what a crash finds unrecorded is mailed again.

        Only for the event that is being handled, since Faust writes to the partition of that one.
        """
        self._table[key] = at.isoformat(timespec="seconds").encode()
        await self._app.producer.flush()
