"""The preview of an interest: what it would have said of what is stored, which is what the stream says of it."""

from collections.abc import Iterable
from datetime import datetime, timedelta

import pytest
from flask.testing import FlaskClient
from hypothesis import HealthCheck, given, settings, strategies as st
from sqlalchemy import delete

from collector.interests import Wish
from collector.intervals import DAY, FARTHEST_BACK, day_of
from collector.messages import flights_observed, interest_set
from collector.model import CoverageRow, FlightRow
from collector.sources.opensky.client import Flight
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


def test_a_preview_says_which_mails_would_have_been_sent(client: FlaskClient, service: Service) -> None:
    """With how many that is a week, and what the counts are, so that one can choose."""
    service.cover(DEPARTURES, TODAY, TODAY + 10 * HOUR)
    service.store(
        DEPARTURES, *(TODAY + hour * HOUR for hour in (1, 1.1, 1.2, 2, 2.1, 5, 5.2, 5.4, 5.6, 9, 10, 10.5, 11))
    )
    assert json_of(client.post("/interests/preview", json=WISH, headers=ANNS)) == {
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
    }  # fmt: skip


def test_a_preview_sets_and_asks_for_nothing(client: FlaskClient, service: Service) -> None:
    """Nor does it need an interest: it is how one finds out whether to have one."""
    assert client.post("/interests/preview", json=WISH, headers=BOBS).status_code == 200
    assert json_of(client.get("/interests", headers=BOBS)) == {"interests": []}
    for topic in (INTERESTS_CHANGED, COLLECTIONS_REQUESTED):
        assert outbox(service.database, topic.name) == []


@pytest.mark.parametrize("direction", ["departures", "both"])
def test_of_what_is_not_covered_nothing_is_said(client: FlaskClient, service: Service, direction: str) -> None:
    """Neither zero nor a guess; of both directions both must be covered."""
    if direction == "both":
        service.cover(DEPARTURES, TODAY, TODAY + 10 * HOUR)
    body = WISH | {"direction": direction, "low_value": 1}
    shown = json_of(client.post("/interests/preview", json=body, headers=ANNS))
    assert (shown["windows"], shown["counts"], shown["mails_a_week"], shown["alerts"]) == (0, None, None, [])


def test_a_preview_goes_back_as_far_as_an_interest_may(client: FlaskClient, service: Service) -> None:
    """Where an instant is named, from there on."""
    service.cover(DEPARTURES, TODAY - 35 * DAY, TODAY)
    service.store(DEPARTURES, *(TODAY - back * DAY for back in (35, 31, 30, 29, 2, 1)))
    body = WISH | {"window": "1d", "high_value": 0}
    shown = json_of(client.post("/interests/preview", json=body, headers=ANNS))
    assert shown["windows"] == FARTHEST_BACK.days
    shown = json_of(
        client.post("/interests/preview", json=body | {"effective_from": "2013-02-11T00:00:00Z"}, headers=ANNS)
    )
    assert shown["windows"] == 2
    assert [alert["window_start"] for alert in shown["alerts"]] == ["2013-02-11T00:00:00Z"]  # type: ignore[attr-defined]
    future = body | {"effective_from": "2013-03-01T00:00:00Z"}
    assert json_of(client.post("/interests/preview", json=future, headers=ANNS))["windows"] == 0
    long_ago = body | {"effective_from": "2012-03-01T00:00:00Z"}
    assert status_of(client.post("/interests/preview", json=long_ago, headers=ANNS)) == 422


def test_after_a_gap_it_is_what_the_stream_says_from_there_on(service: Service) -> None:
    """The database knows the stretch since the gap, the stream what lies before it too."""
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
    wished = wish(high=3, low=1, for_windows=2, effective_from=TODAY - 10 * DAY)
    shown, _ = service.flights.preview(wished)
    said = said_by_the_stream(interest_of(wished), collected)
    assert brief(shown.alerts) == brief(alert for alert in said if alert.window_start >= resumed) != set()


# The law, for any history.


def said_by_the_stream(
    interest: Interest, collected: list[tuple[Direction, datetime, datetime, list[Flight]]]
) -> set[Alert]:
    """What the desk says when it has read the messages of these collections, and then the one of the interest."""
    bench = JoinStateOnDicts()
    messages = (message for each in collected for message in flights_observed("KJFK", *each))
    for sequence, message in enumerate(messages, start=1):
        bench.fold(Event(FLIGHTS_OBSERVED, "KJFK", message.key, message.value, sequence))
    message = interest_set(interest)
    return set(bench.fold(Event(INTERESTS_CHANGED, "KJFK", message.key, message.value, 1)))


def interest_of(wished: Wish) -> Interest:
    """The interest that a preview is of."""
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
    """All but the ids."""
    return {(alert.window_start, alert.bound, alert.state, alert.count, alert.threshold) for alert in alerts}


@st.composite
def collections(draw: st.DrawFn) -> list[tuple[Direction, datetime, datetime, list[Flight]]]:
    """What a collector may have stored and told: each direction in order, without a hole; some flights late."""
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
def test_a_preview_is_what_the_stream_says_when_the_interest_is_set(
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
    """The same flights in the database and on the topic, and the same wish: the same alerts."""
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
        low=high - 1 if has_low and high else None,
        for_windows=for_windows,
        repeat=repeat,
        effective_from=effective_from,
    )
    shown, _ = service.flights.preview(wished)
    assert brief(shown.alerts) == brief(said_by_the_stream(interest_of(wished), collected))
    assert len(brief(shown.alerts)) == len(shown.alerts)
