"""The preview of an interest: the alerts on the stored flights, which must be those that the stream raises."""

from collections.abc import Iterable
from datetime import datetime, timedelta
from random import Random

import pytest
from flask.testing import FlaskClient
from hypothesis import HealthCheck, given, settings, strategies as st
from sqlalchemy import delete

from collector.interest_requests import InterestRequest
from collector.intervals import DAY, FARTHEST_BACK, day_of
from collector.messages import encode_flights_observed, encode_interest_set
from collector.model import CoverageRow, FlightRow
from collector.sources.flight import Flight
from domain.alerts import Alert
from domain.interests import Direction, Interest
from domain.windows import Window
from tests.collector.conftest import ANN, ANNS, BOBS, NOON, Service, json_of, outbox, status_of, wish
from tests.streams.events import Event
from tests.streams.join_state_on_dicts import JoinStateOnDicts
from towerwatch.topics import COLLECTIONS_REQUESTED, FLIGHTS_OBSERVED, INTERESTS_CHANGED

DEPARTURES = Direction.DEPARTURES
TODAY = day_of(NOON)
HOUR = timedelta(hours=1)
WISH = {"airport_icao": "KJFK", "direction": "departures", "window": "1h", "high_value": 2}


def test_a_preview_lists_the_alerts_and_the_counts(client: FlaskClient, service: Service) -> None:
    """The preview has the alerts, the mails per week, and the percentiles of the counts."""
    service.cover(DEPARTURES, TODAY, TODAY + 10 * HOUR)
    service.store(
        DEPARTURES, *(TODAY + hour * HOUR for hour in (1, 1.1, 1.2, 2, 2.1, 5, 5.2, 5.4, 5.6, 9, 10, 10.5, 11))
    )
    shown = json_of(client.post("/interests/preview", json=WISH, headers=ANNS))
    levels = {"high_value", "low_value", "high_percent", "low_percent"}
    assert set(shown.pop("suggestions")) == levels | {"missing"}  # type: ignore[call-overload]
    assert shown == {
        "covered": {
            "arrivals": None,
            "departures": {"covered_from": "2013-02-13T00:00:00Z", "covered_until": "2013-02-13T10:00:00Z"},
        },
        "windows": 10,
        "counts": {"p50": 0, "p75": 2, "p90": 3, "p95": 4, "p99": 4, "max": 4},
        "mails_a_week": 67.2,
        "alerts": [
            {"window_start": f"2013-02-13T{hour:02}:00:00Z", "bound": "high", "state": state, "count": count,
             "threshold": 2}
            for hour, state, count in ((1, "FIRING", 3), (2, "RESOLVED", 2), (5, "FIRING", 4), (6, "RESOLVED", 0))
        ],
        "notice": None,
        "unknown": None,
    }  # fmt: skip


def test_a_preview_stores_and_requests_nothing(client: FlaskClient, service: Service) -> None:
    """A preview needs no interest in the airport, and neither stores one nor requests a collection."""
    assert client.post("/interests/preview", json=WISH, headers=BOBS).status_code == 200
    assert json_of(client.get("/interests", headers=BOBS)) == {"interests": []}
    for topic in (INTERESTS_CHANGED, COLLECTIONS_REQUESTED):
        assert outbox(service.database, topic.name) == []


@pytest.mark.parametrize("direction", ["departures", "both"])
def test_windows_without_coverage_are_not_judged(client: FlaskClient, service: Service, direction: str) -> None:
    """Unknown windows do not count as zero; an interest in both directions needs coverage of both."""
    if direction == "both":
        service.cover(DEPARTURES, TODAY, TODAY + 10 * HOUR)
    body = WISH | {"direction": direction, "low_value": 1}
    shown = json_of(client.post("/interests/preview", json=body, headers=ANNS))
    assert (shown["windows"], shown["counts"], shown["mails_a_week"], shown["alerts"]) == (0, None, None, [])


