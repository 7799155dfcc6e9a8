"""The texts of the pages for numbers, durations, times, flights and thresholds. All times are UTC."""

from datetime import UTC, date, datetime
from typing import Final, assert_never

from domain.alerts import AlertState, Bound
from domain.interests import Direction
from domain.reasons import format_number
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


def format_rate(per_second: float) -> str:
    """Return a rate per second: with one decimal below 10, else as a whole number with commas; 0 as `0`."""
    if per_second and per_second < 10:
        return f"{per_second:.1f}"
    return f"{per_second:,.0f}"


def format_duration(seconds: float) -> str:
    """Return a duration (seconds) in its two largest units, rounded down, as `2 h 20 min`; a negative one as `0 s`.

    One unit alone below an hour, and if the second is 0. Hours are the largest unit below two days.
    """
    whole = max(int(seconds), 0)
    if whole < _MINUTE_S:
        return f"{whole} s"
    if whole < _HOUR_S:
        return f"{whole // _MINUTE_S} min"
    large, small, units = (_DAY_S, _HOUR_S, ("d", "h")) if whole >= 2 * _DAY_S else (_HOUR_S, _MINUTE_S, ("h", "min"))
    remainder = whole % large // small
    return f"{whole // large} {units[0]} {remainder} {units[1]}" if remainder else f"{whole // large} {units[0]}"


def format_day(instant: date) -> str:
    """Return weekday, day and month, as `Fri 8 Feb`."""
    return f"{instant:%a} {instant.day} {instant:%b}"


def format_day_and_time(instant: datetime) -> str:
    """Return day and time without year and time zone, as `Fri 8 Feb 13:30`."""
    return f"{format_day(instant)} {instant:%H:%M}"


def format_full_time(instant: datetime) -> str:
    """Return day, year, time and time zone, as `Fri 8 Feb 2013, 13:30 UTC`."""
    return f"{format_day(instant)} {instant.year}, {instant:%H:%M} UTC"


def format_iso_minute(instant: datetime) -> str:
    """Return a UTC time to the minute in ISO 8601, as `2013-02-08T13:30Z`."""
    return f"{instant:%Y-%m-%dT%H:%MZ}"


def parse_iso(text: str) -> datetime:
    """Parse a time in ISO 8601 and return it in UTC."""
    return datetime.fromisoformat(text).astimezone(UTC)


def format_interval(start: datetime, end: datetime) -> str:
    """Return an interval of time in words, without year.

    A whole day from midnight is its date alone. An interval within one day, which may end at the next midnight, has its
    date once, as `Fri 8 Feb 13:00–14:00`; any other interval has both dates.
    """
    if (end - start).total_seconds() == _DAY_S and start.hour == 0 == start.minute:
        return format_day(start)
    if start.date() == end.date() or (end.hour == end.minute == 0 and (end - start).total_seconds() < _DAY_S):
        return f"{format_day(start)} {start:%H:%M}–{end:%H:%M}"
    return f"{format_day_and_time(start)} – {format_day_and_time(end)}"


def format_window(start: datetime, window: Window) -> str:
    """Return the interval of the window that starts at `start`."""
    return format_interval(start, start + window.length)


def name_flights(direction: Direction) -> str:
    """Return the plural noun for the flights of a direction, as `arrivals`."""
    return _FLIGHTS[direction]


def format_flight_count(count: int, direction: Direction) -> str:
    """Return a count with the noun for the flights of a direction, as `3 departures`."""
    return f"{format_number(count)} {_ONE_FLIGHT[direction] if count == 1 else _FLIGHTS[direction]}"


def describe_run(for_windows: int) -> str:
    """Return the number of windows in a row that an alert requires, after a comma; empty if one window is enough."""
    return f", {for_windows} windows in a row" if for_windows > 1 else ""


def _choose_symbol(bound: Bound, state: AlertState) -> str:
    """Return the symbol of an alert: a triangle for FIRING (filled) and STILL (hollow), a check mark or a cross else.

    The triangle points up for a high threshold and down for a low one; RESOLVED and WITHDRAWN are the same for both.
    """
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


ALERT_SYMBOLS: Final = {(bound, state): _choose_symbol(bound, state) for bound in Bound for state in AlertState}
"""Symbols of alerts, by bound and state: they differ in form, not only in colour, for people who are colour-blind."""
