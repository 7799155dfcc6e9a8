"""The overview: a summary of every airport, the latest rates and alerts, and the state of each worker.

A class named `...Shown` holds the values of one thing as the pages show it; its fields are the JSON members under /api.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import zip_longest
from typing import Final

from pydantic import TypeAdapter

from domain.airports import find_airport
from domain.alerts import Bound
from domain.interests import Direction
from domain.traffic import DirectionTraffic
from domain.windows import HOUR_S, Window, instant, seconds
from streams.join_state import JoinState
from streams.pages.lights import SourcesShown
from streams.pages.wording import format_iso_minute
from streams.recent_activity import RATE_INTERVAL_S, AlertGroup, RecentActivity

SHOWN_HOURS: Final = 48
"""Number of the last covered hours whose counts are shown for an airport."""

SHOWN_SECONDS: Final = 60
"""Number of the last seconds for which the rates are shown."""

SHOWN_ALERTS: Final = 15

AIRPORTS_PER_PAGE: Final = 50


@dataclass(frozen=True, slots=True)
class DirectionShown:
    """The coverage, the last hourly counts (at most `SHOWN_HOURS`) and the lag of one direction of an airport."""

    watermark: str | None
    """End of the coverage, ISO 8601 in UTC. None: never covered."""
    hours: tuple[int, ...]
    """Number of flights in each of the last covered hours, the newest last."""
    gaps: tuple[int, ...] = ()
    """Indexes in `hours` of the hours that a gap in coverage touches: they may have had more flights."""
    lag_s: int | None = None
    """Seconds by which the watermark is behind the stack's clock. None: never covered."""
    is_live: bool = False
    """True if the newest coverage was seen live, False if it comes from the night's record, or nothing is covered."""

    @property
    def last_covered_hour_end(self) -> datetime | None:
        """The watermark, rounded down to the hour: the end of the last covered hour. None: never covered."""
        if self.watermark is None:
            return None
        return Window.ONE_HOUR.start_of(datetime.fromisoformat(self.watermark))


@dataclass(frozen=True, slots=True)
class BreachShown:
    """The number of interests in breach now that have the same direction, window length and bound."""

    direction: Direction
    window: Window
    bound: Bound
    interests: int


@dataclass(frozen=True, slots=True)
class AirportShown:
    """The summary of one airport in the overview: recent counts, interests, thresholds, and interests in breach."""

    icao: str
    name: str
    city: str
    arrivals: DirectionShown
    departures: DirectionShown
    interests: int
    thresholds: int
    """Number of different thresholds; several interests can share one."""
    breaches: tuple[BreachShown, ...]

    @property
    def in_breach(self) -> int:
        """The number of interests in breach."""
        return sum(each.interests for each in self.breaches)


@dataclass(frozen=True, slots=True)
class WorkerShown:
    """A worker of the group in the overview, and whether its airports and alerts are included."""

    name: str
    """Host and port."""
    partitions: int
    answered: bool
    """True: the overview has the worker's airports and alerts. False: the worker gave no usable answer."""
    note: str = ""
    """Reason of a missing answer, as the end of a sentence; else empty."""


@dataclass(frozen=True, slots=True)
class Overview:
    """The airports, alerts and rates of one worker, or of all workers of the group."""

    at: datetime
    """Time of the overview, by the stack's clock."""
    airports: tuple[AirportShown, ...]
    """Airports in the order of their codes."""
    alerts: tuple[AlertGroup, ...]
    """Latest alerts, the newest first."""
    flights_by_second: tuple[int, ...]
    """Number of flights folded in each of the last seconds, the newest last."""
    alerts_by_second: tuple[int, ...]
    """Number of alerts raised in each of the last seconds, the newest last."""
    workers: tuple[WorkerShown, ...]
    sources: SourcesShown | None = None
    """The lights of the sources. None in the overview of one worker alone."""

    @property
    def flights_rate(self) -> float:
        """Flights folded per second."""
        return _compute_rate(self.flights_by_second)

    @property
    def alerts_rate(self) -> float:
        """Alerts raised per second."""
        return _compute_rate(self.alerts_by_second)

    @property
    def unanswered(self) -> tuple[WorkerShown, ...]:
        """Workers whose airports and alerts are missing."""
        return tuple(worker for worker in self.workers if not worker.answered)

    @property
    def airports_in_breach(self) -> tuple[AirportShown, ...]:
        return tuple(airport for airport in self.airports if airport.breaches)

    @property
    def interests(self) -> int:
        """The number of interests at all airports."""
        return sum(airport.interests for airport in self.airports)


