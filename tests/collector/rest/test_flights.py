"""Flights over HTTP: who may see which flights, the paging, and the figures that are computed from them."""

import random
from datetime import datetime, timedelta
from urllib.parse import parse_qs, urlsplit

import pytest
from flask.testing import FlaskClient
from hypothesis import given, settings, strategies as st
from sqlalchemy import case, update

from collector.airlines import find_airline_name, parse_operator
from collector.errors import BadCursorError
from collector.flight_lists import Provenance, decode_cursor, encode_cursor
from collector.intervals import DAY, day_of
from collector.model import CoverageRow, LiveMovementRow, LiveOutcome
from domain.interests import Direction
from tests.collector.conftest import ANN, ANNS, BOBS, NOON, Service, json_of, status_of, wish
from tests.collector.settled.live_rows import cover_live, publish_live, store_agreement_rows

ARRIVALS, DEPARTURES = Direction.ARRIVALS, Direction.DEPARTURES
TODAY = day_of(NOON)
HOUR = timedelta(hours=1)


@pytest.fixture
def watched(service: Service) -> Service:
    """A service in which Ann has an interest in KJFK, with ten covered days."""
    service.set(wish(), ANN)
    for direction in (ARRIVALS, DEPARTURES):
        service.cover(direction, TODAY - 10 * DAY, TODAY)
    return service


def flights_of(answer: dict[str, object]) -> list[dict[str, str]]:
    """Return the flights of a page."""
    shown = answer["flights"]
    assert isinstance(shown, list)
    return shown


def hours(answer: dict[str, object]) -> list[float]:
    """Return the flights' event times, in hours before today."""
    return [(datetime.fromisoformat(flight["event_time"]) - TODAY) / HOUR for flight in flights_of(answer)]


PATHS = ["", "/latest", "/average", "/usual", "/stats/airlines", "/coverage"]


@pytest.mark.parametrize("path", PATHS)
def test_only_people_with_an_interest_see_an_airports_flights(client: FlaskClient, watched: Service, path: str) -> None:
    """An airport that only others watch is answered like one that nobody watches: nobody learns what others watch."""
    assert client.get(f"/flights/KJFK{path}", headers=ANNS).status_code == 200
    assert client.get(f"/flights/kjfk{path}", headers=ANNS).status_code == 200
    others, nobodys = (client.get(f"/flights/{icao}{path}", headers=BOBS) for icao in ("KJFK", "LICC"))
    assert status_of(others) == status_of(nobodys) == 404
    assert others.text.replace("KJFK", "LICC") == nobodys.text


def test_a_flight_is_shown_as_the_airport_sees_it(client: FlaskClient, watched: Service) -> None:
    """A flight has the airport's direction and event time; a value that the source does not give is null."""
    watched.store(DEPARTURES, TODAY - HOUR, icao24="3c6444", callsign="DLH4AB", other_airport="EDDF")
    watched.store(ARRIVALS, TODAY - 2 * HOUR, icao24="a00001", callsign="", other_airport="")
    assert flights_of(json_of(client.get("/flights/KJFK", headers=ANNS))) == [
        {
            "direction": "arrivals", "icao24": "a00001", "callsign": None, "first_seen": "2013-02-12T20:00:00Z",
            "last_seen": "2013-02-12T22:00:00Z", "event_time": "2013-02-12T22:00:00Z", "other_airport": None,
            "provenance": "settled",
        },
        {
            "direction": "departures", "icao24": "3c6444", "callsign": "DLH4AB", "first_seen": "2013-02-12T23:00:00Z",
            "last_seen": "2013-02-13T01:00:00Z", "event_time": "2013-02-12T23:00:00Z", "other_airport": "EDDF",
            "provenance": "settled",
        },
    ]  # fmt: skip


