"""Tests of unheard airports: silence is never zero, and their people are told once."""

from datetime import timedelta

import pytest
from flask.testing import FlaskClient

from collector.intervals import DAY, day_of
from collector.model import CoverageRow, UnheardRow
from domain.interests import Direction
from tests.collector.conftest import ANN, ANNS, BOB, NOON, ON_SQLITE, Service, json_of, wish
from tests.collector.settled.polling import build_collector, list_complete, list_notices, poll_hourly
from tests.fakes.nightly_source import NightlySource, build_flight

TODAY = day_of(NOON)
YESTERDAY = TODAY - DAY
ARRIVALS, DEPARTURES = Direction.ARRIVALS, Direction.DEPARTURES
MORNING = timedelta(hours=9)
"""Time of a day at which the record of the day before is collected."""


class OneWaySource(NightlySource):
    """A source that has flights of the watched airports in one direction only, one every hour for two days."""

    def __init__(self, service: Service, direction: Direction) -> None:
        flights = [build_flight(YESTERDAY + timedelta(hours=hour), 30) for hour in range(48)]
        super().__init__(service.clock, flights)
        self._direction = direction

    async def fetch_flights(self, airport, direction, begin, end):  # type: ignore[no-untyped-def]
        found = await super().fetch_flights(airport, direction, begin, end)
        return found if direction is self._direction or airport in self.beacons else []


def test_an_airport_without_any_flight_is_not_covered(service: Service) -> None:
    """Neither zero flights nor any coverage is published, however many days are asked for."""
    service.set(wish(direction=Direction.BOTH), ANN)
    source = NightlySource(service.clock)
    poll_hourly(service, build_collector(service, source), TODAY + 3 * DAY)
    assert len([call for call in source.collections if call[0] == "KJFK"]) >= 2 * 3
    assert list_complete(service.database) == list_complete(service.database, direction=DEPARTURES) == []


def test_its_people_are_notified_once(service: Service) -> None:
    """Each person gets one notice for the airport, also who sets an interest later, or another one."""
    service.set(wish(direction=Direction.BOTH), ANN)
    collector = build_collector(service, NightlySource(service.clock))
    poll_hourly(service, collector, TODAY + DAY)
    assert [(each.user_id, each.airport, each.since.ToSeconds()) for each in list_notices(service.database)] == [
        (str(ANN), "KJFK", int(YESTERDAY.timestamp()))
    ]
    service.set(wish(), BOB)
    service.set(wish(direction=ARRIVALS), ANN)
    poll_hourly(service, collector, TODAY + 3 * DAY)
    assert [each.user_id for each in list_notices(service.database)] == [str(ANN), str(BOB)]


def test_coverage_begins_with_the_first_flight(service: Service) -> None:
    """Hours before it, in which perhaps nobody listened, are not covered; from then on zero is zero."""
    service.set(wish(direction=Direction.BOTH), ANN)
    first = TODAY + DAY + timedelta(hours=10)
    source = NightlySource(service.clock, [build_flight(first, 30), build_flight(first + 2 * DAY, 30)])
    poll_hourly(service, build_collector(service, source), TODAY + 3 * DAY + MORNING)
    assert list_complete(service.database, direction=DEPARTURES) == [
        (first, TODAY + 2 * DAY, 1),
        (TODAY + 2 * DAY, TODAY + 3 * DAY, 0),
    ]
    assert list_complete(service.database, direction=ARRIVALS)[0][0] in (first, first + timedelta(minutes=30))
    with service.database.reading() as session:
        assert session.query(UnheardRow).count() == 0


def test_an_airport_with_flights_on_the_first_day_is_covered_from_its_midnight(service: Service) -> None:
    """Nothing says that nobody listened before the first flight of that day."""
    service.set(wish(direction=Direction.BOTH), ANN)
    source = NightlySource(service.clock, [build_flight(YESTERDAY + timedelta(hours=20), 30)])
    poll_hourly(service, build_collector(service, source), TODAY + timedelta(hours=20))
    for direction in (ARRIVALS, DEPARTURES):
        assert list_complete(service.database, direction=direction) == [(YESTERDAY, TODAY, 1)]
    assert list_notices(service.database) == []


