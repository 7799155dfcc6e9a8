"""A collector over some days of record, positions, corrections and changes of an interest, and what the stream makes of
the messages that it published: the truth that an answer about an interest's windows is compared with."""

import asyncio
import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Final
from uuid import UUID

from sqlalchemy import select

from chassis.db.database import Database
from collector.interest_requests import InterestRequest
from collector.intervals import DAY, day_of
from collector.model import OUTBOX, LiveCoverageRow
from collector.sources.flight import Flight
from collector.windows import InterestWindows, WindowQueries, WindowRequest
from domain.alerts import Alert
from domain.interests import Direction
from tests.collector.conftest import ANN, Service
from tests.collector.settled.live_rows import cover_live, publish_live
from tests.collector.settled.polling import TIMING, build_collector
from tests.fakes.nightly_source import NightlySource, build_flight
from tests.streams.events import Event
from tests.streams.join_state_on_dicts import JoinStateOnDicts
from towerwatch.topics import FLIGHTS_OBSERVED, INTERESTS_CHANGED

AIRPORT: Final = "KJFK"
HOUR, MINUTE = timedelta(hours=1), timedelta(minutes=1)
LAG: Final = timedelta(minutes=12)
"""Time after which positions have shown a movement."""


def tell_stream(database: Database, airport: str = AIRPORT) -> list[Alert]:
    """Return the alerts that the stream raises on all messages of the outbox, in the order of their commits."""
    bench = JoinStateOnDicts()
    alerts: list[Alert] = []
    with database.reading() as session:
        rows = session.execute(OUTBOX.rows.select().order_by(OUTBOX.rows.c.id)).all()
    for sequence, row in enumerate(rows, 1):
        topic = {each.name: each for each in (FLIGHTS_OBSERVED, INTERESTS_CHANGED)}.get(row.topic)
        if topic is not None:
            alerts += bench.fold(Event(topic, airport, row.key, row.value, sequence))
    return alerts


def ask(service: Service, interest_id: UUID, begin: datetime | None = None) -> InterestWindows:
    """Return Ann's answer about the windows of an interest from an instant on; None: the last windows."""
    queries = WindowQueries(service.database, service.clock, TIMING.corrections_after)
    return queries.find_windows(WindowRequest(ANN, interest_id, begin, None))[0]


def list_alert_ids(shown: InterestWindows) -> list[UUID]:
    """Return the ids of the alerts in an answer, by window, and within a window in the order of raising."""
    return [said.alert.alert_id for window in shown.windows for said in window.alerts]


def expect_ids(alerts: Sequence[Alert], shown: InterestWindows) -> list[UUID]:
    """Return the ids of those `alerts` that are about windows of an answer, in the order of `list_alert_ids`."""
    starts = {window.start for window in shown.windows}
    of_windows = [each for each in alerts if each.window_start in starts]
    return [each.alert_id for each in sorted(of_windows, key=lambda each: each.window_start)]


@dataclass
class Story:
    """A simulation of an airport, hour by hour: flights, live movements, and flights that the source adds late."""

    service: Service
    chance: random.Random
    rate: float = 1.0
    """Flights an hour and direction, on average."""
    is_live: bool = True
    """True: positions cover most of the time."""
    late_share: float = 0.1
    """Part of the flights that the source learns a day and a half after their day."""
    parts: tuple[Direction, ...] = Direction.BOTH.parts
    source: NightlySource = field(init=False)
    _number: int = 0

    def __post_init__(self) -> None:
        self.source = NightlySource(self.service.clock)
        self._collector = build_collector(self.service, self.source)
        self._late: list[tuple[datetime, Flight]] = []
        self._heard: list[tuple[Direction, datetime, list[tuple[int, datetime]]]] = []

    def fly_before(self, days: int) -> None:
        """Give the source the flights of this many days before now, none of them late."""
        now = self.service.clock.now()
        for hour in range(days * 24):
            begin = now - days * DAY + hour * HOUR
            for _ in range(self._draw_number()):
                self._number += 1
                at = begin + self.chance.randrange(3600) * timedelta(seconds=1)
                self.source.available.append(build_flight(at, 10, self._number))

    def run(self, hours: int, changes: Sequence[tuple[int, InterestRequest]] = ()) -> None:
        """Advance the clock by this many hours, with flights, live movements and a collection in each.

        `changes`: requests of Ann, each after a number of hours.
        """

        async def lead() -> None:
            """Collect as the leader of one term."""
            term = await self._collector.begin_term()
            for hour in range(hours):
                for after, request in changes:
                    if after == hour:
                        self.service.set(request, ANN)
                self._tell_live()
                self._fly_hour()
                begin = self.service.clock.now()
                self.service.clock.advance(HOUR)
                for due, flight in list(self._late):
                    if due <= begin:
                        self._late.remove((due, flight))
                        self.source.available.append(flight)
                await self._collector.collect(term)

        asyncio.run(lead())

    def _fly_hour(self) -> None:
        """Add the flights of the hour that begins now, and note what positions show of it."""
        begin = self.service.clock.now().replace(minute=0, second=0, microsecond=0)
        flights = self._draw_number()
        heard: dict[Direction, list[tuple[int, datetime]]] = {part: [] for part in self.parts}
        for _ in range(flights):
            self._number += 1
            flight = build_flight(begin + self.chance.randrange(3600) * timedelta(seconds=1), 10, self._number)
            if self.chance.random() < self.late_share:
                self._late.append((day_of(begin) + 2.4 * DAY, flight))
            else:
                self.source.available.append(flight)
            for part in self.parts:
                if self.chance.random() < 0.9:
                    shift = timedelta(seconds=self.chance.randrange(-400, 400))
                    heard[part].append((self._number, flight.event_time(part) + shift))
        for part in self.parts:
            if self.chance.random() < 0.2:  # what the record will not have
                self._number += 1
                heard[part].append((self._number, begin + self.chance.randrange(3600) * timedelta(seconds=1)))
            if self.is_live and self.chance.random() >= 0.1:  # else nobody listens
                within = [(number, at) for number, at in heard[part] if begin <= at < begin + HOUR]
                self._heard.append((part, begin, sorted(within, key=lambda each: each[1])))

    def _tell_live(self) -> None:
        """Publish what was heard in the hour that has ended, and extend the stretch of coverage that it goes on."""
        for part, begin, movements in self._heard:
            publish_live(self.service.database, part, movements)
            cover_live(self.service.database, part, begin, begin + HOUR)
            with self.service.database.transaction() as session:
                rows = session.scalars(select(LiveCoverageRow).where(LiveCoverageRow.direction == part.value)).all()
                by_end = {row.end_at: row for row in rows}
                if (before := by_end.get(begin)) is not None:
                    session.delete(by_end[begin + HOUR])
                    session.flush()
                    before.end_at = begin + HOUR
        self._heard.clear()

    def _draw_number(self) -> int:
        """Draw the number of flights of an hour."""
        usual = [0, 1, 1, 2] if self.chance.random() < 0.7 else range(5)
        return round(self.chance.choice(usual) * self.rate)
