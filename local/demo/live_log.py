"""What a live run has published, read from Kafka: the flights in force, the live coverage, and all alerts."""

import asyncio
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final
from uuid import UUID

from domain.alerts import Alert
from domain.interests import Direction
from domain.windows import seconds
from local.demo.topics import read_values
from notifier.messages import decode_raised_alert
from streams.replay.verify import compare
from towerwatch.flights.v1.events_pb2 import (
    COVERAGE_COMPLETE,
    DIRECTION_DEPARTURES,
    PROVENANCE_LIVE,
    Flight,
    FlightsObserved,
)
from towerwatch.topics import ALERTS_RAISED, FLIGHTS_OBSERVED

Target = tuple[str, Direction]
"""An airport's ICAO code, and arrivals or departures."""
Movement = tuple[str, int]
"""An aircraft's icao24, and the event time in Unix seconds."""


@dataclass(frozen=True, slots=True)
class LiveLog:
    """The flights and alerts on Kafka at one time."""

    flights: Mapping[Target, frozenset[Movement]]
    """The flights that were published and not retracted since."""
    retracted: int
    """The number of flights that were retracted."""
    covered_live: Mapping[Target, Sequence[tuple[int, int]]]
    """The stretches [begin, end) in Unix seconds that were covered from positions, in order, without overlaps."""
    settled_until: Mapping[Target, int]
    """Up to when the night's record has covered each airport and direction."""
    alerts: tuple[Alert, ...]
    """All alerts, each once, in the order in which they were raised."""

    def is_settled(self, targets: Iterable[Target], until: datetime) -> bool:
        """Return True if the night's record has covered all of the airports and directions up to `until`."""
        return all(self.settled_until.get(each, 0) >= seconds(until) for each in targets)

    def measure_live_share(self, targets: Collection[Target], begin: datetime, end: datetime) -> float:
        """Return which share of [begin, end) was covered from positions, from 0 to 1, in the mean of the targets."""
        first, last = seconds(begin), seconds(end)
        covered = sum(
            max(min(stop, last) - max(start, first), 0)
            for each in targets
            for start, stop in self.covered_live.get(each, ())
        )
        return covered / (len(targets) * (last - first)) if targets else 0.0


def read_live_log(bootstrap_servers: str) -> LiveLog:
    """Read the topics of flights and alerts up to their present ends. Must not be called from an event loop."""
    flights, alerts = asyncio.run(_read_topics(bootstrap_servers))
    return build_live_log(flights, alerts)


async def _read_topics(bootstrap_servers: str) -> tuple[list[bytes], list[bytes]]:
    """Read the values of both topics; the flights first, so that each alert's flights are among them or later."""
    return await read_values(bootstrap_servers, FLIGHTS_OBSERVED), await read_values(bootstrap_servers, ALERTS_RAISED)


def build_live_log(flights: Iterable[bytes], alerts: Iterable[bytes]) -> LiveLog:
    """Build the log of the values of both topics, in their order; a duplicate has the same bytes, and counts once."""
    in_force: dict[Target, set[Movement]] = {}
    stretches: dict[Target, list[tuple[int, int]]] = {}
    settled: dict[Target, int] = {}
    retracted = 0
    for value in dict.fromkeys(flights):
        batch = FlightsObserved.FromString(value)
        departs = batch.direction == DIRECTION_DEPARTURES
        target = batch.airport, Direction.DEPARTURES if departs else Direction.ARRIVALS
        known = in_force.setdefault(target, set())
        taken_back = {_get_movement(each, departs) for each in batch.retracted}
        retracted += len(taken_back & known)
        known -= taken_back
        known |= {_get_movement(each, departs) for each in batch.flights}
        if batch.coverage != COVERAGE_COMPLETE:
            continue
        begin, end = batch.begin.seconds, batch.end.seconds
        if batch.provenance == PROVENANCE_LIVE:
            stretches.setdefault(target, []).append((begin, end))
        else:
            settled[target] = max(end, settled.get(target, 0))
    raised: dict[UUID, Alert] = {}
    for value in alerts:
        alert = decode_raised_alert(value).alert
        raised.setdefault(alert.alert_id, alert)
    return LiveLog(
        flights={target: frozenset(known) for target, known in in_force.items()},
        retracted=retracted,
        covered_live={target: merge_stretches(found) for target, found in stretches.items()},
        settled_until=settled,
        alerts=tuple(raised.values()),
    )


def _get_movement(flight: Flight, departs: bool) -> Movement:
    """Return the movement of a flight in a batch: a departure was first seen then, an arrival last seen."""
    return flight.icao24, (flight.first_seen if departs else flight.last_seen).seconds


def merge_stretches(stretches: Iterable[tuple[int, int]]) -> list[tuple[int, int]]:
    """Return the stretches in order, with those that touch or overlap as one."""
    merged: list[tuple[int, int]] = []
    for begin, end in sorted(stretches):
        if merged and begin <= merged[-1][1]:
            merged[-1] = merged[-1][0], max(merged[-1][1], end)
        else:
            merged.append((begin, end))
    return merged


@dataclass(frozen=True, slots=True)
class RaisedAlerts:
    """The number of alerts that follow from the log, and of those that the stream has raised."""

    computed: int
    raised: int
    same: int

    @property
    def are_all_there(self) -> bool:
        """True if exactly the alerts were raised that follow from the log, False if some are missing, or are others."""
        return self.computed == self.raised == self.same


def count_raised_alerts(bootstrap_servers: str) -> RaisedAlerts:
    """Compute the alerts that follow from the log, as `python -m streams verify` does, and count those raised.

    Must not be called from an event loop.
    """
    found = asyncio.run(compare(bootstrap_servers))
    return RaisedAlerts(found.computed, found.raised, found.same)


NO_ALERTS: Final = RaisedAlerts(0, 0, 0)
