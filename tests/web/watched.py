"""What the tests of the pages about airports share: flights in the collector's tables, and interests over REST."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from chassis.db.database import Database
from collector.model import CoverageRow, FlightRow
from domain.interests import Direction
from tests import plain_http
from tests.web.site import Person, Site

HOUR: Final = timedelta(hours=1)
DAY: Final = timedelta(days=1)


def find_today() -> datetime:
    """Return the present day's midnight (UTC): stored flights end there."""
    return datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0)


def count_like_a_day(hour: datetime) -> int:
    """Return a number of flights as a large airport may have it: none at night, more at noon, each Friday a rush."""
    if hour.hour < 5:
        return 0
    rush = 20 if hour.weekday() == 4 and hour.hour == 17 else 0
    return 6 + (hour.hour * 7 + hour.day * 5) % 9 + rush


def store_flights(
    site: Site,
    airport: str,
    direction: Direction = Direction.DEPARTURES,
    days: int = 38,
    count: Callable[[datetime], int] = count_like_a_day,
) -> None:
    """Store flights of the last days, up to the midnight before now, all covered; nothing if another module has."""
    today = find_today()
    database = Database(site.collector_database_url)
    try:
        with database.transaction() as session:
            if session.get(CoverageRow, (airport, direction.value)) is not None:
                return
            begin = today - days * DAY
            session.add(
                CoverageRow(airport=airport, direction=direction.value, covered_from=begin, covered_until=today)
            )
            for at in range(days * 24):
                hour = begin + at * HOUR
                session.add_all(
                    FlightRow(
                        airport=airport,
                        direction=direction.value,
                        icao24=f"{number:06x}",
                        callsign="DLH4AB",
                        other_airport="EDDF",
                        first_seen=hour + number * timedelta(minutes=1),
                        last_seen=hour + number * timedelta(minutes=1) + 2 * HOUR,
                        event_time=hour + number * timedelta(minutes=1),
                    )
                    for number in range(count(hour))
                )
    finally:
        database.close()


def set_interest(site: Site, person: Person, **members: Any) -> dict[str, Any]:
    """Set an interest over REST, by default departures of KJFK above 20 an hour, and return it."""
    body = {"airport_icao": "KJFK", "direction": "departures", "window": "1h", "high_value": 20, **members}
    body = {name: value for name, value in body.items() if value is not None}
    answer = plain_http.post(f"{site.url}/interests", json=body, headers=person.headers)
    assert answer.status_code in (200, 201), answer.text
    return dict(answer.json())


def list_interests(site: Site, person: Person) -> list[dict[str, Any]]:
    """Return the interests of a person as REST lists them."""
    return list(plain_http.get(f"{site.url}/interests", headers=person.headers).json()["interests"])
