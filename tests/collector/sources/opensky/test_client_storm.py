"""Tests of the client under a storm of faults: the result has exactly the flights of a calm day."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from random import Random
from typing import Final, NamedTuple

import pytest
import stamina

from chassis.metrics import Metrics, ServiceIdentity
from collector.errors import BreakerOpenError, SourceError, SourceLimitedError
from collector.sources.flight import Flight
from collector.sources.opensky.client import OpenSkyClient
from collector.sources.opensky.connection import OpenSkyConnection, OpenSkyTimeouts
from domain.interests import Direction
from local.opensky import faults, flights as timetable
from local.opensky.access import Credentials
from local.opensky.fault_kinds import SCRIPTED_FAULTS, InjectedFault
from local.opensky.faults import FaultInjector
from tests.fakes.clock import FakeClock
from tests.fakes.opensky import TOKEN_PATH, replay

BEGIN: Final = datetime(2013, 2, 10, tzinfo=UTC)
DAY: Final = timedelta(days=1)
DAYS: Final = 4
NOW: Final = BEGIN + DAYS * DAY + DAY / 2
AIRPORTS: Final = ("KJFK", "KBOS", "LICC")
CREDENTIALS: Final = ("towerwatch", "a secret of the storm")
RATE: Final = 0.6
SHORT_TIMEOUTS: Final = OpenSkyTimeouts(total_s=0.4)
"""Short timeouts: each answer that never comes costs this real time. A later answer is requested again."""
ANSWERS: Final = 4
"""Number of answers to each call: enough requests for faults of every kind; the first two hold every flight."""
MAX_ROUNDS: Final = 200
"""Number of rounds after which a storm counts as endless; about ten suffice."""


class RequestedInterval(NamedTuple):
    """One UTC day of an airport and direction."""

    airport: str
    direction: Direction
    begin: datetime


INTERVALS: Final = [
    RequestedInterval(airport, direction, BEGIN + day * DAY)
    for day in range(DAYS)
    for airport in AIRPORTS
    for direction in (Direction.DEPARTURES, Direction.ARRIVALS)
]


def traffic() -> list[timetable.TimetableFlight]:
    """Return flights of four days between three airports, the same ones on each call.

    At LICC no flight arrives on the second day, and none departs on the third.
    """
    chance = Random(2013)
    begin = int(BEGIN.timestamp())
    made = []
    for n in range(300):
        origin, destination = chance.sample(AIRPORTS, 2)
        first_seen = begin + chance.randrange(DAYS * 86_400 - 20_000)
        last_seen = first_seen + chance.randrange(600, 20_000)
        if destination == "LICC" and (last_seen - begin) // 86_400 == 1:
            continue
        if origin == "LICC" and (first_seen - begin) // 86_400 == 2:
            continue
        made.append(timetable.TimetableFlight(first_seen, last_seen, f"{n + 1:06x}", f"TW{n}", origin, destination))
    return made


@pytest.fixture(autouse=True)
def no_retry_pauses() -> Iterator[None]:
    """Make the client retry without a pause."""
    stamina.set_testing(True, attempts=3)
    yield
    stamina.set_testing(False)


@asynccontextmanager
async def running_client(
    url: str, clock: FakeClock, credentials: tuple[str, str] | None, timeouts: OpenSkyTimeouts
) -> AsyncIterator[OpenSkyClient]:
    """Yield a client, and close it at the end."""
    metrics = Metrics(ServiceIdentity("collector", "local"))
    api = f"{url}/api"
    connection = OpenSkyConnection([api], f"{url}{TOKEN_PATH}", credentials, clock, metrics, timeouts)
    yield OpenSkyClient(api, connection, clock, metrics)
    await connection.close()


async def fetch(client: OpenSkyClient, interval: RequestedInterval) -> list[Flight]:
    """Fetch the flights of an interval."""
    return await client.fetch_flights(interval.airport, interval.direction, interval.begin, interval.begin + DAY)


async def fetch_until_answered(client: OpenSkyClient, interval: RequestedInterval, clock: FakeClock) -> list[Flight]:
    """Fetch the flights of an interval, with retries after the reported pauses, as the collector does."""
    failures = 0
    while failures < MAX_ROUNDS:
        try:
            return await fetch(client, interval)
        except (SourceLimitedError, BreakerOpenError) as error:
            clock.advance(timedelta(seconds=error.retry_after_s))
        except SourceError:
            failures += 1
        await asyncio.sleep(0)  # let the other tasks run
    raise AssertionError(f"{interval} was never answered")


@pytest.fixture(scope="module")
def calm() -> dict[RequestedInterval, set[Flight]]:
    """Return the flights of every interval from a source without faults."""

    clock = FakeClock(NOW)

    async def collected(url: str) -> dict[RequestedInterval, set[Flight]]:
        async with running_client(url, clock, None, OpenSkyTimeouts()) as client:
            return {interval: set(await fetch(client, interval)) for interval in INTERVALS}

    with replay(traffic(), clock) as url:
        found = asyncio.run(collected(url))
    assert sum(map(len, found.values())) == 2 * len(traffic())
    assert [interval for interval in INTERVALS if not found[interval]] == [
        RequestedInterval("LICC", Direction.ARRIVALS, BEGIN + DAY),
        RequestedInterval("LICC", Direction.DEPARTURES, BEGIN + 2 * DAY),
    ]
    return found


def identify(flights: set[Flight]) -> dict[tuple[str, datetime], Flight]:
    """Return the flights by what makes a flight; of two versions the one whose callsign was not dropped."""
    return {(each.icao24, each.first_seen): each for each in sorted(flights, key=lambda each: each.callsign)}


def are_held_back(storm: FaultInjector, interval: RequestedInterval, missing: set[Flight]) -> bool:
    """Return True if the replay itself has left out or spoiled all these flights, False if one was lost."""
    path = "/api/flights/" + ("departure" if interval.direction is Direction.DEPARTURES else "arrival")
    return all((path, each.icao24, int(each.first_seen.timestamp())) in storm.withheld_flights for each in missing)


@pytest.mark.parametrize("credentials", [CREDENTIALS, None], ids=["with a token", "anonymous"])
@pytest.mark.parametrize("seed", [1, 3])
def test_a_storm_ends_with_the_flights_of_a_calm_day(
    calm: dict[RequestedInterval, set[Flight]], seed: int, credentials: tuple[str, str] | None
) -> None:
    """Round after round, no answer has a flight too many, or lacks one that the replay did give.

    Flights that an answer lacks, or has without a callsign, are late or malformed at the source, and are whole in the
    next answer.
    """
    storm = faults.seeded_injector(seed, RATE)
    clock = FakeClock(NOW)
    answers: dict[RequestedInterval, list[set[Flight]]] = {interval: [] for interval in INTERVALS}

    async def one_round(client: OpenSkyClient) -> None:
        for interval, had in answers.items():
            if len(had) == ANSWERS:
                continue
            try:
                answer = set(await fetch(client, interval))
            except (SourceLimitedError, BreakerOpenError) as error:
                clock.advance(timedelta(seconds=error.retry_after_s))
            except SourceError:
                pass  # fetched again in the next round
            else:
                spoiled = answer - calm[interval]
                assert all(each.callsign == "" for each in spoiled)
                assert identify(spoiled).keys() <= identify(calm[interval]).keys()
                assert are_held_back(storm, interval, (calm[interval] - answer) | spoiled)
                had.append(answer)

    async def collect(url: str) -> None:
        async with running_client(url, clock, credentials, SHORT_TIMEOUTS) as client:
            for _ in range(MAX_ROUNDS):
                await one_round(client)

    with replay(traffic(), clock, Credentials(*CREDENTIALS), storm) as url:
        asyncio.run(collect(url))
    assert [len(had) for had in answers.values()] == [ANSWERS] * len(INTERVALS)
    assert {interval: set(identify(had[0] | had[1]).values()) for interval, had in answers.items()} == calm
    assert set(storm.fault_counts) >= set(InjectedFault) - SCRIPTED_FAULTS - {InjectedFault.FORGOTTEN}
    assert (InjectedFault.FORGOTTEN in storm.fault_counts) == (credentials is not None)


@pytest.mark.parametrize("seed", [4, 5])
def test_many_tasks_come_through_a_storm_together(calm: dict[RequestedInterval, set[Flight]], seed: int) -> None:
    """The tasks share a token, a pause and a breaker, and each gets its own flights."""

    clock = FakeClock(NOW)

    async def collected(url: str) -> dict[RequestedInterval, set[Flight]]:
        async with running_client(url, clock, CREDENTIALS, SHORT_TIMEOUTS) as client:

            async def twice(interval: RequestedInterval) -> set[Flight]:
                answers = [await fetch_until_answered(client, interval, clock) for _ in range(2)]
                return set(identify(set().union(*answers)).values())

            return dict(zip(INTERVALS, await asyncio.gather(*map(twice, INTERVALS)), strict=True))

    with replay(traffic(), clock, Credentials(*CREDENTIALS), faults.seeded_injector(seed, RATE)) as url:
        assert asyncio.run(collected(url)) == calm


def test_after_an_outage_all_flights_are_fetched(calm: dict[RequestedInterval, set[Flight]]) -> None:
    """Breaker and pauses keep most calls from the source meanwhile, and no pause is cut short."""
    clock = FakeClock(NOW)
    outage = faults.scripted_injector(
        [InjectedFault.UNAVAILABLE, InjectedFault.RESET, InjectedFault.HTML] * 10 + [InjectedFault.LIMITED, None] * 5
    )
    found: dict[RequestedInterval, set[Flight]] = {}
    rejected_by_breaker = 0

    async def one_round(client: OpenSkyClient) -> None:
        nonlocal rejected_by_breaker
        for interval in INTERVALS:
            try:
                found[interval] = set(await fetch(client, interval))
            except BreakerOpenError:
                rejected_by_breaker += 1
            except SourceError:
                pass

    async def collect(url: str) -> None:
        async with running_client(url, clock, CREDENTIALS, OpenSkyTimeouts()) as client:
            for _ in range(MAX_ROUNDS):
                clock.advance(timedelta(minutes=1))
                await one_round(client)
                if len(found) == len(INTERVALS):
                    return

    with replay(traffic(), clock, Credentials(*CREDENTIALS), outage) as url:
        asyncio.run(collect(url))
    assert found == calm
    assert sum(outage.fault_counts.values()) == 35
    assert outage.early_requests == 0
    assert rejected_by_breaker > len(INTERVALS)
