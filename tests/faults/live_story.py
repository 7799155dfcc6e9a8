"""A day as live collection, the night's record and the rule tell it, in simulated time.

The replay's sky is asked over HTTP, leaders follow each other on a real database, in the night after the record of the
day settles it, and the domain's rule folds what was published. Nothing waits for real time.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import product
from pathlib import Path
from random import Random
from typing import Final
from uuid import UUID

from chassis.db.database import Database
from collector.collection_requests import CollectionRequests
from collector.interests import InterestStore
from collector.model import SCHEMA
from collector.settled.collection import FlightCollector
from collector.sources.flight import Flight
from domain.alerts import Alert, AlertState, Bound
from domain.interest_alerts import compute_alerts
from domain.interests import Direction, Interest
from domain.traffic import Traffic
from domain.windows import Window, seconds
from local.demo.expected import ExpectedCoverage
from local.demo.judgement import (
    compare_flights,
    compare_statements,
    find_statements_in_force,
    is_contradicted,
    move_flights,
    select_timetable,
)
from local.demo.live_log import LiveLog, Target, build_live_log
from local.opensky.access import AccessControl
from local.opensky.flights import Timetable
from local.opensky.nightly_record import NIGHTLY
from local.opensky.server import make_app, make_sky
from local.opensky.sky.settings import SkySettings
from local.opensky.state_faults import StateFaultPlan
from local.opensky.state_requests import StateRequests
from streams.messages import decode_flights
from tests.collector.conftest import Service, outbox, prove_past_days, wish
from tests.collector.live.live_world import LiveWorld
from tests.collector.settled.polling import build_collector, poll
from tests.fakes.clock import FakeClock
from tests.fakes.faulty_database import DatabaseFault
from tests.local.opensky.conftest import CREDENTIALS, serve_app
from towerwatch.topics import FLIGHTS_OBSERVED

DAY, HOUR = timedelta(days=1), timedelta(hours=1)
FIRST_DAY: Final = datetime(2013, 2, 13, tzinfo=UTC)
BEGIN: Final = FIRST_DAY + 4 * HOUR
"""Here the interests are set, and the first leader begins: before the quiet hours of the night."""
MIDNIGHT: Final = FIRST_DAY + DAY
"""The end of the day, up to which all is judged."""
SETTLED_AT: Final = 8 * HOUR
"""Time of a day at which the record of the day before is collected."""
TARGETS: Final[tuple[Target, ...]] = (("KJFK", Direction.DEPARTURES), ("KBOS", Direction.ARRIVALS))
_ANN: Final = UUID(int=1)


class RecordSource:
    """The night's record of a timetable, as a source of flights."""

    remaining_credits: int | None = None
    clock_error: timedelta | None = None

    def __init__(self, timetable: Timetable) -> None:
        self._timetable = timetable

    async def fetch_flights(self, airport: str, direction: Direction, begin: datetime, end: datetime) -> list[Flight]:
        """Return the flights of an airport and direction in [begin, end)."""
        find = self._timetable.find_departures if direction is Direction.DEPARTURES else self._timetable.find_arrivals
        return [
            Flight.model_validate({"icao24": each.icao24, "firstSeen": each.first_seen, "lastSeen": each.last_seen})
            for each in find(airport, seconds(begin), seconds(end) - 1)
        ]


def list_interests() -> list[Interest]:
    """Return interests with levels that quiet and busy hours of both airports cross; they are in no database."""
    levels = ((1, 20), (3, 25), (9, 30))
    return [
        Interest(UUID(int=number), _ANN, *target, Window.ONE_HOUR, high, low, 1, False, FIRST_DAY, 1)
        for number, (target, (low, high)) in enumerate(product(TARGETS, levels))
    ]


