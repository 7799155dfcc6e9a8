"""Rate limits: how many requests one client may send."""

import math
import time

from flask import request
from limits import parse_many
from limits.storage import MemoryStorage
from limits.strategies import MovingWindowRateLimiter

from chassis.web.clients import identify_client
from chassis.web.http import Problem

_MOST_CLIENTS = 100_000


class ClientRateLimit:
    """A limit of requests per client in any interval of a given length (a moving window), counted per replica.

    A route calls `count_request`. The counts are in memory.
    """

    def __init__(self, rate: str) -> None:
        """`rate` is a text like "60/minute". Raises ValueError if it is invalid, or holds several rates."""
        (self._rate,) = parse_many(rate)
        self._reset()

    def count_request(self) -> None:
        """Count the present request of its client, or raise Problem 429 with `Retry-After` if it exceeds the limit.

        A rejected request is not counted. If there are more than 100,000 clients, all counts are discarded first.
        """
        if len(self._storage.events) > _MOST_CLIENTS:
            self._reset()  # the storage keeps every client's address: rather admit some than use up the memory
        client = identify_client(request.remote_addr or "")
        window = self._window
        if not window.hit(self._rate, client):
            wait = math.ceil(window.get_window_stats(self._rate, client).reset_time - time.time())
            headers = {"Retry-After": str(max(wait, 1))}
            raise Problem(429, "That was too often from your address; come back later.", headers)

    def _reset(self) -> None:
        """Discard the counts of all clients, or create them empty."""
        self._storage = MemoryStorage()
        self._window = MovingWindowRateLimiter(self._storage)
