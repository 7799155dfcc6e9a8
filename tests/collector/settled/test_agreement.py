"""Tests of the agreement of live with the record: what is counted, and when an airport is distrusted."""

from datetime import datetime, timedelta

import pytest
from prometheus_client import generate_latest

from chassis.metrics import Metrics, ServiceIdentity
from collector.gauges import AgreementGauges
from collector.intervals import DAY, day_of
from collector.live.agreement import load_distrusted
from collector.model import LiveOutcome
from collector.settled.agreement import DailyAgreement, compute_agreement, load_agreements
from collector.settled.reconciliation import LiveMovement
from collector.sources.flight import PublishedFlight
from domain.interests import Direction
from tests.collector.conftest import ANN, NOON, Service, prove_past_days, wish
from tests.collector.settled.live_rows import cover_live, publish_live, store_agreement_rows
from tests.collector.settled.polling import build_collector, poll
from tests.fakes.nightly_source import NightlySource, build_flight

TODAY = day_of(NOON)
HOUR, MINUTE = timedelta(hours=1), timedelta(minutes=1)
DEPARTURES, ARRIVALS = Direction.DEPARTURES, Direction.ARRIVALS
MATCHED, RETRACTED, PUBLISHED = LiveOutcome.MATCHED, LiveOutcome.RETRACTED, LiveOutcome.PUBLISHED


def flight(number: int, at: datetime) -> PublishedFlight:
    """Return a published flight of an aircraft's number."""
    return PublishedFlight(f"{number:06x}", at)


def movement(number: int, at: datetime, outcome: LiveOutcome) -> LiveMovement:
    """Return a movement of an aircraft's number."""
    return LiveMovement(number, f"{number:06x}", at, outcome)


def test_only_what_was_heard_is_compared() -> None:
    """Within the stretches flights and movements are counted; what was corrected is counted of the whole day.

    A movement that is not decided yet counts for nothing.
    """
    heard = TODAY + 10 * HOUR, TODAY + 12 * HOUR
    flights = [flight(1, heard[0]), flight(2, heard[0] + HOUR), flight(3, heard[1]), flight(4, heard[0] - MINUTE)]
    movements = [
        movement(1, heard[0], MATCHED),
        movement(4, heard[0] - MINUTE, MATCHED),
        movement(5, heard[0] + MINUTE, RETRACTED),
        movement(6, heard[1], RETRACTED),
        movement(7, heard[0] + MINUTE, PUBLISHED),
    ]
    found = compute_agreement(TODAY, flights, movements, [heard])
    assert found is not None
    hourly = [(0, 0)] * 24
    hourly[10], hourly[11] = (1, 2), (1, 0)
    assert found == DailyAgreement(TODAY, 2, 2, 1, added=2, retracted=2, hourly=tuple(hourly))
    assert (found.recall, found.precision) == (0.5, 0.5)


def test_a_day_without_live_has_no_agreement() -> None:
    """Neither a stretch nor a movement that is decided: there is nothing to compare."""
    assert compute_agreement(TODAY, [flight(1, TODAY)], [movement(1, TODAY, PUBLISHED)], []) is None
    quiet = compute_agreement(TODAY, [], [], [(TODAY, TODAY + HOUR)])
    assert quiet is not None
    assert (quiet.recall, quiet.precision) == (None, None)


@pytest.mark.parametrize(
    ("days", "is_distrusted"),
    [
        ([], False),
        ([(0, 5, 0)], False),
        ([(10, 10, 8)], False),
        ([(10, 10, 7)], True),
        ([(3, 3, 2)], True),
        ([(10, 10, 10), (10, 10, 10), (10, 10, 4)], False),
        ([(10, 10, 10), (10, 10, 10), (10, 10, 3)], True),
        ([(10, 10, 8), (10, 10, 8), (10, 10, 8), (10, 0, 0)], False),
        ([(10, 10, 8), (0, 0, 0), (10, 10, 8), (0, 0, 0), (10, 10, 0)], True),
        ([(5, 5, 4), (1, 0, 0), (1000, 1000, 990)], False),
    ],
)
def test_less_than_four_of_five_in_three_days_is_distrusted(
    service: Service, days: list[tuple[int, int, int]], is_distrusted: bool
) -> None:
    """The last three days with flights of the record are judged together; other airports and directions do not matter.

    (recorded, live, matched), newest first.
    """
    store_agreement_rows(service.database, DEPARTURES, days)
    store_agreement_rows(service.database, ARRIVALS, [(10, 10, 9)])
    store_agreement_rows(service.database, DEPARTURES, [(10, 10, 1)], airport="LICC")
    with service.database.reading() as session:
        distrusted = load_distrusted(session)
    assert distrusted == {("LICC", DEPARTURES)} | ({("KJFK", DEPARTURES)} if is_distrusted else set())


def test_the_gauges_count_distrusted_airports(service: Service) -> None:
    """By direction, without a label by airport."""
    store_agreement_rows(service.database, DEPARTURES, [(10, 10, 1)])
    store_agreement_rows(service.database, DEPARTURES, [(10, 10, 1)], airport="LICC")
    metrics = Metrics(ServiceIdentity("collector", "local"))
    AgreementGauges(service.database, metrics).update()
    shown = [line for line in generate_latest(metrics.registry).decode().splitlines() if line.startswith("live_dis")]
    assert sorted((line.partition('direction="')[2].partition('"')[0], line.split()[-1]) for line in shown) == [
        ("arrivals", "0.0"),
        ("departures", "2.0"),
    ]


def test_the_night_stores_the_agreement_and_the_next_completes_it(service: Service) -> None:
    """Of the last 20 minutes the next record decides: then the day's agreement is computed again.

    Only from where the settled coverage begins, and also within stretches that were not published.
    """
    service.set(wish(direction=DEPARTURES), ANN)
    record = [build_flight(TODAY + hour * HOUR, number=hour) for hour in range(30)]
    source = NightlySource(service.clock, [build_flight(TODAY - 12 * HOUR, number=99), *record])
    collector = build_collector(service, source)
    prove_past_days(service.database, NOON)
    poll(collector)
    cover_live(service.database, DEPARTURES, NOON - HOUR / 2, TODAY + 18 * HOUR, published=False)
    cover_live(service.database, DEPARTURES, TODAY + 20 * HOUR, TODAY + 2 * DAY)
    found = [(hour, TODAY + hour * HOUR + 5 * MINUTE) for hour in (12, 13, 14, 19, 20, 21)]
    publish_live(service.database, DEPARTURES, [*found, (77, TODAY + 15 * HOUR), (78, TODAY + DAY - 10 * MINUTE)])

    def read() -> list[tuple[int, int, int, int, int]]:
        """Return what is stored of each day, newest first."""
        with service.database.reading() as session:
            return [
                (each.recorded, each.live, each.matched, each.added, each.retracted)
                for each in load_agreements(session, "KJFK", DEPARTURES, 10)
            ]

    for day in (1, 2):
        service.clock.advance(TODAY + day * DAY + 12 * HOUR - service.clock.now())
        prove_past_days(service.database, service.clock.now())
        poll(collector)
        if day == 1:
            # 12:05, 13:05, 14:05, 15:00, 16:00, 17:00 and from 20:05, 21:05, 22:00, 23:00
            assert read() == [(10, 6, 5, 18, 1)]
    assert read() == [(6, 0, 0, 6, 0), (10, 7, 5, 18, 2)]
