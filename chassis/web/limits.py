"""How often one client may ask."""

import ipaddress
import math
import time

from flask import request
from limits import parse_many
from limits.storage import MemoryStorage
from limits.strategies import MovingWindowRateLimiter

from chassis.web.http import Problem

_MOST_CLIENTS = 100_000


class ClientRateLimit:
    """At most so many requests of one client in any stretch of time of this length; counted by this replica alone."""

    def __init__(self, rate: str) -> None:
        """`rate` is a text like "60/minute". Raises ValueError when it is not, or is several."""
        (self._rate,) = parse_many(rate)
        self._reset()

    def count_request(self) -> None:
        """Count the present request. Raises Problem 429 with the time to come back, and then counts nothing."""
        if len(self._storage.events) > _MOST_CLIENTS:
            self._reset()  # the storage keeps every client's name: better some are let in than the memory is used up
        client = identify_client(request.remote_addr or "")
        window = self._window
        if not window.hit(self._rate, client):
            wait = math.ceil(window.get_window_stats(self._rate, client).reset_time - time.time())
            headers = {"Retry-After": str(max(wait, 1))}
            raise Problem(429, "That was too often from your address; come back later.", headers)

    def _reset(self) -> None:
        self._storage = MemoryStorage()
        self._window = MovingWindowRateLimiter(self._storage)


def identify_client(address: str) -> str:
    """Whom an IP address belongs to: an IPv6 address is one of the 2⁶⁴ that a client has (RFC 6177)."""
    try:
        parsed = ipaddress.ip_address(address.strip("[]").partition("%")[0])
    except ValueError:
        return address
    if isinstance(parsed, ipaddress.IPv4Address):
        return str(parsed)
    if parsed.ipv4_mapped is not None:
        return str(parsed.ipv4_mapped)
    return str(ipaddress.ip_network((parsed, 64), strict=False))
