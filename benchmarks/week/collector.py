"""`python -m benchmarks.week.collector`: live collection and the night's record on a clock that passes in steps.

The collector's own parts: its feeds, store, clients, flights' collector, retention and relay, on a real database and a
real broker. Only the waiting is missing: once all feeds wait, the clock steps on to the first of them. It prints a line
of JSON each six simulated hours.
"""

import argparse
import asyncio
import heapq
import itertools
import json
import resource
import sys
import time
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final
from uuid import UUID

import structlog
from sqlalchemy import func, select

from benchmarks.week.processes import read_memory_mb
from benchmarks.week.source import CREDITS_PER_DAY, SharedTime
from chassis.db.database import Database
from chassis.db.outbox_relay import OutboxRelay
from chassis.metrics import Metrics, ServiceIdentity
from collector.interest_requests import InterestRequest
from collector.interests import InterestStore
from collector.leadership.terms import begin_term
from collector.live.agreement import load_distrusted
from collector.live.collection import LiveCollector
from collector.live.live_store import LiveStore
from collector.live.metrics import LiveMetrics
from collector.live.opensky_feeds import OpenSkyFeed, OwnReceiversFeed
from collector.model import OUTBOX, SCHEMA, LiveMovementRow
from collector.retention import FlightRetention
from collector.settled.collection import FlightCollector
from collector.settled.evidence import RecordTiming
from collector.settled.quota import Bucket, QuotaStore
from collector.settled.schedule import CollectionTiming
from collector.sources.opensky.client import OpenSkyClient
from collector.sources.opensky.connection import OpenSkyConnection
from collector.sources.opensky.states_client import OpenSkyStatesClient
from collector.sources.position_metrics import PositionMetrics
from domain.interests import Direction
from domain.windows import Window
from tests.fakes.clock import FakeClock

BEGIN: Final = datetime(2026, 3, 2, tzinfo=UTC)
REPORT_EVERY: Final = timedelta(hours=6)
UNDECIDED: Final = timedelta(minutes=15)
"""Movements of the last minutes are not counted: some of them are not revealed yet."""
_HOUR: Final = timedelta(hours=1)
_SWEEP_EVERY: Final = timedelta(minutes=10)
_LEVELS: Final = ((0.6, 1.4), (0.8, 1.2))
"""Thresholds of the interests, as shares of the airport's movements an hour."""
_TIMING: Final = CollectionTiming(RecordTiming(_HOUR, 3 * _HOUR), _HOUR, timedelta(days=2))
_MEASURED_S: Final = 10.0
_PLENTY: Final = 1_000_000_000


class SteppedClock(FakeClock):
    """A clock that passes only when it is advanced, and shows other processes its time."""

    def __init__(self, start: datetime, shared: SharedTime) -> None:
        super().__init__(start)
        self._shared = shared
        shared.set(start.timestamp())

    def advance(self, duration: timedelta) -> None:
        """Let time pass."""
        super().advance(duration)
        self._shared.set(self.now().timestamp())


class _Steps:
    """Replaces the feeds' sleep: advances the clock once all feeds wait, and runs periodic tasks between the steps."""

    def __init__(self, clock: SteppedClock, sleepers: int, until: datetime) -> None:
        """`sleepers`: the number of feeds, which all must wait before time passes."""
        self._clock, self._sleepers, self._until = clock, sleepers, until
        self._waiting: list[tuple[timedelta, int, asyncio.Future[None]]] = []
        self._numbers = itertools.count()
        self._periodic_tasks: list[tuple[datetime, timedelta, Callable[[], Awaitable[None]]]] = []
        self.is_over = asyncio.Event()

    def add_periodic_task(self, every: timedelta, work: Callable[[], Awaitable[None]]) -> None:
        """Run `work` once every so often by the clock, between two steps."""
        self._periodic_tasks.append((self._clock.now() + every, every, work))

    async def sleep(self, seconds: float) -> None:
        """Wait until so many seconds of the clock have passed; for ever once `until` is reached.

        The last feed that begins to wait advances the clock to the earliest end of a wait, and runs the due tasks.
        """
        turn = asyncio.get_running_loop().create_future()
        heapq.heappush(self._waiting, (self._clock.elapsed() + timedelta(seconds=seconds), next(self._numbers), turn))
        if len(self._waiting) == self._sleepers:
            due, _, following = heapq.heappop(self._waiting)
            self._clock.advance(due - self._clock.elapsed())
            await self._run_due_tasks()
            if self._clock.now() >= self._until:
                self.is_over.set()
            else:
                following.set_result(None)
        await turn

    async def _run_due_tasks(self) -> None:
        """Run the periodic tasks that are due, and note when each is due next."""
        for number, (due, every, work) in enumerate(self._periodic_tasks):
            if due <= self._clock.now():
                self._periodic_tasks[number] = due + every, every, work
                await work()