@dataclass(frozen=True, slots=True)
class LiveStory:
    """What was published of the day, and what the rule said of it."""

    timetable: Timetable
    log: LiveLog
    alerts: dict[Interest, list[Alert]]
    """By interest, in the order in which they were raised."""
    before_record: dict[Interest, int]
    """How many alerts of each interest were raised before the day's record was published."""

    def list_faults(self) -> list[str]:
        """Return what is wrong, in sentences; nothing is if the list is empty."""
        coverage = {target: ExpectedCoverage(FIRST_DAY) for target in TARGETS}
        flights = compare_flights(self.timetable, self.log.flights, coverage, MIDNIGHT)
        faults = [f"not in force: {each}" for each in flights.missing]
        faults += [f"not in the record: {each}" for each in flights.extra]
        told = move_flights(self.timetable, flights.told_at, FIRST_DAY - DAY, MIDNIGHT + DAY)
        for interest, alerts in self.alerts.items():
            in_force = find_statements_in_force(alerts)
            found = compare_statements(
                told, interest, in_force, coverage[interest.airport, interest.direction], MIDNIGHT
            )
            faults += [f"missing, of {interest.low}/{interest.high}: {each}" for each in found.missing]
            faults += [f"wrong, of {interest.low}/{interest.high}: {each}" for each in found.wrong]
            faults += [f"contradicted: {each}" for each in alerts if is_contradicted(self.timetable, interest, each)]
        return faults

    def count_live(self, bound: Bound) -> int:
        """Return how many breaches of a kind of threshold were said before the day's record was there."""
        return sum(
            each.bound is bound and each.state is AlertState.FIRING
            for interest, alerts in self.alerts.items()
            for each in alerts[: self.before_record[interest]]
        )


def tell_story(folder: Path, all_flights: Timetable, faults: StateFaultPlan, seed: int) -> LiveStory:
    """Live through the day, with the faults of the source, and with leaders that are killed.

    The record of the day before comes in the morning, that of the day in the morning after; an answer that is doubted
    is asked for again some hours later. `folder`: an empty one, for the database; `seed`: of sky and kills.
    """
    timetable = select_timetable(all_flights, TARGETS, FIRST_DAY - 2 * DAY, MIDNIGHT + DAY)
    database = Database(f"sqlite:///{folder / 'collector.db'}")
    SCHEMA.create_all(database.engine)
    clock = FakeClock(BEGIN)
    service = Service(InterestStore(database, clock), CollectionRequests(database), database, clock)
    for airport, direction in TARGETS:
        service.set(wish(airport, direction, effective_from=FIRST_DAY), _ANN)
    states = StateRequests(make_sky(timetable, NIGHTLY, SkySettings(seed=seed)), faults=faults)
    app = make_app(timetable, clock, AccessControl(CREDENTIALS, 1_000_000), states=states)
    chance = Random(seed)
    with serve_app(app) as url:
        world = LiveWorld(url, clock, database)
        collector = build_collector(service, RecordSource(timetable))
        _lead(world, FIRST_DAY + SETTLED_AT, chance)
        _settle(service, collector, FIRST_DAY + SETTLED_AT)
        _lead(world, MIDNIGHT + HOUR, chance)
        published = len(outbox(database, FLIGHTS_OBSERVED.name))
        for hours in (0, 7):
            _settle(service, collector, MIDNIGHT + SETTLED_AT + hours * HOUR)
    values = [message.value or b"" for message in outbox(database, FLIGHTS_OBSERVED.name)]
    database.close()
    alerts: dict[Interest, list[Alert]] = {interest: [] for interest in list_interests()}
    before_record: dict[Interest, int] = {}
    traffic = {airport: Traffic() for airport, _ in TARGETS}
    for number, value in enumerate(values):
        if number == published:
            before_record = {interest: len(found) for interest, found in alerts.items()}
        observed = decode_flights(value)
        before = traffic[observed.airport]
        after = traffic[observed.airport] = before.fold(observed.observation)
        for interest, found in alerts.items():
            if interest.airport == observed.airport:
                found += compute_alerts(interest, before, after)
    return LiveStory(timetable, build_live_log(values, ()), alerts, before_record)


def _settle(service: Service, collector: FlightCollector, at: datetime) -> None:
    """Collect at a time, or now if that is later, the records of all days that are proven then."""
    service.clock.advance(max(at - service.clock.now(), timedelta(0)))
    prove_past_days(service.database, service.clock.now())
    poll(collector)


def _lead(world: LiveWorld, until: datetime, chance: Random) -> None:
    """Let leaders collect live until a time; each is killed, and the next begins some seconds or minutes later."""
    while world.clock.now() < until:
        stop = min(until, world.clock.now() + timedelta(minutes=chance.uniform(60, 600)))
        world.lead(stop, _wait_for_kill(chance))
        world.clock.advance(timedelta(seconds=chance.choice((1, 30, 90, 150, 1_200))))


def _wait_for_kill(chance: Random) -> Iterator[DatabaseFault | None]:
    """Yield no fault for some transactions, and then the kill of the process, before or after its effect."""
    yield from (None for _ in range(chance.randrange(100, 1_500)))
    yield chance.choice((DatabaseFault.KILLED_BEFORE, DatabaseFault.KILLED_AFTER))
