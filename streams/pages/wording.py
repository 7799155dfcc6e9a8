"""Numbers, durations, times and thresholds as people read them. All times are UTC."""

from datetime import UTC, datetime
from typing import Final, assert_never

from domain.alerts import AlertState, Bound
from domain.interests import Direction
from domain.windows import Window

_MINUTE_S: Final = 60
_HOUR_S: Final = 3600
_DAY_S: Final = 86400

WINDOWS: Final = {Window.ONE_HOUR: "1 hour", Window.SIX_HOURS: "6 hours", Window.ONE_DAY: "1 day"}
PER_WINDOW: Final = {Window.ONE_HOUR: "an hour", Window.SIX_HOURS: "in 6 hours", Window.ONE_DAY: "a day"}

_FLIGHTS: Final = {
    Direction.ARRIVALS: "arrivals",
    Direction.DEPARTURES: "departures",
    Direction.BOTH: "arrivals and departures",
}

_ONE_FLIGHT: Final = {
    Direction.ARRIVALS: "arrival",
    Direction.DEPARTURES: "departure",
    Direction.BOTH: "arrival or departure",
}


def number(value: int) -> str:
    return f"{value:,}"


def plural(value: int, one: str, many: str | None = None) -> str:
    """A count with its unit."""
    return f"{value:,} {one if value == 1 else many or f'{one}s'}"


def rate(per_second: float) -> str:
    """Two digits that matter, no more."""
    if per_second and per_second < 10:
        return f"{per_second:.1f}"
    return f"{per_second:,.0f}"


def duration(seconds: float) -> str:
    """The two largest units of it."""
    whole = max(int(seconds), 0)
    if whole < _MINUTE_S:
        return f"{whole} s"
    if whole < _HOUR_S:
        return f"{whole // _MINUTE_S} min"
    large, small, units = (_DAY_S, _HOUR_S, ("d", "h")) if whole >= 2 * _DAY_S else (_HOUR_S, _MINUTE_S, ("h", "min"))
    rest = whole % large // small
    return f"{whole // large} {units[0]} {rest} {units[1]}" if rest else f"{whole // large} {units[0]}"


def day(instant: datetime) -> str:
    return f"{instant:%a} {instant.day} {instant:%b}"


def moment(instant: datetime) -> str:
    """Day and time, for tables whose header says UTC."""
    return f"{day(instant)} {instant:%H:%M}"


def full_moment(instant: datetime) -> str:
    return f"{day(instant)} {instant.year}, {instant:%H:%M} UTC"


def iso_minute(instant: datetime) -> str:
    return f"{instant:%Y-%m-%dT%H:%MZ}"


def from_iso(text: str) -> datetime:
    return datetime.fromisoformat(text).astimezone(UTC)


def stretch(start: datetime, end: datetime) -> str:
    """From when to when."""
    if (end - start).total_seconds() == _DAY_S and start.hour == 0 == start.minute:
        return day(start)
    if start.date() == end.date() or (end.hour == end.minute == 0 and (end - start).total_seconds() < _DAY_S):
        return f"{day(start)} {start:%H:%M}–{end:%H:%M}"
    return f"{moment(start)} – {moment(end)}"


def window_of(start: datetime, window: Window) -> str:
    return stretch(start, start + window.length)


def flights(direction: Direction) -> str:
    return _FLIGHTS[direction]


def counted(count: int, direction: Direction) -> str:
    """So many flights, by what they are."""
    return f"{number(count)} {_ONE_FLIGHT[direction] if count == 1 else _FLIGHTS[direction]}"


def limit(bound: Bound, threshold: int | str) -> str:
    """What a threshold says: more than 20, fewer than 5."""
    match bound:
        case Bound.HIGH:
            return f"more than {threshold}"
        case Bound.LOW:
            return f"fewer than {threshold}"
        case _:
            assert_never(bound)


def run(for_windows: int) -> str:
    """How long a breach must last; nothing where one window is enough."""
    return f", {for_windows} windows in a row" if for_windows > 1 else ""


def _sign(bound: Bound, state: AlertState) -> str:
    """Return the sign of an alert: filled while FIRING, hollow while STILL, and pointing to the side of the breach."""
    match state:
        case AlertState.RESOLVED:
            return "✓"
        case AlertState.WITHDRAWN:
            return "✕"
        case AlertState.FIRING | AlertState.STILL:
            match bound:
                case Bound.HIGH:
                    return "▲" if state is AlertState.FIRING else "△"
                case Bound.LOW:
                    return "▼" if state is AlertState.FIRING else "▽"
                case _:
                    assert_never(bound)
        case _:
            assert_never(state)


SIGNS: Final = {(bound, state): _sign(bound, state) for bound in Bound for state in AlertState}
"""A form beside each colour, for those who do not tell colours apart."""
