"""What the stream counts."""

from collections.abc import Callable
from functools import lru_cache
from typing import Final

from chassis.metrics import Metrics
from domain.alerts import Alert
from domain.interests import Direction
from streams.join_state import Outcome

_FOLD_SECONDS: Final = (0.00005, 0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.1, 1)


class StreamMetrics:
    """The stream's own metrics; those of its framework are in `chassis.faust.internals.metrics`."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics
        events = metrics.counter("stream_events_total", "Events by what became of them", "topic", "outcome")
        self._event = lru_cache(lambda topic, outcome: events.labels(topic=topic, outcome=outcome))
        self._dead_letters = metrics.counter("stream_dead_letters_total", "Events put aside", "topic", "reason")
        batches = metrics.counter("stream_batches_total", "Batches of flights folded", "direction")
        self._batches = {each: batches.labels(direction=each.value) for each in Direction.BOTH.parts}
        self._flights = metrics.counter("stream_flights_total", "Flights folded").labels()
        self._late = metrics.counter(
            "stream_late_flights_total", "Flights folded that lie before their batch's interval"
        ).labels()
        self._stray = metrics.counter("stream_stray_flights_total", "Flights out of their batch's reach").labels()
        raised = metrics.counter("alerts_raised_total", "Alerts raised", "bound", "state")
        self._raised = lru_cache(lambda bound, state: raised.labels(bound=bound, state=state))
        self.fold_seconds = metrics.histogram(
            "stream_fold_seconds", "Decoding, folding and judging one event", buckets=_FOLD_SECONDS
        ).labels()

    def event(self, topic: str, outcome: str) -> None:
        self._event(topic, outcome).inc()

    def dead_letter(self, topic: str, reason: str) -> None:
        """`reason`: the name of an error's class, of which there are few."""
        self._dead_letters.labels(topic=topic, reason=reason).inc()

    def folded(self, outcome: Outcome) -> None:
        if outcome.direction is not None:
            self._batches[outcome.direction].inc()
            self._flights.inc(outcome.flights)
            self._late.inc(outcome.late_flights)
            self._stray.inc(outcome.stray_flights)

    def raised(self, alert: Alert) -> None:
        self._raised(alert.bound.value, alert.state.value).inc()

    def watch(self, lag_s: Callable[[Direction], float]) -> None:
        """Make the gauges that are asked for when they are read."""
        lag = self._metrics.gauge(
            "stream_watermark_lag_seconds",
            "From the oldest watermark of this worker's watched airports to now; 0 where nothing is watched",
            "direction",
        )
        for direction in Direction.BOTH.parts:
            lag.labels(direction=direction.value).set_function(lambda direction=direction: lag_s(direction))  # type: ignore[misc]