@pytest.mark.parametrize(
    ("wished", "covered", "text"),
    [
        ({"direction": "departures"}, (), "Nothing is known of KJFK yet: no departures there have been collected"),
        ({"direction": "arrivals"}, (DEPARTURES,), "Nothing is known of KJFK yet: no arrivals there have been"),
        ({"direction": "both"}, (), "Nothing is known of KJFK yet: no flights there have been collected"),
        ({"direction": "both"}, (DEPARTURES,), "Nothing is known of KJFK yet: no arrivals there have been"),
        ({"window": "1d"}, (DEPARTURES,), "Nothing is known of KJFK yet for this interest: no whole window of 1d from"),
        ({"effective_from": "2013-03-01T00:00:00Z"}, (DEPARTURES,), "Nothing is known of KJFK yet for this interest"),
        ({"window": "6h"}, (DEPARTURES,), None),
    ],
)
def test_a_preview_without_data_says_so(
    client: FlaskClient, service: Service, wished: dict[str, str], covered: tuple[Direction, ...], text: str | None
) -> None:
    """Nothing known is not "no alerts": a member says in words that nothing is known; it is null where windows are."""
    for part in covered:
        service.cover(part, TODAY, TODAY + 10 * HOUR)
    shown = json_of(client.post("/interests/preview", json=WISH | wished, headers=ANNS))
    assert (shown["windows"] == 0) is (text is not None)
    assert shown["unknown"] is None if text is None else str(shown["unknown"]).startswith(text)


def test_a_preview_judges_the_days_that_levels_are_suggested_from(client: FlaskClient, service: Service) -> None:
    """The default is the last 35 days; with effective_from, the windows from that instant on are judged."""
    service.cover(DEPARTURES, TODAY - 37 * DAY, TODAY)
    service.store(DEPARTURES, *(TODAY - back * DAY for back in (36, 35, 31, 30, 29, 2, 1)))
    body = WISH | {"window": "1d", "high_value": 0}
    shown = json_of(client.post("/interests/preview", json=body, headers=ANNS))
    assert shown["windows"] == 35
    assert shown["alerts"][0]["window_start"] == "2013-01-09T00:00:00Z"  # type: ignore[index]
    shown = json_of(
        client.post("/interests/preview", json=body | {"effective_from": "2013-02-11T00:00:00Z"}, headers=ANNS)
    )
    assert shown["windows"] == 2
    assert [alert["window_start"] for alert in shown["alerts"]] == ["2013-02-11T00:00:00Z"]  # type: ignore[attr-defined]
    future = body | {"effective_from": "2013-03-01T00:00:00Z"}
    assert json_of(client.post("/interests/preview", json=future, headers=ANNS))["windows"] == 0
    long_ago = body | {"effective_from": "2012-03-01T00:00:00Z"}
    assert status_of(client.post("/interests/preview", json=long_ago, headers=ANNS)) == 422


@pytest.mark.parametrize("repeat", [False, True])
@pytest.mark.parametrize("window", ["1h", "6h", "1d"])
def test_a_suggested_level_has_as_many_mails_as_was_said_of_it(
    client: FlaskClient, service: Service, window: str, repeat: bool
) -> None:
    """Whoever takes a suggestion sees as many mails in the preview as stood beside it: both are of the same days."""
    random = Random(7)
    service.cover(DEPARTURES, TODAY - 40 * DAY, TODAY)
    hours = [TODAY - back * HOUR for back in range(1, 40 * 24)]
    times = [hour + n * timedelta(seconds=60) for hour in hours for n in range(random.choice((3, 5, 6, 6, 7, 12)))]
    service.store(DEPARTURES, *times)
    body = WISH | {"window": window, "repeat": repeat}
    suggestions = json_of(client.post("/interests/preview", json=body, headers=ANNS))["suggestions"]
    tried = 0
    for member in ("high_value", "low_value", "high_percent", "low_percent"):
        for suggestion in suggestions[member].values():  # type: ignore[index]
            if suggestion["level"] is None:
                continue
            wanted = {key: value for key, value in body.items() if key != "high_value"} | {member: suggestion["level"]}
            shown = json_of(client.post("/interests/preview", json=wanted, headers=ANNS))
            assert len(shown["alerts"]) == suggestion["mails"], (member, suggestion)  # type: ignore[arg-type]
            tried += 1
    assert tried >= 2


