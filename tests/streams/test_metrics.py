"""What the stream counts, as Prometheus reads it."""

from prometheus_client.parser import text_string_to_metric_families

from chassis.metrics import Metrics, ServiceIdentity
from domain.interests import Direction
from streams.metrics import StreamMetrics
from tests.domain.test_rule import seen
from tests.streams.bench import Bench
from tests.streams.events import observed


def samples(metrics: Metrics) -> dict[tuple[str, ...], float]:
    """Values by name and labels, without those that are on all."""
    text = metrics.format_exposition()[0].decode()
    return {
        (sample.name, *(value for name, value in sorted(sample.labels.items()) if name not in ("node", "service"))): (
            sample.value
        )
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def test_a_batch_is_counted_by_what_is_in_it() -> None:
    """Flights, late ones among them, and strays beside them."""
    metrics = Metrics(ServiceIdentity("streams", "test"))
    counted, bench = StreamMetrics(metrics), Bench()
    for event in (observed("KJFK", 1, seen(0, 5, (0.5,))), observed("KJFK", 2, seen(5, 6, (1.5, 5.5, 99)))):
        outcome = bench.outcome(event)
        assert outcome is not None
        bench.write(event, outcome)
        counted.folded(outcome)
    found = samples(metrics)
    assert found["stream_batches_total", "departures"] == 2
    assert found["stream_batches_total", "arrivals"] == 0
    assert found[("stream_flights_total",)] == 3
    assert found[("stream_late_flights_total",)] == 1
    assert found[("stream_stray_flights_total",)] == 1


def test_an_event_is_counted_by_its_fate_and_a_dead_letter_by_its_reason() -> None:
    """Few values each, whatever the events hold."""
    metrics = Metrics(ServiceIdentity("streams", "test"))
    counted = StreamMetrics(metrics)
    counted.event("flights.observed.v1", "duplicate")
    counted.event("flights.observed.v1", "duplicate")
    counted.dead_letter("flights.observed.v1", "MisroutedError")
    found = samples(metrics)
    assert found["stream_events_total", "duplicate", "flights.observed.v1"] == 2
    assert found["stream_dead_letters_total", "MisroutedError", "flights.observed.v1"] == 1


def test_the_watermark_lag_is_asked_for_when_it_is_read() -> None:
    """It grows while nothing comes, which is when it is wanted."""
    metrics = Metrics(ServiceIdentity("streams", "test"))
    lag = {Direction.ARRIVALS: 10.0, Direction.DEPARTURES: 0.0}
    StreamMetrics(metrics).watch(lag.__getitem__)
    assert samples(metrics)["stream_watermark_lag_seconds", "arrivals"] == 10.0
    lag[Direction.ARRIVALS] = 99.0
    assert samples(metrics)["stream_watermark_lag_seconds", "arrivals"] == 99.0