def test_flights_are_filtered_by_interval_and_direction(client: FlaskClient, watched: Service) -> None:
    """The beginning of the interval belongs to it, the end does not."""
    watched.store(DEPARTURES, *(TODAY - hour * HOUR for hour in (5, 3, 1)))
    watched.store(ARRIVALS, *(TODAY - hour * HOUR for hour in (4, 2)))
    for query, expected in (
        ("", [-5, -4, -3, -2, -1]),
        ("?direction=both", [-5, -4, -3, -2, -1]),
        ("?direction=arrivals", [-4, -2]),
        ("?direction=departures&from=2013-02-12T21:00:00Z", [-3, -1]),
        ("?from=2013-02-12T20:00:00Z&to=2013-02-12T22:00:00Z", [-4, -3]),
        ("?to=2013-02-12T21:00:00%2B01:00", [-5]),
        ("?from=2013-02-12T22:00:00Z&to=2013-02-12T20:00:00Z", []),
        ("?from=9999-12-31T23:59:59Z", []),
    ):
        assert hours(json_of(client.get(f"/flights/KJFK{query}", headers=ANNS))) == expected, query


@pytest.mark.parametrize(
    "query",
    [
        "limit=0", "limit=1001", "limit=-1", "limit=x", "limit=1.5", "limit=-0.0", "limit=1e400", "limit=true",
        "limit=", "limit=2&limit=3", "limit=99999999999",
        "direction=up", "direction=", "from=yesterday", "from=2013-02-12", "from=2013-02-12T00:00:00", "from=0",
        "to=", "to=9999-12-31T23:59:59-12:00", "from=2013-02-12T00:00:00Z&from=2013-02-12T00:00:00Z",
        "unknown=1",
    ],
)  # fmt: skip
def test_an_invalid_query_is_rejected(client: FlaskClient, watched: Service, query: str) -> None:
    """An invalid parameter is a 422 that names the parameter."""
    response = client.get(f"/flights/KJFK?{query}", headers=ANNS)
    assert status_of(response) == 422
    assert response.json is not None
    assert [fault["field"] for fault in response.json["errors"]] == [query.partition("=")[0]]


@pytest.mark.parametrize(
    "cursor", ["", "x", "AAAA", "MQ==", "MSAyIDM=", "w6k=", "%F0%9F%9B%AB", "OTk5OTk5OTk5OTk5OTk5OTk5OTk5OTkgMQ=="]
)
def test_an_invalid_cursor_is_rejected(client: FlaskClient, watched: Service, cursor: str) -> None:
    """A cursor that we did not make is a 400; a client that follows links never gets it."""
    assert status_of(client.get(f"/flights/KJFK?cursor={cursor}", headers=ANNS)) == 400


