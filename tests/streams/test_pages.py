"""The pages: escaped, readable without JavaScript, and without people."""

import asyncio
from pathlib import Path

from domain.traffic import Traffic
from streams.app import create_app
from streams.desk import Desk
from streams.pages import SHOWN_HOURS, overview, shown
from streams.settings import StreamsSettings
from streams.state import encode_airport, encode_interest
from tests.domain.logs import an_interest
from tests.domain.test_judgement import seen
from tests.streams.events import interest_message, key_of


def a_desk(airport: str, *log) -> Desk:
    traffic = Traffic()
    for each in log:
        traffic = traffic.fold(each)
    interest = an_interest(airport=airport)
    entry = encode_interest(1, interest_message(interest).SerializeToString())
    return Desk({airport.encode(): encode_airport(1, traffic)}, {key_of(interest): entry})


def test_the_last_covered_hours_are_shown_and_an_open_one_is_not() -> None:
    """Half an hour of flights beside full ones would look like a lull."""
    desk = a_desk("KJFK", seen(0, 100, (51.5, 52.5, 99.5)), seen(100, 100.5, (100.2,)))
    (airport,) = shown(desk, ["KJFK"])
    assert len(airport.departures.hours) == SHOWN_HOURS
    assert (airport.departures.hours[0], airport.departures.hours[-1]) == (1, 1)
    assert airport.departures.watermark == "2013-02-12T04:30Z"
    assert airport.arrivals.watermark is None
    assert (airport.name, airport.interests) == ("John F Kennedy International Airport", 1)


def test_an_airport_that_is_in_no_list_is_shown_by_its_code() -> None:
    """The list may be older than the airport."""
    (airport,) = shown(a_desk("ZZZZ", seen(0, 1)), ["ZZZZ"])
    assert (airport.icao, airport.name, airport.departures.hours) == ("ZZZZ", "", (0,))


def test_what_is_shown_is_escaped_and_needs_no_script() -> None:
    """Codes have the form of codes by then; the page does not rely on it."""
    hostile = "<script>alert(1)</script>"
    page = overview(shown(a_desk(hostile, seen(0, 1)), [hostile]))
    assert "<script" not in page
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in page
    assert str(an_interest().user_id) not in page


def test_without_airports_the_page_says_so() -> None:
    """An empty table could be a fault."""
    assert "No flights observed yet." in overview([])


def test_importing_and_creating_the_app_connects_to_nothing(tmp_path: Path) -> None:
    """Nothing happens before the worker runs."""
    settings = StreamsSettings(kafka_bootstrap_servers="127.0.0.1:1", web_port=1, data_dir=tmp_path)

    async def create() -> None:
        app = create_app(settings)
        assert not app.started

    asyncio.run(create())
    assert list(tmp_path.iterdir()) == []
