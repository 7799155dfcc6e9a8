"""Tests of the stream's metrics, as Prometheus reads them."""

from prometheus_client.parser import text_string_to_metric_families

from chassis.metrics import Metrics, ServiceIdentity
from domain.interests import Direction
from streams.metrics import StreamMetrics
from tests.domain.test_rule import seen
from tests.streams.events import observed
from tests.streams.join_state_on_dicts import JoinStateOnDicts


def samples(metrics: Metrics) -> dict[tuple[str, ...], float]:
    """Return the metrics' values by name and label values, without the labels that all metrics have."""
    text = metrics.exposition()[0].decode()
    return {
        (sample.name, *(value for name, value in sorted(sample.labels.items()) if name not in ("node", "service"))): (
            sample.value
        )
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def test_a_batch_is_counted_with_its_flights() -> None:
    """Late flights are among the flights; stray flights are not."""
    metrics = Metrics(ServiceIdentity("streams", "test"))
    stream_metrics, join = StreamMetrics(metrics), JoinStateOnDicts()
    for event in (observed("KJFK", 1, seen(0, 5, (0.5,))), observed("KJFK", 2, seen(5, 6, (1.5, 5.5, 99)))):
        result = join.compute_result(event)
        assert result is not None
        join.write_result(event, result)
        stream_metrics.count_batch(result)
    found = samples(metrics)
    assert found["stream_batches_total", "departures"] == 2
    assert found["stream_batches_total", "arrivals"] == 0
    assert found[("stream_flights_total",)] == 3
    assert found[("stream_late_flights_total",)] == 1
    assert found[("stream_stray_flights_total",)] == 1


def test_an_event_is_counted_by_its_outcome_and_a_dead_letter_by_its_reason() -> None:
    """Both labels have few values, whatever the events contain."""
    metrics = Metrics(ServiceIdentity("streams", "test"))
    stream_metrics = StreamMetrics(metrics)
    stream_metrics.count_event("flights.observed.v1", "duplicate")
    stream_metrics.count_event("flights.observed.v1", "duplicate")
    stream_metrics.count_dead_letter("flights.observed.v1", "MisroutedError")
    found = samples(metrics)
    assert found["stream_events_total", "duplicate", "flights.observed.v1"] == 2
    assert found["stream_dead_letters_total", "MisroutedError", "flights.observed.v1"] == 1


def test_the_watermark_lag_is_computed_at_each_scrape() -> None:
    """The lag must grow while no event comes."""
    metrics = Metrics(ServiceIdentity("streams", "test"))
    lag = {Direction.ARRIVALS: 10.0, Direction.DEPARTURES: 0.0}
    StreamMetrics(metrics).add_lag_gauge(lag.__getitem__)
    assert samples(metrics)["stream_watermark_lag_seconds", "arrivals"] == 10.0
    lag[Direction.ARRIVALS] = 99.0
    assert samples(metrics)["stream_watermark_lag_seconds", "arrivals"] == 99.0