def test_a_preview_lists_all_windows_for_a_chart_if_it_is_asked_to(client: FlaskClient, service: Service) -> None:
    """35 days of windows that have ended, in order: with the flights that are known, or null, and what is usual."""
    service.cover(DEPARTURES, TODAY - 29 * DAY, TODAY + 10 * HOUR)
    service.store(
        DEPARTURES,
        *(TODAY - back * DAY + minute * HOUR / 60 for back in (28, 21, 14, 7, 0) for minute in range(back // 7 + 5)),
    )
    plain = json_of(client.post("/interests/preview", json=WISH, headers=ANNS))
    assert "history" not in plain
    body = WISH | {"effective_from": "2013-02-12T00:00:00Z"}
    shown = json_of(client.post("/interests/preview?history=true", json=body, headers=ANNS))
    history = shown["history"]
    assert [each["window_start"] for each in history] == [  # type: ignore[attr-defined]
        f"{TODAY - 35 * DAY + at * HOUR:%Y-%m-%dT%H:%M:%SZ}" for at in range(35 * 24 + 12)
    ]
    by_start = {each["window_start"]: each for each in history}  # type: ignore[attr-defined]
    assert by_start["2013-01-14T23:00:00Z"]["flights"] is None, "before the coverage"
    assert by_start["2013-01-16T00:00:00Z"] == {
        "window_start": "2013-01-16T00:00:00Z", "window_end": "2013-01-16T01:00:00Z", "flights": 9, "usual": None,
    }  # fmt: skip
    assert by_start["2013-02-13T00:00:00Z"] == {
        "window_start": "2013-02-13T00:00:00Z", "window_end": "2013-02-13T01:00:00Z", "flights": 5, "usual": 7.5,
    }  # fmt: skip
    assert by_start["2013-02-13T10:00:00Z"]["flights"] is None, "not collected yet"
    unknown = WISH | {"airport_icao": "EDDF", "window": "1d", "aligned_to": "airport"}
    days = json_of(client.post("/interests/preview?history=true", json=unknown, headers=BOBS))["history"]
    assert [(each["flights"], each["usual"]) for each in days] == [(None, None)] * 34  # type: ignore[attr-defined]
    assert days[0]["window_start"] == "2013-01-09T23:00:00Z"  # type: ignore[index]
    for wrong in ("history=2", "history="):
        assert status_of(client.post(f"/interests/preview?{wrong}", json=WISH, headers=ANNS)) == 422


def test_a_preview_counts_the_days_of_the_airports_clock(client: FlaskClient, service: Service) -> None:
    """At Kathmandu a day begins at 18:15 UTC: a flight of 18:14 is of the day before one of 18:15."""
    service.cover(DEPARTURES, TODAY - 3 * DAY, TODAY, airport="VNKT")
    midnight = TODAY - 2 * DAY + 18.25 * HOUR
    minute = HOUR / 60
    service.store(DEPARTURES, *(midnight + at * minute for at in (-2, -1, -1 / 60, 0, 14)), airport="VNKT")
    body = WISH | {"airport_icao": "VNKT", "window": "1d", "aligned_to": "airport"}
    shown = client.post("/interests/preview", json=body, headers=ANNS).json
    assert shown is not None
    assert (shown["windows"], shown["counts"]["max"], shown["counts"]["p50"]) == (2, 3, 2)
    assert [(alert["state"], alert["window_start"], alert["count"]) for alert in shown["alerts"]] == [
        ("FIRING", "2013-02-10T18:15:00Z", 3),
        ("RESOLVED", "2013-02-11T18:15:00Z", 2),
    ]


def test_a_preview_judges_the_airports_days_by_what_is_usual_in_them(client: FlaskClient, service: Service) -> None:
    """At Kathmandu a flight of 18:14 UTC is of the day before: the ten of each day are told apart, and levels found."""
    service.cover(DEPARTURES, TODAY - 70 * DAY, TODAY, airport="VNKT")
    midnights = [TODAY - back * DAY + 18.25 * HOUR for back in range(2, 71)]
    minute = HOUR / 60
    for number, midnight in enumerate(midnights):
        flights = 4 if number == 0 else 10
        times = [midnight + at * minute for at in range(flights)]
        service.store(DEPARTURES, *times, airport="VNKT", icao24=f"{number:06x}")
    body = WISH | {"airport_icao": "VNKT", "window": "1d", "aligned_to": "airport", "high_value": None}
    shown = client.post("/interests/preview", json=body | {"low_percent": 50}, headers=ANNS).json
    assert shown is not None
    assert [(each["state"], each["window_start"], each["count"], each["threshold"]) for each in shown["alerts"]] == [
        ("FIRING", "2013-02-11T18:15:00Z", 4, 5)
    ]
    found = shown["suggestions"]["low_percent"]["month"]
    assert (found["level"], found["mails"]) == (41, 1)
    told = [each["why"] for each in shown["suggestions"]["missing"]]
    assert len(told) == len(set(told)) > 1, "each reason once"
    assert {level for each in shown["suggestions"]["missing"] for level in each["levels"]} == {
        f"{name}.{often}"
        for name, levels in shown["suggestions"].items()
        if name != "missing"
        for often, each in levels.items()
        if each["level"] is None
    }


@pytest.mark.parametrize("for_windows", [1, 2])
def test_a_preview_after_a_gap_agrees_with_the_stream(service: Service, for_windows: int) -> None:
    """The database's coverage begins after the gap; flights stored before the gap count in no window after it."""
    resumed = TODAY - 2 * DAY

    def busy(day: datetime) -> list[Flight]:
        times = [int((day + number * HOUR / 4).timestamp()) for number in range(20)]
        return [
            Flight.model_validate({"icao24": f"{number:06x}", "firstSeen": at, "lastSeen": at + 60})
            for number, at in enumerate(times)
        ]

    collected = [(DEPARTURES, day, day + DAY, busy(day)) for day in (TODAY - 9 * DAY, resumed, resumed + DAY)]
    service.cover(DEPARTURES, resumed, TODAY)
    for _, day, _, flights in collected:
        service.store(DEPARTURES, *(flight.event_time(DEPARTURES) for flight in flights), icao24=f"{day.day:06x}")
    wished = wish(high=3, low=1, for_windows=for_windows, effective_from=TODAY - 10 * DAY)
    shown = service.flights.preview_interest(wished).preview
    said = alerts_of_the_stream(build_interest(wished), collected)
    assert brief(shown.alerts) == brief(alert for alert in said if alert.window_start >= resumed) != set()


def test_a_preview_by_percents_knows_the_weeks_before(client: FlaskClient, service: Service) -> None:
    """The stored flights of five weeks before `effective_from` are the base of what is usual."""
    service.cover(DEPARTURES, TODAY - 60 * DAY, TODAY)
    hours = [TODAY - back * DAY + 18 * HOUR for back in range(60, 0, -1)]
    service.store(DEPARTURES, *(hour + n * timedelta(minutes=1) for hour in hours[:-1] for n in range(10)))
    service.store(DEPARTURES, *(hours[-1] + n * timedelta(minutes=1) for n in range(4)), icao24="fedcba")
    body = WISH | {"high_value": None, "low_percent": 50}
    shown = json_of(client.post("/interests/preview", json=body, headers=ANNS))
    assert [(each["state"], each["window_start"], each["count"], each["threshold"]) for each in shown["alerts"]] == [  # type: ignore[attr-defined]
        ("FIRING", "2013-02-12T18:00:00Z", 4, 5)
    ]


def test_a_preview_suggests_levels_of_the_last_35_days(client: FlaskClient, service: Service) -> None:
    """Whatever thresholds are asked for: each level brings as many mails as the suggestion says, if it is previewed.

    Busy evenings each Sunday, and one that was busier: the first are a mail a week, the last a mail a month.
    """
    service.cover(DEPARTURES, TODAY - 80 * DAY, TODAY)
    for back in range(80, 0, -1):
        day = TODAY - back * DAY
        flights = 16 if back == 17 else 10 if day.weekday() == 6 else 6
        times = [day + 18 * HOUR + n * timedelta(minutes=1) for n in range(flights)]
        service.store(DEPARTURES, *times, icao24=f"{back:06x}")
    body = WISH | {"high_value": 1_000}
    suggestions = json_of(client.post("/interests/preview", json=body, headers=ANNS))["suggestions"]
    assert suggestions["high_value"]["month"] == {"level": 15, "mails": 2, "why_none": None}  # type: ignore[index]
    assert suggestions["high_value"]["week"] == {"level": 9, "mails": 10, "why_none": None}  # type: ignore[index]
    assert suggestions["high_percent"]["month"] == {"level": 159, "mails": 2, "why_none": None}  # type: ignore[index]
    recent = {"effective_from": "2013-01-15T00:00:00Z", "high_value": 15}
    assert len(json_of(client.post("/interests/preview", json=WISH | recent, headers=ANNS))["alerts"]) == 2  # type: ignore[arg-type]


# The law, for any history.


def alerts_of_the_stream(
    interest: Interest, collected: list[tuple[Direction, datetime, datetime, list[Flight]]]
) -> set[Alert]:
    """Return the alerts that the stream raises on these collections' messages and then the interest's message."""
    bench = JoinStateOnDicts()
    messages = (message for each in collected for message in encode_flights_observed("KJFK", *each))
    for sequence, message in enumerate(messages, start=1):
        bench.fold(Event(FLIGHTS_OBSERVED, "KJFK", message.key, message.value, sequence))
    message = encode_interest_set(interest)
    return set(bench.fold(Event(INTERESTS_CHANGED, "KJFK", message.key, message.value, 1)))


def build_interest(wished: InterestRequest) -> Interest:
    """Build the interest that a preview judges."""
    return Interest(
        interest_id=ANN,
        user_id=ANN,
        airport=wished.airport,
        direction=wished.direction,
        window=wished.window,
        high=wished.high,
        low=wished.low,
        for_windows=wished.for_windows,
        repeat=wished.repeat,
        effective_from=wished.effective_from or day_of(NOON - FARTHEST_BACK),
        version=1,
    )


def brief(alerts: Iterable[Alert]) -> set[tuple[object, ...]]:
    """Return the alerts without their ids."""
    return {(alert.window_start, alert.bound, alert.state, alert.count, alert.threshold) for alert in alerts}


@st.composite
def collections(draw: st.DrawFn) -> list[tuple[Direction, datetime, datetime, list[Flight]]]:
    """A strategy for a collector's collections: each direction in order and without gaps, some flights late."""
    collected = []
    for direction in Direction.BOTH.parts:
        begin = at = TODAY - draw(st.integers(0, 40)) * 6 * HOUR
        for number in range(draw(st.integers(0, 5))):
            end = at + draw(st.integers(1, 96)) * timedelta(minutes=30)
            seconds = st.integers(0, int((end - at).total_seconds()) - 1)
            times = [at + timedelta(seconds=each) for each in draw(st.lists(seconds, max_size=12))]
            if number and draw(st.booleans()):
                times.append(begin + timedelta(seconds=draw(st.integers(0, int((at - begin).total_seconds()) - 1))))
            flights = [
                Flight.model_validate(
                    {
                        "icao24": f"{len(collected):02x}{index:04x}",
                        "firstSeen": int((each - DIRECTION_LAG[direction]).timestamp()),
                        "lastSeen": int((each - DIRECTION_LAG[direction] + HOUR).timestamp()),
                    }
                )
                for index, each in enumerate(times)
            ]
            collected.append((direction, at, end, flights))
            at = end
    return collected


DIRECTION_LAG = {Direction.DEPARTURES: timedelta(0), Direction.ARRIVALS: HOUR}


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    collected=collections(),
    direction=st.sampled_from(Direction),
    window=st.sampled_from(Window),
    high=st.integers(0, 6),
    has_low=st.booleans(),
    for_windows=st.integers(1, 3),
    repeat=st.booleans(),
    effective_from=st.none() | st.integers(-480, 48).map(lambda half_hours: NOON + half_hours * HOUR / 2),
)
def test_a_preview_agrees_with_the_stream(
    service: Service,
    collected: list[tuple[Direction, datetime, datetime, list[Flight]]],
    direction: Direction,
    window: Window,
    high: int,
    has_low: bool,
    for_windows: int,
    repeat: bool,
    effective_from: datetime | None,
) -> None:
    """The same flights, in the database and on the topic, give the same alerts for the same request."""
    with service.database.transaction() as session:
        for table in (FlightRow, CoverageRow):
            session.execute(delete(table))
    for part in Direction.BOTH.parts:
        mine = [each for each in collected if each[0] is part]
        if mine:
            service.cover(part, mine[0][1], mine[-1][2])
            for number, (_, _, _, flights) in enumerate(mine):
                for flight in flights:
                    service.store(part, flight.event_time(part), icao24=f"{number:02x}{flight.icao24[2:]}")
    wished = wish(
        direction=direction,
        window=window,
        high=high,
        low=high - 1 if has_low and high > 1 else None,
        for_windows=for_windows,
        repeat=repeat,
        effective_from=effective_from,
    )
    shown = service.flights.preview_interest(wished).preview
    assert brief(shown.alerts) == brief(alerts_of_the_stream(build_interest(wished), collected))
    assert len(brief(shown.alerts)) == len(shown.alerts)
