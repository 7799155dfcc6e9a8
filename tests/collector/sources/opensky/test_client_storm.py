"""The client in a storm: the replay with every fault that it knows, and in the end exactly what a calm day gives."""

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
from collector.sources.opensky.client import Flight, OpenSkyClient, Timeouts
from domain.interests import Direction
from local.opensky import faults, flights as timetable
from local.opensky.access import Credentials
from local.opensky.faults import FaultInjector, InjectedFault
from tests.fakes.clock import FakeClock
from tests.fakes.opensky import TOKEN_PATH, replay

BEGIN: Final = datetime(2013, 2, 10, tzinfo=UTC)
DAY: Final = timedelta(days=1)
DAYS: Final = 4
NOW: Final = BEGIN + DAYS * DAY + DAY / 2
AIRPORTS: Final = ("KJFK", "KBOS", "LICC")
CREDENTIALS: Final = ("towerwatch", "a secret of the storm")
RATE: Final = 0.6
IMPATIENT: Final = Timeouts(total_s=0.4)
"""Some bodies never come: that costs so much real time, each time. (An answer that is later is asked for again.)"""
MANY: Final = 200
"""Rounds after which a storm counts as endless: some ten suffice."""


class Interval(NamedTuple):
    airport: str
    direction: Direction
    begin: datetime


INTERVALS: Final = [
    Interval(airport, direction, BEGIN + day * DAY)
    for day in range(DAYS)
    for airport in AIRPORTS
    for direction in (Direction.DEPARTURES, Direction.ARRIVALS)
]


def traffic() -> list[timetable.TimetableFlight]:
    """Some days at three airports; at Catania nothing arrives on the second, and nothing departs on the third."""
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
        made.append(timetable.TimetableFlight(first_seen, last_seen, f"{n:06x}", f"TW{n}", origin, destination))
    return made


@pytest.fixture(autouse=True)
def without_pauses() -> Iterator[None]:
    """Between attempts nobody waits."""
    stamina.set_testing(True, attempts=3)
    yield
    stamina.set_testing(False)


@asynccontextmanager
async def asking(
    url: str, clock: FakeClock, credentials: tuple[str, str] | None, timeouts: Timeouts
) -> AsyncIterator[OpenSkyClient]:
    metrics = Metrics(ServiceIdentity("collector", "local"))
    client = OpenSkyClient(f"{url}/api", f"{url}{TOKEN_PATH}", credentials, clock, metrics, timeouts)
    yield client
    await client.close()


async def ask(client: OpenSkyClient, interval: Interval) -> list[Flight]:
    return await client.flights(interval.airport, interval.direction, interval.begin, interval.begin + DAY)


async def ask_until_answered(client: OpenSkyClient, interval: Interval, clock: FakeClock) -> list[Flight]:
    """As the collector does: later again, and no sooner than told."""
    failures = 0
    while failures < MANY:
        try:
            return await ask(client, interval)
        except (SourceLimitedError, BreakerOpenError) as error:
            clock.advance(timedelta(seconds=error.retry_after_s))
        except SourceError:
            failures += 1
        await asyncio.sleep(0)  # the others' turn
    raise AssertionError(f"{interval} was never answered")


@pytest.fixture(scope="module")
def calm() -> dict[Interval, set[Flight]]:
    """What a source without faults gives."""

    clock = FakeClock(NOW)

    async def collected(url: str) -> dict[Interval, set[Flight]]:
        async with asking(url, clock, None, Timeouts()) as client:
            return {interval: set(await ask(client, interval)) for interval in INTERVALS}

    with replay(traffic(), clock) as url:
        found = asyncio.run(collected(url))
    assert sum(map(len, found.values())) == 2 * len(traffic())
    assert [interval for interval in INTERVALS if not found[interval]] == [
        Interval("LICC", Direction.ARRIVALS, BEGIN + DAY),
        Interval("LICC", Direction.DEPARTURES, BEGIN + 2 * DAY),
    ]
    return found


def held_back(storm: FaultInjector, interval: Interval, missing: set[Flight]) -> bool:
    """Whether the replay itself has left these flights out of an answer, or spoiled them."""
    path = "/api/flights/" + ("departure" if interval.direction is Direction.DEPARTURES else "arrival")
    return all((path, each.icao24, int(each.first_seen.timestamp())) in storm.withheld_flights for each in missing)


