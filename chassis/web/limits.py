"""Rate limits: how many requests one client may send."""

import math
import threading
import time
from collections import deque
from collections.abc import Callable

from flask import request
from limits import parse_many

from chassis.clients import identify_client
from chassis.web.http import Problem

_MOST_CLIENTS = 100_000


class ClientRateLimit:
    """A limit of requests per client in any interval of a given length (a moving window), counted per replica.

    A route calls `count_request`. The counts are in memory, and by a monotonic clock: the library `limits`, which reads
    the rates here, counts by the wall clock, and a clock that is set back would lock its clients out for hours.
    """

    def __init__(self, rate: str, monotonic: Callable[[], float] = time.monotonic) -> None:
        """`rate` is a text like "60/minute". Raises ValueError if it is invalid, or holds several rates."""
        (parsed,) = parse_many(rate)
        self._requests, self._interval_s = parsed.amount, parsed.get_expiry()
        self._monotonic = monotonic
        self._admitted_at: dict[str, deque[float]] = {}
        """By client, when its latest requests were admitted: at most as many as one interval may have."""
        self._lock = threading.Lock()

    def count_request(self) -> None:
        """Count the present request of its client, or raise Problem 429 with `Retry-After` if it exceeds the limit.

        A rejected request is not counted. If there are more than 100,000 clients, all counts are discarded first.
        """
        wait_s = self._admit(identify_client(request.remote_addr or ""))
        if wait_s is not None:
            headers = {"Retry-After": str(max(math.ceil(wait_s), 1))}
            raise Problem(429, "That was too often from your address; come back later.", headers)

    def _admit(self, client: str) -> float | None:
        """Count a request of a client and return None, or return the seconds until it may send one, uncounted.

        Discards the counts of all clients first if there are too many of them.
        """
        with self._lock:
            if len(self._admitted_at) > _MOST_CLIENTS:
                self._admitted_at.clear()  # rather admit some than use up the memory
            now = self._monotonic()
            admitted_at = self._admitted_at.setdefault(client, deque(maxlen=self._requests))
            if len(admitted_at) == self._requests:
                free_at = admitted_at[0] + self._interval_s if admitted_at else now + self._interval_s
                if free_at > now:
                    return free_at - now
            admitted_at.append(now)
            return None
