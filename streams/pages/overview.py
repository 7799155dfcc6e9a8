"""The overview: what is known of every airport, what goes on, and who answered."""

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
from streams.pages.wording import iso_minute
from streams.recent_activity import RATE_INTERVAL_S, AlertGroup, RecentActivity

SHOWN_HOURS: Final = 48
"""How many of the last covered hours an airport is shown with."""

SHOWN_SECONDS: Final = 60
"""How many of the last seconds the rates are shown with."""

SHOWN_ALERTS: Final = 15

AIRPORTS_A_PAGE: Final = 50


@dataclass(frozen=True, slots=True)
class FlowShown:
    """One direction of an airport."""

    watermark: str | None
    """Up to where it is covered, ISO 8601."""
    hours: tuple[int, ...]
    """Flights in each of the last covered hours, the newest last."""
    gaps: tuple[int, ...] = ()
    """Which of `hours`, by index, a gap in coverage touches: there may have been more flights."""
    lag_s: int | None = None
    """How far the watermark is behind the clock of the stack."""

    @property
    def last_hour_end(self) -> datetime | None:
        """The end of the last of `hours`."""
        if self.watermark is None:
            return None
        return Window.ONE_HOUR.start_of(datetime.fromisoformat(self.watermark))


@dataclass(frozen=True, slots=True)
class BreachShown:
    """Interests that stand in breach now, by what they count."""

    direction: Direction
    window: Window
    bound: Bound
    interests: int


@dataclass(frozen=True, slots=True)
class AirportShown:
    """One airport."""

    icao: str
    name: str
    city: str
    arrivals: FlowShown
    departures: FlowShown
    interests: int
    thresholds: int
    """Different ones; several interests may share one."""
    breaches: tuple[BreachShown, ...]

    @property
    def in_breach(self) -> int:
        """Thresholds of interests that stand in breach."""
        return sum(each.interests for each in self.breaches)


@dataclass(frozen=True, slots=True)
class WorkerShown:
    """A worker of the group, and whether what it knows is in the overview."""

    name: str
    """Host and port."""
    partitions: int
    answered: bool
    note: str = ""
    """Why not, as the end of a sentence."""


@dataclass(frozen=True, slots=True)
class Overview:
    """What one worker, or all of them, know."""

    at: datetime
    """On the clock of the stack."""
    airports: tuple[AirportShown, ...]
    """By code."""
    alerts: tuple[AlertGroup, ...]
    """The newest first."""
    flights_by_second: tuple[int, ...]
    """Folded in each of the last seconds, the newest last."""
    alerts_by_second: tuple[int, ...]
    workers: tuple[WorkerShown, ...]

    @property
    def flights_rate(self) -> float:
        """Flights folded a second."""
        return _rate(self.flights_by_second)

    @property
    def alerts_rate(self) -> float:
        """Alerts raised a second."""
        return _rate(self.alerts_by_second)

    @property
    def unanswered(self) -> tuple[WorkerShown, ...]:
        return tuple(each for each in self.workers if not each.answered)

    @property
    def airports_in_breach(self) -> tuple[AirportShown, ...]:
        return tuple(each for each in self.airports if each.breaches)

    @property
    def interests(self) -> int:
        return sum(each.interests for each in self.airports)


OVERVIEW: Final = TypeAdapter(Overview)
"""The overview as JSON, which workers also tell each other; what a newer version adds is passed over."""

AIRPORTS: Final = TypeAdapter(tuple[AirportShown, ...])


def _rate(by_second: Sequence[int]) -> float:
    last = by_second[-RATE_INTERVAL_S:]
    return sum(last) / RATE_INTERVAL_S


def airport_shown(desk: JoinState, icao: str, now: datetime) -> AirportShown:
    """What is known of one airport."""
    _, traffic = desk.read_traffic(icao)
    thresholds = desk.find_thresholds(icao)
    known = find_airport(icao)
    breaches = thresholds.count_in_breach(traffic)
    return AirportShown(
        icao=icao,
        name=known.name if known else "",
        city=known.city if known else "",
        arrivals=_flow_shown(traffic.arrivals, now),
        departures=_flow_shown(traffic.departures, now),
        interests=len(thresholds),
        thresholds=len(thresholds.list_in_force()),
        breaches=tuple(BreachShown(*key, breaches[key]) for key in sorted(breaches)),
    )


def _flow_shown(flow: DirectionTraffic, now: datetime) -> FlowShown:
    if flow.watermark is None or flow.covered_from is None:
        return FlowShown(None, ())
    last = flow.watermark // HOUR_S
    first = max(last - SHOWN_HOURS, flow.covered_from // HOUR_S)
    hours = range(first, last)
    return FlowShown(
        watermark=iso_minute(instant(flow.watermark)),
        hours=tuple(flow.counts.total(hour, 1) for hour in hours),
        gaps=tuple(hour - first for hour in hours if flow.has_gap_in(hour * HOUR_S, (hour + 1) * HOUR_S)),
        lag_s=max(seconds(now) - flow.watermark, 0),
    )


def overview_of(
    airports: Iterable[AirportShown], ticker: RecentActivity, now: datetime, workers: Iterable[WorkerShown]
) -> Overview:
    """What one worker knows."""
    return Overview(
        at=now,
        airports=tuple(sorted(airports, key=lambda each: each.icao)),
        alerts=ticker.list_alert_groups()[:SHOWN_ALERTS],
        flights_by_second=ticker.count_flights_by_second(SHOWN_SECONDS),
        alerts_by_second=ticker.count_alerts_by_second(SHOWN_SECONDS),
        workers=tuple(workers),
    )


def merged(own: Overview, others: Iterable[Overview], silent: Iterable[WorkerShown]) -> Overview:
    """What all workers know together. An airport that two tell of, as around a rebalance, is told once."""
    told = (own, *others)
    airports = {each.icao: each for part in reversed(told) for each in part.airports}
    alerts = sorted((each for part in told for each in part.alerts), key=lambda each: each.raised_at, reverse=True)
    return Overview(
        at=own.at,
        airports=tuple(airports[icao] for icao in sorted(airports)),
        alerts=tuple(alerts[:SHOWN_ALERTS]),
        flights_by_second=_sums(part.flights_by_second for part in told),
        alerts_by_second=_sums(part.alerts_by_second for part in told),
        workers=tuple(sorted([*(each for part in told for each in part.workers), *silent], key=lambda each: each.name)),
    )


def _sums(series: Iterable[Sequence[int]]) -> tuple[int, ...]:
    """Second by second, from the newest back."""
    return tuple(sum(each) for each in zip_longest(*(reversed(one) for one in series), fillvalue=0))[::-1]