@pytest.mark.parametrize("credentials", [CREDENTIALS, None], ids=["with a token", "anonymous"])
@pytest.mark.parametrize("seed", [1, 6])
def test_a_storm_ends_with_the_flights_of_a_calm_day(
    calm: dict[Interval, set[Flight]], seed: int, credentials: tuple[str, str] | None
) -> None:
    """Round after round over all intervals: no answer holds a flight too many, or lacks one that was given.

    What an answer lacks is late or malformed at the source; it is there the next time.
    """
    storm = faults.seeded_injector(seed, RATE)
    clock = FakeClock(NOW)
    answers: dict[Interval, list[set[Flight]]] = {interval: [] for interval in INTERVALS}

    async def one_round(client: OpenSkyClient) -> None:
        for interval, had in answers.items():
            if len(had) == 2:
                continue
            try:
                answer = set(await ask(client, interval))
            except (SourceLimitedError, BreakerOpenError) as error:
                clock.advance(timedelta(seconds=error.retry_after_s))
            except SourceError:
                pass  # its turn comes again
            else:
                assert answer <= calm[interval]
                assert held_back(storm, interval, calm[interval] - answer)
                had.append(answer)

    async def collect(url: str) -> None:
        async with asking(url, clock, credentials, IMPATIENT) as client:
            for _ in range(MANY):
                await one_round(client)

    with replay(traffic(), clock, Credentials(*CREDENTIALS), storm) as url:
        asyncio.run(collect(url))
    assert [len(had) for had in answers.values()] == [2] * len(INTERVALS)
    assert {interval: had[0] | had[1] for interval, had in answers.items()} == calm
    assert set(storm.fault_counts) >= set(InjectedFault) - {InjectedFault.FORGOTTEN}
    assert (InjectedFault.FORGOTTEN in storm.fault_counts) == (credentials is not None)


@pytest.mark.parametrize("seed", [4, 5])
def test_many_tasks_come_through_a_storm_together(calm: dict[Interval, set[Flight]], seed: int) -> None:
    """They share a token, a pause and a breaker, and each gets its own flights."""

    clock = FakeClock(NOW)

    async def collected(url: str) -> dict[Interval, set[Flight]]:
        async with asking(url, clock, CREDENTIALS, IMPATIENT) as client:

            async def twice(interval: Interval) -> set[Flight]:
                answers = [await ask_until_answered(client, interval, clock) for _ in range(2)]
                return set().union(*answers)

            return dict(zip(INTERVALS, await asyncio.gather(*map(twice, INTERVALS)), strict=True))

    with replay(traffic(), clock, Credentials(*CREDENTIALS), faults.seeded_injector(seed, RATE)) as url:
        assert asyncio.run(collected(url)) == calm


def test_an_outage_is_waited_for_and_nothing_is_lost(calm: dict[Interval, set[Flight]]) -> None:
    """Breaker and pauses leave the source alone meanwhile: few of many questions go out, and no pause is cut short."""
    clock = FakeClock(NOW)
    outage = faults.scripted_injector(
        [InjectedFault.UNAVAILABLE, InjectedFault.RESET, InjectedFault.HTML] * 10 + [InjectedFault.LIMITED, None] * 5
    )
    found: dict[Interval, set[Flight]] = {}
    left_alone = 0

    async def one_round(client: OpenSkyClient) -> None:
        nonlocal left_alone
        for interval in INTERVALS:
            try:
                found[interval] = set(await ask(client, interval))
            except BreakerOpenError:
                left_alone += 1
            except SourceError:
                pass

    async def collect(url: str) -> None:
        async with asking(url, clock, CREDENTIALS, Timeouts()) as client:
            for _ in range(MANY):
                clock.advance(timedelta(minutes=1))
                await one_round(client)
                if len(found) == len(INTERVALS):
                    return

    with replay(traffic(), clock, Credentials(*CREDENTIALS), outage) as url:
        asyncio.run(collect(url))
    assert found == calm
    assert sum(outage.fault_counts.values()) == 35
    assert outage.early_requests == 0
    assert left_alone > len(INTERVALS)
