"""The stream's own Prometheus metrics."""

from collections.abc import Callable
from functools import lru_cache
from typing import Final

from chassis.metrics import Metrics
from domain.alerts import Alert
from domain.interests import Direction
from streams.join_state import FoldResult

_FOLD_SECONDS: Final = (0.00005, 0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.1, 1)


class StreamMetrics:
    """The stream's counters of events, dead letters, batches, flights and alerts, and its gauge of the watermark lag.

    `fold_seconds` is a histogram that the caller times. Faust's metrics are in `chassis.faust.internals.metrics`.
    """

    def __init__(self, metrics: Metrics) -> None:
        """Register all of the stream's metrics in `metrics`, except the gauge: see `add_lag_gauge`."""
        self._metrics = metrics
        events = metrics.counter("stream_events_total", "Events by what became of them", "topic", "outcome")
        self._event = lru_cache(lambda topic, outcome: events.labels(topic=topic, outcome=outcome))
        self._dead_letters = metrics.counter("stream_dead_letters_total", "Events put aside", "topic", "reason")
        batches = metrics.counter("stream_batches_total", "Batches of flights folded", "direction")
        self._batches = {part: batches.labels(direction=part.value) for part in Direction.BOTH.parts}
        self._flights = metrics.counter("stream_flights_total", "Flights folded").labels()
        self._late = metrics.counter(
            "stream_late_flights_total", "Flights folded that lie before their batch's interval"
        ).labels()
        self._retracted = metrics.counter("stream_retracted_flights_total", "Flights that batches take back").labels()
        self._stray = metrics.counter("stream_stray_flights_total", "Flights out of their batch's reach").labels()
        raised = metrics.counter("alerts_raised_total", "Alerts raised", "bound", "state")
        self._raised = lru_cache(lambda bound, state: raised.labels(bound=bound, state=state))
        self.fold_seconds = metrics.histogram(
            "stream_fold_seconds", "Decoding, folding and judging one event", buckets=_FOLD_SECONDS
        ).labels()

    def count_event(self, topic: str, outcome: str) -> None:
        """Count an event; `outcome`: "folded", "duplicate" or "dead_letter"."""
        self._event(topic, outcome).inc()

    def count_dead_letter(self, topic: str, reason: str) -> None:
        """Count a dead letter, in addition to `count_event`; `reason`: the name of the error's class, one of few."""
        self._dead_letters.labels(topic=topic, reason=reason).inc()

    def count_batch(self, result: FoldResult) -> None:
        """Count a batch by direction, and its flights by what became of them; does nothing for an interest's result."""
        if result.direction is not None:
            self._batches[result.direction].inc()
            self._flights.inc(result.flights)
            self._late.inc(result.late_flights)
            self._retracted.inc(result.retracted_flights)
            self._stray.inc(result.stray_flights)

    def count_alert(self, alert: Alert) -> None:
        """Count an alert that the broker has, by its bound and its state."""
        self._raised(alert.bound.value, alert.state.value).inc()

    def add_lag_gauge(self, lag_s: Callable[[Direction], float]) -> None:
        """Add the gauge of the watermark lag, for arrivals and for departures; to be called once.

        `lag_s` computes the value (seconds) at each scrape.
        """
        lag = self._metrics.gauge(
            "stream_watermark_lag_seconds",
            "From the oldest watermark of this worker's watched airports to now; 0 where nothing is watched",
            "direction",
        )
        for direction in Direction.BOTH.parts:
            lag.labels(direction=direction.value).set_function(lambda direction=direction: lag_s(direction))  # type: ignore[misc]