class _Week:
    """The collector of the benchmark, and its report."""

    def __init__(self, options: argparse.Namespace) -> None:
        self._options = options
        self._database = Database(options.database_url)
        self._clock = SteppedClock(BEGIN, SharedTime(options.time_file))
        self._metrics = Metrics(ServiceIdentity("collector", "local"))
        self._settled_cpu_s = 0.0
        self._at_rest = 0.0
        self._began = self._began_at = 0.0

    async def run(self) -> None:
        """Collect until the time is over, and until all is published."""
        SCHEMA.create_all(self._database.engine)
        self._set_interests()
        relay = OutboxRelay(self._database, OUTBOX, self._options.kafka, self._metrics)
        publishing = asyncio.create_task(relay.run())
        await self._wait_until_published()
        url = self._options.source
        connection = OpenSkyConnection([f"{url}/api"], f"{url}/token", ("id", "secret"), self._clock, self._metrics)
        client = OpenSkyClient(f"{url}/api", connection, self._clock, self._metrics)
        settled = FlightCollector(self._database, client, self._clock, _TIMING, QuotaStore(_PLENTY), self._metrics)
        feeds = self._build_feeds(f"{url}/api", connection)
        steps = _Steps(self._clock, len(feeds), BEGIN + timedelta(hours=self._options.hours))
        live = LiveCollector(
            self._database, self._clock, feeds, LiveStore(self._database, self._clock, load_distrusted),
            LiveMetrics(self._metrics, self._clock), sleep=steps.sleep,
        )  # fmt: skip
        term = await asyncio.to_thread(begin_term, self._database)
        retention = FlightRetention(self._database, self._clock, timedelta(days=45))

        async def collect_record() -> None:
            """Poll for the record, as each hour, and count what that costs."""
            begun = time.process_time()
            await settled.collect(term)
            self._settled_cpu_s += time.process_time() - begun

        async def sweep() -> None:
            """Delete what has expired."""
            await asyncio.to_thread(retention.delete_expired)

        async def report() -> None:
            """Print how far it is."""
            await asyncio.to_thread(self._report)

        steps.add_periodic_task(_HOUR, collect_record)
        steps.add_periodic_task(_SWEEP_EVERY, sweep)
        steps.add_periodic_task(REPORT_EVERY, report)
        self._at_rest = await _measure_rest()
        self._began, self._began_at = _read_cpu_s(), time.monotonic()
        working = asyncio.create_task(live.collect_live(term))
        over = asyncio.create_task(steps.is_over.wait())
        await asyncio.wait({working, over, publishing}, return_when=asyncio.FIRST_COMPLETED)
        if not over.done():
            await asyncio.gather(*(each for each in (working, publishing) if each.done()))
        working.cancel()
        await asyncio.gather(working, return_exceptions=True)
        await self._wait_until_published()
        self._report(is_last=True)
        publishing.cancel()
        await asyncio.gather(publishing, return_exceptions=True)
        await connection.close()
        self._database.close()

    def _build_feeds(self, url: str, connection: OpenSkyConnection) -> list[OpenSkyFeed | OwnReceiversFeed]:
        """Return the feeds of an account, as the service's wiring builds them."""
        shared = PositionMetrics(self._metrics)
        client = OpenSkyStatesClient(url, connection, self._clock, self._metrics, shared)
        own = OpenSkyStatesClient(url, connection, self._clock, self._metrics, shared, name="opensky-own")
        quota = QuotaStore(CREDITS_PER_DAY, Bucket.STATES)
        return [
            OpenSkyFeed(client, self._database, self._clock, quota, CREDITS_PER_DAY),
            OwnReceiversFeed(own, self._clock),
        ]

    def _set_interests(self) -> None:
        """Set interests in the watched airports: hours that are busier or quieter than most."""
        store = InterestStore(self._database, self._clock)
        for number, line in enumerate(self._options.airports.read_text().splitlines()):
            airport, departures, arrivals = line.split()
            hourly = {Direction.DEPARTURES: float(departures), Direction.ARRIVALS: float(arrivals)}
            for direction, mean in hourly.items():
                for kind, (low, high) in enumerate(_LEVELS):
                    most = max(round(mean * high), 1)
                    least = min(round(mean * low), most - 1) or None
                    wish = InterestRequest(airport, direction, Window.ONE_HOUR, most, least, 1, False, BEGIN)
                    store.set(UUID(int=len(_LEVELS) * number + kind + 1), wish)

    async def _wait_until_published(self) -> None:
        """Wait until the outbox is empty."""
        while await asyncio.to_thread(self._count_backlog):
            await asyncio.sleep(0.1)

    def _count_backlog(self) -> int:
        """Return the number of events that wait to be published."""
        with self._database.reading() as session:
            return int(session.execute(select(func.count()).select_from(OUTBOX.rows)).scalar_one())

    def _report(self, is_last: bool = False) -> None:
        """Print a line: simulated seconds, processor time, memory, movements; at the end the sizes of the tables."""
        with self._database.reading() as session:
            until = self._clock.now() - UNDECIDED
            query = select(func.count()).select_from(LiveMovementRow).where(LiveMovementRow.event_time < until)
            found = session.execute(query).scalar_one()
            sizes = {}
            if is_last:
                for name, table in sorted(SCHEMA.tables.items()):
                    sizes[name] = int(session.execute(select(func.count()).select_from(table)).scalar_one())
        line = {
            "simulated_s": (self._clock.now() - BEGIN).total_seconds(),
            "cpu_s": _read_cpu_s() - self._began,
            "settled_cpu_s": self._settled_cpu_s,
            "rest_cpu_s": self._at_rest * (time.monotonic() - self._began_at),
            "at_rest": self._at_rest,
            "memory_mb": read_memory_mb("self"),
            "live_movements": found,
            "backlog": self._count_backlog(),
            "sizes": {name: size for name, size in sizes.items() if size},
        }
        print(json.dumps(line), flush=True)


async def _measure_rest() -> float:
    """Return the share of a core that the relay takes while nothing is to be published."""
    begun = _read_cpu_s()
    await asyncio.sleep(_MEASURED_S)
    return (_read_cpu_s() - begun) / _MEASURED_S


def _read_cpu_s() -> float:
    """Return the processor time of this process, in all of its threads."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def parse_options(arguments: list[str]) -> argparse.Namespace:
    """Parse the command line of this process."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.week.collector", description=__doc__)
    parser.add_argument("--database-url", required=True)
    parser.add_argument("--kafka", required=True)
    parser.add_argument("--source", required=True, help="URL of benchmarks.week.source")
    parser.add_argument("--time-file", type=Path, required=True)
    parser.add_argument("--airports", type=Path, required=True, help="a line each: code, departures, arrivals an hour")
    parser.add_argument("--hours", type=float, required=True)
    return parser.parse_args(arguments)


if __name__ == "__main__":
    structlog.configure(logger_factory=structlog.PrintLoggerFactory(sys.stderr))  # standard output is for the report
    asyncio.run(_Week(parse_options(sys.argv[1:])).run())
