"""The metrics of live collection, by feed."""

from chassis.clock import Clock
from chassis.metrics import Metrics
from collector.live.feed_state import FoundMovement


class LiveMetrics:
    """Counters of rounds and movements, and gauges of what a feed hears and covers; of the leader alone."""

    def __init__(self, metrics: Metrics, clock: Clock) -> None:
        """Register the metrics."""
        self._clock = clock
        self._rounds = metrics.counter("live_polls_total", "Rounds of polls of a feed of positions", "feed", "outcome")
        self._movements = metrics.counter(
            "live_movements_total", "Movements found in positions and published", "feed", "direction", "evidence"
        )
        self._aircraft = metrics.gauge("live_aircraft", "Aircraft in the last poll of the feed", "feed")
        self._airports = metrics.gauge("live_airports", "Airports that the feed hears without a pause", "feed")
        self._age = metrics.gauge(
            "live_poll_age_seconds",
            "Since the last poll of the feed that counts; 0 on replicas that do not poll",
            "feed",
        )
        self._trust = metrics.gauge(
            "live_clock_trusted",
            "1 while this machine's clock agrees with the source's, as far as it is known; 0: nothing is covered live",
        ).labels()
        self._trust.set(1)
        self._interval = metrics.gauge("live_poll_interval_seconds", "From one poll of the feed to the next", "feed")

    def set_clock_trust(self, is_trusted: bool) -> None:
        """Set the gauge that tells whether the clock is trusted."""
        self._trust.set(is_trusted)

    def begin(self, feed: str) -> None:
        """Measure the age of the feed's last poll from now on: it has none yet, or nothing is asked of it.

        So nothing is heard or covered now: the gauges of a poll are 0.
        """
        self._count_age_from_now(feed)
        self._clear_poll(feed)

    def count_round(self, feed: str, *, counts: bool) -> None:
        """Count a round of polls: one that counts, or one that failed."""
        self._rounds.labels(feed=feed, outcome="success" if counts else "failure").inc()

    def count_movement(self, feed: str, found: FoundMovement) -> None:
        """Count a movement that was published."""
        movement = found.movement
        self._movements.labels(
            feed=feed, direction=movement.direction.value, evidence=movement.evidence.value.replace(" ", "_")
        ).inc()

    def set_poll(self, feed: str, aircraft: int, airports: int, interval_s: float) -> None:
        """Set the gauges after a poll that counts; its age grows from now on."""
        self._count_age_from_now(feed)
        self._aircraft.labels(feed=feed).set(aircraft)
        self._airports.labels(feed=feed).set(airports)
        self._interval.labels(feed=feed).set(interval_s)

    def set_airports(self, feed: str, airports: int) -> None:
        """Set the number of airports that are heard without a pause."""
        self._airports.labels(feed=feed).set(airports)

    def _count_age_from_now(self, feed: str) -> None:
        """Let the gauge of the age show the time since now."""
        since = self._clock.elapsed()
        self._age.labels(feed=feed).set_function(lambda: (self._clock.elapsed() - since).total_seconds())

    def end_term(self, feed: str) -> None:
        """Set the gauges of a feed to 0: another replica may poll now."""
        self._clear_poll(feed)
        self._age.labels(feed=feed).set_function(lambda: 0.0)

    def _clear_poll(self, feed: str) -> None:
        """Set the gauges of the last poll to 0."""
        for gauge in (self._aircraft, self._airports, self._interval):
            gauge.labels(feed=feed).set(0)