@pytest.mark.parametrize("limit", [1, 2, 3, 7, 1000])
@pytest.mark.parametrize("direction", ["arrivals", "departures", "both"])
def test_pages_hold_each_flight_once_in_order(
    client: FlaskClient, watched: Service, limit: int, direction: str
) -> None:
    """The pages, followed by their links, hold each flight once and in order, also flights of the same instant."""
    times = [TODAY - hour * HOUR for hour in (1, 1, 1, 2, 3, 3)]
    watched.store(DEPARTURES, *times)
    watched.store(ARRIVALS, *times)
    wanted = f"direction={direction}&from=2013-02-12T21:00:00Z"
    whole = flights_of(json_of(client.get(f"/flights/KJFK?{wanted}&limit=1000", headers=ANNS)))
    assert len(whole) == (12 if direction == "both" else 6)
    found, pages, path = [], 0, f"/flights/kjfk?{wanted}&limit={limit}"
    while path:
        response = client.get(path, headers=ANNS)
        page = flights_of(json_of(response))
        assert 0 < len(page) <= limit
        found += page
        pages += 1
        link = response.headers.get("Link", "")
        path = link.removeprefix("<").partition(">")[0]
        if link:
            assert link.endswith('; rel="next"')
            asked = parse_qs(urlsplit(path).query)
            assert asked.pop("cursor")
            assert asked == {"direction": [direction], "from": ["2013-02-12T21:00:00Z"], "limit": [str(limit)]}
    assert found == whole
    assert pages == -(-len(whole) // limit)


def test_a_flight_that_is_stored_between_two_pages_moves_no_other(client: FlaskClient, watched: Service) -> None:
    """A flight of one page is not on the next, also if flights are stored in between."""
    watched.store(DEPARTURES, *(TODAY - hour * HOUR for hour in (4, 3, 2, 1)))
    first = client.get("/flights/KJFK?limit=2", headers=ANNS)
    watched.store(ARRIVALS, TODAY - 5 * HOUR, TODAY - 1.5 * HOUR)
    following = first.headers["Link"].removeprefix("<").partition(">")[0]
    assert hours(json_of(first)) == [-4, -3]
    assert hours(json_of(client.get(following, headers=ANNS))) == [-2, -1.5]


def test_live_movements_are_listed_until_they_are_settled(client: FlaskClient, watched: Service) -> None:
    """A movement has one time and no other airport; once it is matched or retracted, it is no entry of its own."""
    publish_live(watched.database, DEPARTURES, [(1, TODAY + HOUR), (2, TODAY + 2 * HOUR)])
    publish_live(watched.database, ARRIVALS, [(3, TODAY + 3 * HOUR)])
    with watched.database.transaction() as session:
        session.execute(
            update(LiveMovementRow)
            .where(LiveMovementRow.icao24 != "000001")
            .values(
                outcome=case(
                    (LiveMovementRow.icao24 == "000002", LiveOutcome.MATCHED.value), else_=LiveOutcome.RETRACTED.value
                )
            )
        )
    at = "2013-02-13T01:00:00Z"
    movement = {
        "direction": "departures", "icao24": "000001", "callsign": None, "first_seen": at, "last_seen": at,
        "event_time": at, "other_airport": None, "provenance": "live",
    }  # fmt: skip
    assert flights_of(json_of(client.get("/flights/KJFK", headers=ANNS))) == [movement]
    assert json_of(client.get("/flights/KJFK/latest", headers=ANNS)) == {"arrivals": None, "departures": movement}


def test_averages_count_no_live_movement(client: FlaskClient, watched: Service) -> None:
    """They are of the settled record."""
    publish_live(watched.database, DEPARTURES, [(1, TODAY - HOUR)])
    averages = json_of(client.get("/flights/KJFK/average", headers=ANNS))
    assert averages["departures"]["flights"] == 0  # type: ignore[index]
    assert json_of(client.get("/flights/KJFK/stats/airlines", headers=ANNS))["flights"] == 0


@pytest.mark.parametrize("seed", range(4))
def test_pages_hold_settled_and_live_flights_once_in_order(service: Service, seed: int) -> None:
    """However many of both have the same instant, the pages hold each once, ordered by event time."""
    chance = random.Random(seed)
    service.set(wish(), ANN)
    settled: dict[Direction, list[datetime]] = {}
    for direction in (ARRIVALS, DEPARTURES):
        service.cover(direction, TODAY - DAY, TODAY)
        settled[direction] = [TODAY + chance.randrange(6) * HOUR for _ in range(chance.randrange(12))]
        service.store(direction, *settled[direction])
        publish_live(
            service.database,
            direction,
            [(100 + number, TODAY + chance.randrange(6) * HOUR) for number in range(chance.randrange(12))],
        )
    for asked in (ARRIVALS, DEPARTURES, Direction.BOTH):
        begin, end = TODAY + HOUR, TODAY + 5 * HOUR
        whole = service.flights.load_page(ANN, "KJFK", asked, begin, end, None, 1000).flights
        assert [each.event_time for each in whole] == sorted(each.event_time for each in whole)
        assert all(begin <= each.event_time < end for each in whole)
        assert sum(each.provenance is Provenance.SETTLED for each in whole) == sum(
            begin <= at < end for part in asked.parts for at in settled[part]
        )
        for limit in (1, 2, 3, 7):
            pages, cursor = [], None
            while True:
                page = service.flights.load_page(ANN, "KJFK", asked, begin, end, cursor, limit)
                pages += page.flights
                cursor = page.next_cursor
                if cursor is None:
                    break
                assert len(page.flights) == limit
            assert pages == whole


@given(st.text(max_size=30) | st.binary(max_size=30).map(lambda raw: raw.decode("latin-1")))
def test_any_text_is_a_valid_cursor_or_a_bad_cursor_error(text: str) -> None:
    """Decoding an arbitrary text raises no other error than BadCursorError."""
    try:
        at, last_id = decode_cursor(text)
    except BadCursorError:
        return
    assert at.tzinfo is not None
    assert abs(last_id) < 1 << 63


@settings(max_examples=50)
@given(st.datetimes(datetime(1970, 1, 1), datetime(9999, 1, 1)), st.integers(1 - (1 << 63), (1 << 63) - 1))
def test_a_cursor_round_trips(at: datetime, row_id: int) -> None:
    """A decoded cursor is the encoded position, to the microsecond."""
    instant = at.replace(tzinfo=NOON.tzinfo)
    assert decode_cursor(encode_cursor((instant, row_id))) == (instant, row_id)


def test_the_latest_flights_are_by_event_time(client: FlaskClient, watched: Service) -> None:
    """The latest flight has the latest event time, not the latest insertion; a direction without flights is null."""
    assert json_of(client.get("/flights/KJFK/latest", headers=ANNS)) == {"arrivals": None, "departures": None}
    watched.store(DEPARTURES, TODAY - HOUR, TODAY - 3 * HOUR)
    shown = json_of(client.get("/flights/KJFK/latest", headers=ANNS))
    assert shown["arrivals"] is None
    assert shown["departures"]["event_time"] == "2013-02-12T23:00:00Z"  # type: ignore[index]
    watched.store(ARRIVALS, TODAY - 2 * HOUR, callsign="BAW1")
    assert json_of(client.get("/flights/KJFK/latest", headers=ANNS))["arrivals"]["callsign"] == "BAW1"  # type: ignore[index]


def test_an_average_is_over_covered_days_and_names_them(client: FlaskClient, service: Service) -> None:
    """A day without coverage does not count as a day without flights, and today does not count at all."""
    service.set(wish(), ANN)
    service.cover(DEPARTURES, TODAY - 3 * DAY + HOUR, TODAY + 11 * HOUR)
    service.cover(ARRIVALS, TODAY - 9 * DAY, TODAY - DAY)
    service.store(DEPARTURES, TODAY - 3 * DAY + 2 * HOUR, TODAY - 2 * DAY, TODAY - HOUR, TODAY - HOUR, TODAY + HOUR)
    service.store(ARRIVALS, TODAY - 5 * DAY, TODAY - 4 * DAY - HOUR, TODAY - 2 * DAY)
    assert json_of(client.get("/flights/KJFK/average?days=4", headers=ANNS)) == {
        "arrivals": {
            "flights_a_day": 1 / 3, "flights": 1, "days": ["2013-02-09", "2013-02-10", "2013-02-11"]
        },
        "departures": {"flights_a_day": 1.5, "flights": 3, "days": ["2013-02-11", "2013-02-12"]},
    }  # fmt: skip
    days = json_of(client.get("/flights/KJFK/average", headers=ANNS))["arrivals"]["days"]  # type: ignore[index]
    assert days == [f"2013-02-{day:02}" for day in (6, 7, 8, 9, 10, 11)], "a week unless said otherwise"
    for spelled in ("4.0", "4e0", "40e-1", "0.4e1", "004"):
        assert json_of(client.get(f"/flights/KJFK/average?days={spelled}", headers=ANNS)) == json_of(
            client.get("/flights/KJFK/average?days=4", headers=ANNS)
        )
    for wrong in ("0", "91", "x", "-1", "", "4.5", "1e400", "1e-400", "-0.0", "true"):
        assert status_of(client.get(f"/flights/KJFK/average?days={wrong}", headers=ANNS)) == 422


def test_an_average_over_no_covered_day_is_null(client: FlaskClient, service: Service) -> None:
    """The average is null, not zero, if no day is covered."""
    service.set(wish(), ANN)
    nothing = {"flights_a_day": None, "flights": 0, "days": []}
    assert json_of(client.get("/flights/KJFK/average", headers=ANNS)) == {"arrivals": nothing, "departures": nothing}
    service.cover(ARRIVALS, TODAY - 2 * DAY, TODAY)
    zero = {"flights_a_day": 0.0, "flights": 0, "days": ["2013-02-11", "2013-02-12"]}
    assert json_of(client.get("/flights/KJFK/average", headers=ANNS)) == {"arrivals": zero, "departures": nothing}


def test_airlines_are_recognised_by_callsigns(client: FlaskClient, watched: Service) -> None:
    """The airline with the most flights comes first; flights without an airline's callsign are counted apart."""
    for number, callsign in enumerate(("DLH1", "DLH22A", "BAW9", "ZZQ1", "N123AB", "", "DEABC", "dlh4", "AB1", "ÉAB1")):
        direction = ARRIVALS if number == 0 else DEPARTURES
        watched.store(direction, TODAY - number * HOUR - HOUR, callsign=callsign)
    lufthansa = {"code": "DLH", "name": "Lufthansa", "flights": 2}
    british, unknown = (
        {"code": "BAW", "name": "British Airways", "flights": 1},
        {"code": "ZZQ", "name": None, "flights": 1},
    )
    shown = json_of(client.get("/flights/KJFK/stats/airlines", headers=ANNS))
    assert shown == {"airlines": [lufthansa, british, unknown], "flights": 10, "without_operator": 6}
    shown = json_of(client.get("/flights/KJFK/stats/airlines?limit=1", headers=ANNS))
    assert shown == {"airlines": [lufthansa], "flights": 10, "without_operator": 6}
    query = "direction=departures&from=2013-02-12T21:00:00Z&to=2013-02-12T23:00:00Z"
    shown = json_of(client.get(f"/flights/KJFK/stats/airlines?{query}", headers=ANNS))
    assert shown == {"airlines": [british, lufthansa | {"flights": 1}], "flights": 2, "without_operator": 0}
    one, spelled = (client.get(f"/flights/KJFK/stats/airlines?limit={limit}", headers=ANNS) for limit in ("1", "1.0"))
    assert json_of(one) == json_of(spelled)
    for wrong in ("limit=0", "limit=101", "direction=up", "from=x"):
        assert status_of(client.get(f"/flights/KJFK/stats/airlines?{wrong}", headers=ANNS)) == 422


@pytest.mark.parametrize(
    ("callsign", "operator"),
    [("DLH4AB", "DLH"), ("RYR1", "RYR"), ("N123AB", None), ("DEABC", None), ("DLH", None), ("", None), ("baw1", None)],
)
def test_an_operator_is_three_letters_before_a_digit(callsign: str, operator: str | None) -> None:
    """A callsign that is a registration has no designator."""
    assert parse_operator(callsign) == operator


def test_the_best_known_airlines_have_names() -> None:
    """The airlines of the demo's airports have a name; an unknown designator has none."""
    for code in (
        "AAL",
        "AFR",
        "BAW",
        "DAL",
        "DLH",
        "EZY",
        "JBU",
        "KLM",
        "RYR",
        "SWA",
        "UAE",
        "UAL",
        "USA",
        "ITY",
        "VRD",
    ):
        assert find_airline_name(code)
    assert find_airline_name("ZZQ") is None


def test_coverage_is_shown_by_direction(client: FlaskClient, service: Service) -> None:
    """A direction that is not covered yet is null; one without an interest waits for nothing."""
    service.set(wish(), ANN)
    waiting = {
        "waiting_for": {
            "arrivals": None,
            "departures": "waiting for the night's record of 12 Feb; no answer yet",
        },
        "gaps": {"arrivals": None, "departures": None},
        "notice": None,
        "evidence": [],
        "live": {
            "heard": "Not heard live: opensky: no poll yet; receivers: no poll yet.",
            **{part: {"stretches": [], "agreement": [], "is_trusted": None} for part in ("arrivals", "departures")},
        },
    }
    shown = {"arrivals": None, "departures": None, **waiting}
    assert json_of(client.get("/flights/kjfk/coverage", headers=ANNS)) == shown
    service.cover(DEPARTURES, TODAY - 2 * DAY, TODAY - DAY)
    service.cover(ARRIVALS, TODAY - 2 * DAY, TODAY, airport="LICC")
    assert json_of(client.get("/flights/KJFK/coverage", headers=ANNS)) == {
        "arrivals": None,
        "departures": {"covered_from": "2013-02-11T00:00:00Z", "covered_until": "2013-02-12T00:00:00Z"},
        **waiting,
    }


def test_a_gap_that_was_live_is_said_to_be_judged(client: FlaskClient, service: Service) -> None:
    """Days that the record never gave are judged as far as they were covered live; without that they are not."""
    service.set(wish(), ANN)
    service.cover(DEPARTURES, TODAY, TODAY)
    with service.database.transaction() as session:
        session.execute(update(CoverageRow).values(gap_from=TODAY - 3 * DAY, gap_until=TODAY))

    def read_gap() -> str:
        """Return what is said of the gap."""
        gaps = json_of(client.get("/flights/KJFK/coverage", headers=ANNS))["gaps"]
        return str(gaps["departures"])  # type: ignore[index]

    cover_live(service.database, DEPARTURES, TODAY - 2 * DAY, TODAY - 2 * DAY + HOUR, published=False)
    assert "windows in this time are not judged" in read_gap()
    cover_live(service.database, DEPARTURES, TODAY - HOUR, TODAY + HOUR)
    assert "windows in this time are judged where it was covered live" in read_gap()


def test_coverage_shows_what_was_live_and_how_it_agreed(client: FlaskClient, service: Service) -> None:
    """The stretches of the last days are shown, the agreement by day and hour, and whether it is good enough."""
    service.set(wish(), ANN)
    cover_live(service.database, DEPARTURES, TODAY - 6 * DAY, TODAY - 5 * DAY)
    cover_live(service.database, DEPARTURES, TODAY + 9 * HOUR, TODAY + 10 * HOUR, published=False)
    cover_live(service.database, DEPARTURES, TODAY + 10 * HOUR, TODAY + 11 * HOUR)
    store_agreement_rows(service.database, DEPARTURES, [(4, 3, 2)])
    live = json_of(client.get("/flights/KJFK/coverage", headers=ANNS))["live"]
    assert live["arrivals"] == {"stretches": [], "agreement": [], "is_trusted": None}  # type: ignore[index]
    (day,) = live["departures"].pop("agreement")  # type: ignore[index]
    assert live["departures"] == {  # type: ignore[index]
        "stretches": [
            {"covered_from": "2013-02-13T09:00:00Z", "covered_until": "2013-02-13T10:00:00Z", "is_published": False},
            {"covered_from": "2013-02-13T10:00:00Z", "covered_until": "2013-02-13T11:00:00Z", "is_published": True},
        ],
        "is_trusted": False,
    }
    assert day.pop("hours") == [{"recorded": 4, "live": 3}, *[{"recorded": 0, "live": 0}] * 23]
    assert day == {
        "day": "2013-02-12", "recorded": 4, "live": 3, "matched": 2, "added": 2, "retracted": 1,
        "recall": 0.5, "precision": 0.667,
    }  # fmt: skip