OVERVIEW_ADAPTER: Final = TypeAdapter(Overview)
"""JSON encoder and decoder of an overview, also used between workers; ignores members that a newer version added."""

AIRPORTS_ADAPTER: Final = TypeAdapter(tuple[AirportShown, ...])
"""JSON encoder of a list of airports."""


def _compute_rate(by_second: Sequence[int]) -> float:
    """Return the mean per second over the last `RATE_INTERVAL_S` values; missing values count as 0."""
    last = by_second[-RATE_INTERVAL_S:]
    return sum(last) / RATE_INTERVAL_S


def summarize_airport(join_state: JoinState, icao: str, now: datetime) -> AirportShown:
    """Summarize one airport: the recent counts of both directions, its interests, its thresholds and its breaches.

    Name and city are empty for an airport that is not in the list of airports.
    """
    _, traffic = join_state.read_traffic(icao)
    thresholds = join_state.find_thresholds(icao)
    listed = find_airport(icao)
    breaches = thresholds.count_in_breach(traffic)
    return AirportShown(
        icao=icao,
        name=listed.name if listed else "",
        city=listed.city if listed else "",
        arrivals=_summarize_direction(traffic.arrivals, now),
        departures=_summarize_direction(traffic.departures, now),
        interests=len(thresholds),
        thresholds=len(thresholds.list_in_force()),
        breaches=tuple(BreachShown(*key, breaches[key]) for key in sorted(breaches)),
    )


def _summarize_direction(traffic: DirectionTraffic, now: datetime) -> DirectionShown:
    """Summarize one direction: the counts of its last covered hours, the gaps in them and the lag.

    Only whole hours before the watermark are counted, at most `SHOWN_HOURS`. The lag is at least 0. Without coverage
    the summary is empty.
    """
    if traffic.watermark is None or traffic.covered_from is None:
        return DirectionShown(None, ())
    last = traffic.watermark // HOUR_S
    first = max(last - SHOWN_HOURS, traffic.covered_from // HOUR_S)
    hours = range(first, last)
    return DirectionShown(
        watermark=format_iso_minute(instant(traffic.watermark)),
        hours=tuple(traffic.counts.total(hour, 1) for hour in hours),
        gaps=tuple(hour - first for hour in hours if traffic.has_gap_in(hour * HOUR_S, (hour + 1) * HOUR_S)),
        lag_s=max(seconds(now) - traffic.watermark, 0),
        is_live=traffic.is_live,
    )


def build_overview(
    airports: Iterable[AirportShown], activity: RecentActivity, now: datetime, workers: Iterable[WorkerShown]
) -> Overview:
    """Build the overview of one worker from its airports, sorted by code, and its recent activity.

    The newest `SHOWN_ALERTS` groups of alerts and the rates of the last `SHOWN_SECONDS` seconds are included.
    """
    return Overview(
        at=now,
        airports=tuple(sorted(airports, key=lambda each: each.icao)),
        alerts=activity.list_alert_groups()[:SHOWN_ALERTS],
        flights_by_second=activity.count_flights_by_second(SHOWN_SECONDS),
        alerts_by_second=activity.count_alerts_by_second(SHOWN_SECONDS),
        workers=tuple(workers),
    )


def merge_overviews(own: Overview, others: Iterable[Overview], unanswered: Iterable[WorkerShown]) -> Overview:
    """Merge the overviews of all workers into one: airports by code, the newest `SHOWN_ALERTS` alerts, summed rates.

    `own`: this worker's, whose time is taken. `unanswered`: the workers without a usable answer; all workers are sorted
    by name. If two workers report the same airport, as around a rebalance, the first report is taken, this worker's
    before all others.
    """
    overviews = (own, *others)
    airports = {each.icao: each for part in reversed(overviews) for each in part.airports}
    alerts = sorted((each for part in overviews for each in part.alerts), key=lambda each: each.raised_at, reverse=True)
    return Overview(
        at=own.at,
        airports=tuple(airports[icao] for icao in sorted(airports)),
        alerts=tuple(alerts[:SHOWN_ALERTS]),
        flights_by_second=_sum_by_second(part.flights_by_second for part in overviews),
        alerts_by_second=_sum_by_second(part.alerts_by_second for part in overviews),
        workers=tuple(
            sorted([*(each for part in overviews for each in part.workers), *unanswered], key=lambda each: each.name)
        ),
    )


def _sum_by_second(series: Iterable[Sequence[int]]) -> tuple[int, ...]:
    """Add several series of counts by second, aligned at their newest second; a shorter one counts as 0 before it."""
    return tuple(sum(counts) for counts in zip_longest(*(reversed(one) for one in series), fillvalue=0))[::-1]