@pytest.mark.parametrize("heard", [ARRIVALS, DEPARTURES])
def test_nobody_is_notified_before_every_direction_was_asked(service: Service, heard: Direction) -> None:
    """A direction without flights says nothing while the other was no answer yet: its flights show that it is heard."""
    service.set(wish(direction=Direction.BOTH), ANN)
    source = OneWaySource(service, heard)
    poll_hourly(service, build_collector(service, source), TODAY + DAY + MORNING)
    assert [entry[2] for entry in list_complete(service.database, direction=heard)] == [24, 24]
    assert list_notices(service.database) == []


def test_one_direction_shows_that_the_airport_is_heard(service: Service) -> None:
    """An airport with arrivals but without departures has zero departures, whichever direction is asked first."""
    service.set(wish(direction=Direction.BOTH), ANN)
    source = OneWaySource(service, ARRIVALS)
    poll_hourly(service, build_collector(service, source), TODAY + DAY + MORNING)
    assert [entry[2] for entry in list_complete(service.database)] == [24, 24]
    assert list_complete(service.database, direction=DEPARTURES) == [
        (YESTERDAY, TODAY, 0),
        (TODAY, TODAY + DAY, 0),
    ]


def test_answers_say_that_an_airport_is_unheard(service: Service, client: FlaskClient) -> None:
    """Who sets an interest there, or previews one, reads the same sentence as in the mail; so does the coverage."""
    service.set(wish(direction=Direction.BOTH), ANN)
    body = {"airport_icao": "KJFK", "direction": "arrivals", "window": "1h", "low_value": 3}
    assert json_of(client.post("/interests", json=body, headers=ANNS))["notice"] is None
    poll_hourly(service, build_collector(service, NightlySource(service.clock)), TODAY + timedelta(hours=20))
    sentence = "OpenSky has not reported a flight at KJFK since 12 February 2013: nobody may be listening there."
    assert str(json_of(client.post("/interests", json=body, headers=ANNS))["notice"]).startswith(sentence)
    assert str(json_of(client.post("/interests/preview", json=body, headers=ANNS))["notice"]).startswith(sentence)
    shown = json_of(client.get("/flights/KJFK/coverage", headers=ANNS))
    assert str(shown["notice"]).startswith(sentence)
    assert (shown["arrivals"], shown["departures"]) == (None, None)


def test_a_deleted_person_leaves_no_mark(service: Service) -> None:
    """The deletion of an account removes the marks of notices, too."""
    service.set(wish(), ANN)
    poll_hourly(service, build_collector(service, NightlySource(service.clock)), TODAY + timedelta(hours=20))
    assert len(list_notices(service.database)) == 1
    service.interests.remove_all(ANN)
    service.set(wish(), ANN)
    assert len(list_notices(service.database)) == 2


def test_coverage_of_before_stays(service: Service) -> None:
    """An airport that is covered already is heard: its days without flights are zero."""
    with service.database.transaction() as session:
        session.add(CoverageRow(airport="KJFK", direction="arrivals", covered_from=YESTERDAY, covered_until=YESTERDAY))
    service.set(wish(direction=ARRIVALS), ANN)
    poll_hourly(service, build_collector(service, NightlySource(service.clock)), TODAY + timedelta(hours=20))
    assert list_complete(service.database) == [(YESTERDAY, TODAY, 0)]
    assert list_notices(service.database) == []


@ON_SQLITE
def test_who_watches_weeks_later_is_not_told_of_the_silence_of_before(service: Service) -> None:
    """Nobody asked meanwhile, so nobody knows whether the airport is still silent."""
    interest = service.set(wish(direction=ARRIVALS), ANN)
    poll_hourly(service, build_collector(service, NightlySource(service.clock)), TODAY + timedelta(hours=20))
    assert [each.user_id for each in list_notices(service.database)] == [str(ANN)]
    service.interests.remove(ANN, interest.interest_id)
    service.clock.advance(20 * DAY)
    service.set(wish(direction=ARRIVALS), BOB)
    assert [each.user_id for each in list_notices(service.database)] == [str(ANN)]
    assert service.interests.find_notice("KJFK") is None
