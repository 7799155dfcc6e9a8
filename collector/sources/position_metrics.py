"""The metrics of all sources of positions, by the source's name."""

from collections.abc import Iterator
from contextlib import contextmanager

from chassis.metrics import Metrics
from collector.sources.state_vector import Poll


class PositionMetrics:
    """Counters of polls, gauges of what they hold, and the states of the circuit breakers.

    Names of sources are ours (`opensky`, `url-1`): an address may hold a password.
    """

    def __init__(self, metrics: Metrics) -> None:
        """Register the metrics; create this once, and share it among all sources."""
        self.breaker = metrics.gauge(
            "positions_breaker_state", "1 for the state that the breaker of the source is in, else 0", "source", "state"
        )
        self._polls = metrics.counter("positions_polls_total", "Polls of positions", "source", "outcome")
        self._aircraft = metrics.gauge("positions_aircraft", "Aircraft in the last poll of the source", "source")
        self._dropped = metrics.counter(
            "positions_dropped_fields_total", "Fields and rows of polls dropped as unreadable", "source", "field"
        )

    @contextmanager
    def count_poll(self, source: str) -> Iterator[None]:
        """Count one poll, made by the block in this context: as a success, or as a failure if the block raises."""
        outcome = "failure"
        try:
            yield
            outcome = "success"
        finally:
            self._polls.labels(source=source, outcome=outcome).inc()

    def count_poll_content(self, source: str, poll: Poll) -> None:
        """Count what was dropped from a poll, and set the gauge of its aircraft."""
        self._aircraft.labels(source=source).set(len(poll.states))
        for field, number in poll.dropped.items():
            self._dropped.labels(source=source, field=field).inc(number)
