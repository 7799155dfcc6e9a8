"""The pace at which hosts are asked: one request a second to a host, over all regions and addresses of it."""

from datetime import timedelta
from typing import Final

from chassis.clock import Clock
from collector.errors import SourceLimitedError
from collector.sources.required_pause import RequiredPause

SHORTEST_GAP: Final = timedelta(seconds=1)
"""Time between two requests to a host: adsb.lol and adsb.fi ask for about one request a second."""


class HostPace:
    """Rate limit of one host: the time of its next request, in elapsed time of the service's clock."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._next_at = timedelta(0)
        self.pause = RequiredPause(clock)
        """The pause that the host required."""

    def reserve_turn(self, within_s: float) -> float:
        """Reserve the next free turn to ask, and return the real seconds until then.

        Raises SourceLimitedError, and reserves nothing, during a pause that the host required, or if the turn is not
        within `within_s` real seconds.
        """
        self.pause.require_over()
        elapsed = self._clock.elapsed()
        turn = max(self._next_at, elapsed)
        wait_s = self._clock.real_seconds(turn - elapsed)
        if wait_s >= within_s:
            raise SourceLimitedError((turn - elapsed).total_seconds())
        self._next_at = turn + SHORTEST_GAP
        return wait_s


class HostPaces:
    """The rate limits of all hosts, one for each host."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._paces: dict[str, HostPace] = {}

    def get_pace(self, host: str) -> HostPace:
        """Return the pace of a host, the same one for all addresses of the host."""
        return self._paces.setdefault(host.lower(), HostPace(self._clock))
