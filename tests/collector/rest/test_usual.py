"""What is usual at an airport over HTTP: by the airport's clock, from what is stored of the weeks before."""

from datetime import timedelta
from random import Random

from flask.testing import FlaskClient

from collector.intervals import DAY, day_of
from domain.interests import Direction
from tests.collector.conftest import ANN, ANNS, NOON, Service, json_of, status_of, wish

TODAY = day_of(NOON)
HOUR = timedelta(hours=1)
DEPARTURES, ARRIVALS = Direction.DEPARTURES, Direction.ARRIVALS


def windows_of(client: FlaskClient, query: str = "") -> list[dict[str, object]]:
    """Return the windows that the answer has."""
    return json_of(client.get(f"/flights/KJFK/usual{query}", headers=ANNS))["windows"]  # type: ignore[return-value]


def test_each_window_has_its_median_and_what_it_was_computed_from(client: FlaskClient, service: Service) -> None:
    """Four weeks are known of the departures at noon, their median ends in a half; nothing else is left out."""
    service.set(wish(), ANN)
    service.cover(DEPARTURES, TODAY - 28 * DAY, TODAY)
    for week, flights in enumerate((4, 7, 6, 30), 1):
        at = TODAY - 7 * week * DAY + 12 * HOUR
        service.store(DEPARTURES, *(at + n * timedelta(seconds=60) for n in range(flights)), icao24=f"{week:06x}")
    answer = json_of(client.get("/flights/KJFK/usual?direction=departures&window=1h", headers=ANNS))
    assert (answer["time_zone"], answer["unknown"]) == ("America/New_York", None)
    windows: list[dict[str, object]] = answer["windows"]  # type: ignore[assignment]
    assert len(windows) == 168
    assert windows[12] == {
        "window_start": "2013-02-13T12:00:00Z",
        "local_start": "2013-02-13T07:00:00-05:00",
        "usual": 6.5,
        "base": [
            {"window_start": "2013-02-06T12:00:00Z", "flights": 4},
            {"window_start": "2013-01-30T12:00:00Z", "flights": 7},
            {"window_start": "2013-01-23T12:00:00Z", "flights": 6},
            {"window_start": "2013-01-16T12:00:00Z", "flights": 30},
        ],
    }
    assert windows[13]["usual"] == 0
    assert [len(windows_of(client, f"?direction=departures&window={window}")) for window in ("6h", "1d")] == [28, 7]
    assert {each["usual"] for each in windows_of(client)} == {None}, "of arrivals nothing is known"


def test_where_fewer_than_three_weeks_are_known_nothing_is_usual_and_a_sentence_says_why(
    client: FlaskClient, service: Service
) -> None:
    """Not zero: null; once three weeks are known of some of the windows, there is no such sentence."""
    service.set(wish(), ANN)
    query = "/flights/KJFK/usual?direction=departures"
    nothing = json_of(client.get(query, headers=ANNS))
    assert nothing["unknown"] == "Nothing is usual at KJFK yet: no departures there have been collected."
    service.cover(DEPARTURES, TODAY - 14 * DAY, TODAY)
    few = json_of(client.get(query, headers=ANNS))
    assert few["unknown"] == (
        "Nothing is usual at KJFK yet: its flights are known from 2013-01-30 00:00 to 2013-02-13 00:00 (UTC), and a "
        "window needs three of the five weeks before."
    )
    assert {each["usual"] for each in windows_of(client, "?direction=departures")} == {None}
    service.cover(DEPARTURES, TODAY - 21 * DAY, TODAY)
    assert json_of(client.get(query, headers=ANNS))["unknown"] is None
    both = json_of(client.get("/flights/KJFK/usual", headers=ANNS))
    assert both["unknown"] == "Nothing is usual at KJFK yet: no arrivals there have been collected."


def test_the_usual_week_has_the_airports_days_if_these_are_asked_for(client: FlaskClient, service: Service) -> None:
    """From the airport's last midnight on, with the days of the weeks before, also of 23 hours; hours have none."""
    service.clock.advance(28 * DAY)
    service.set(wish(), ANN)
    today = day_of(service.clock.now())
    service.cover(DEPARTURES, today - 60 * DAY, today)
    service.store(DEPARTURES, *(today - 40 * DAY + number * HOUR for number in range(40 * 24)))
    query = "?direction=departures&aligned_to=airport"
    days = windows_of(client, f"{query}&window=1d")
    assert len(days) == 7
    assert days[0]["local_start"] == "2013-03-13T00:00:00-04:00"
    assert days[4] == {
        "window_start": "2013-03-17T04:00:00Z",
        "local_start": "2013-03-17T00:00:00-04:00",
        "usual": 24,
        "base": [
            {"window_start": "2013-03-10T05:00:00Z", "flights": 23},
            *({"window_start": f"2013-{day}T05:00:00Z", "flights": 24} for day in ("03-03", "02-24", "02-17", "02-10")),
        ],
    }
    quarters = windows_of(client, f"{query}&window=6h")
    assert (len(quarters), {each["usual"] for each in quarters}) == (28, {6})
    hours = client.get(f"/flights/KJFK/usual{query}&window=1h", headers=ANNS)
    assert hours.status_code == 422
    assert "an hour is not aligned to the airport's clock" in hours.get_data(as_text=True)


def test_a_window_is_that_of_the_same_local_time_before_clocks_changed(client: FlaskClient, service: Service) -> None:
    """New York went ahead on 10 March 2013: 08:00 there is 12:00 UTC after it, and was 13:00 UTC before."""
    service.clock.advance(28 * DAY)
    service.set(wish(), ANN)
    today = day_of(service.clock.now())
    service.cover(DEPARTURES, today - 60 * DAY, today)
    noon = windows_of(client, "?direction=departures")[12]
    assert [each["window_start"] for each in noon["base"]] == [  # type: ignore[attr-defined]
        f"2013-{day}T13:00:00Z" for day in ("03-06", "02-27", "02-20", "02-13", "02-06")
    ]
    assert {each["usual"] for each in windows_of(client, "?direction=departures&window=1d")} == {None}


def test_both_directions_are_added_and_other_values_are_refused(client: FlaskClient, service: Service) -> None:
    """The median of the sums is not the sum of the medians."""
    service.set(wish(), ANN)
    chance, counts = Random(3), []
    for part in (DEPARTURES, ARRIVALS):
        service.cover(part, TODAY - 40 * DAY, TODAY)
        counts.append([chance.randrange(9) for _ in range(5)])
        for week, flights in enumerate(counts[-1], 1):
            at = TODAY - 7 * week * DAY + 3 * HOUR
            service.store(part, *(at + n * timedelta(seconds=60) for n in range(flights)), icao24=f"{week:06x}")
    both = windows_of(client, "?direction=both")[3]
    sums = [sum(pair) for pair in zip(*counts, strict=True)]
    assert [each["flights"] for each in both["base"]] == sums  # type: ignore[attr-defined]
    assert both["usual"] == sorted(sums)[2]
    for wrong in ("?window=2h", "?direction=up", "?window="):
        assert status_of(client.get(f"/flights/KJFK/usual{wrong}", headers=ANNS)) == 422
