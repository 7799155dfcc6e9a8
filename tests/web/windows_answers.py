"""Answers of `GET /interests/{id}/windows` in states that would take days to come about, for the tests of the pages.

The shape is that of `collector.rest.window_answers`; a test holds each of them against it.
"""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, Final

HOUR: Final = timedelta(hours=1)
INTEREST_ID: Final = "11111111-1111-4111-8111-111111111111"


def show(moment: datetime) -> str:
    """Return an instant as the service writes it."""
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def find_hour() -> datetime:
    """Return the begin of the present hour."""
    return datetime.now(UTC).replace(minute=0, second=0, microsecond=0)


def build_interest(**members: Any) -> dict[str, Any]:
    """Return an interest as REST shows it: departures of KJFK above 20 an hour."""
    return {
        "interest_id": INTEREST_ID, "airport_icao": "KJFK", "direction": "departures", "window": "1h",
        "aligned_to": "utc", "high_value": 20, "low_value": None, "high_percent": None, "low_percent": None,
        "for_windows": 1, "repeat": False, "effective_from": "2026-01-01T00:00:00Z", "version": 3,
        "learning_until": None, "learning": None, **members,
    }  # fmt: skip


def build_window(start: datetime, **members: Any) -> dict[str, Any]:
    """Return a window of an hour with 12 flights, closed and judged, of which nothing was said."""
    return {
        "window_start": show(start), "window_end": show(start + HOUR), "local_start": start.isoformat(), "flights": 12,
        "is_closed": True, "is_live": False, "why_unknown": None, "version": 3, "usual": None, "base": [],
        "breached": [], "alerts": [], "text": "", **members,
    }  # fmt: skip


def build_alert(number: int, state: str, **members: Any) -> dict[str, Any]:
    """Return an alert of a window; its id follows from the number."""
    return {
        "alert_id": f"22222222-2222-4222-8222-{number:012}", "bound": "high", "state": state, "flights": 31,
        "version": 3, "withdrawn_state": None, "corrects_alert_id": None, **members,
    }  # fmt: skip


def build_answer(interest: Mapping[str, Any] | None = None, **members: Any) -> dict[str, Any]:
    """Return an answer: 48 hours of which the last is normal, known until now."""
    hour = find_hour()
    windows = [build_window(hour - back * HOUR) for back in range(48, 0, -1)]
    return {
        "interest": dict(interest or build_interest()),
        "airport": {
            "icao": "KJFK", "iata": "JFK", "name": "John F Kennedy International Airport", "city": "New York",
            "country": "US", "time_zone": "America/New_York",
        },
        "state": {
            "kind": "normal", "bound": None, "window_start": windows[-1]["window_start"], "flights": 12, "text": "",
        },
        "freshness": {"kind": "record", "known_until": show(hour), "unheard_since": None, "text": ""},
        "windows": windows,
        "former_versions": [],
        "earliest_begin": show(hour - 40 * 24 * HOUR),
        **members,
    }  # fmt: skip


def build_states() -> dict[str, dict[str, Any]]:
    """Return an answer for each state that a card can be in, by its name."""
    hour = find_hour()
    firing = build_answer(
        state={"kind": "firing", "bound": "high", "window_start": show(hour - HOUR), "flights": 31, "text": ""}
    )
    firing["windows"][-1] |= {"flights": 31, "breached": ["high"], "alerts": [build_alert(1, "firing")]}
    quiet = {"kind": "unknown", "bound": None, "window_start": None, "flights": None, "text": ""}
    unheard = build_answer(
        state=quiet,
        freshness={"kind": "none", "known_until": None, "unheard_since": "2026-11-01T00:00:00Z", "text": ""},
        windows=[
            build_window(hour - back * HOUR, flights=None, is_closed=False, why_unknown="not_collected")
            for back in range(48, 0, -1)
        ],
    )
    gap = build_answer()
    gap["windows"][20] |= {"flights": None, "is_closed": False, "why_unknown": "gap"}
    record = {"kind": "record", "unheard_since": None, "text": ""}
    fresh = {"kind": "live", "known_until": show(datetime.now(UTC)), "unheard_since": None, "text": ""}
    live = build_answer(freshness=fresh)
    for window in live["windows"][-8:]:
        window["is_live"] = True
    live["windows"].append(build_window(hour, flights=3, is_closed=False, is_live=True))
    known = hour - 55 * HOUR
    late = build_answer(freshness=record | {"known_until": show(known)})
    for window in late["windows"][-55:]:
        window |= {"flights": None, "is_closed": False, "why_unknown": "not_collected"}
    interrupted = build_answer(freshness=record | {"known_until": show(hour - 14 * HOUR)})
    for window in interrupted["windows"][-14:-5]:
        window["is_live"] = True
    for window in interrupted["windows"][-5:]:
        window |= {"flights": None, "is_closed": False, "why_unknown": "not_collected"}
    percent = build_interest(
        high_value=None, high_percent=150, low_percent=50, learning_until=show(hour + 400 * HOUR), learning="Wait."
    )
    learning = build_answer(percent, state=quiet | {"kind": "learning"})
    for window in learning["windows"]:
        window["why_unknown"] = "usual_unknown"
    usual = build_answer(percent | {"learning_until": None, "learning": None})
    for at, window in enumerate(usual["windows"]):
        weeks = [{"window_start": window["window_start"], "flights": 10 + week} for week in range(5)]
        window |= {"usual": 12.5 if at % 8 else 2, "base": weeks, "why_unknown": None if at % 8 else "usual_too_small"}
    return {
        "normal": build_answer(),
        "firing": firing,
        "paused": build_answer(build_interest(effective_from=show(hour + 50 * HOUR)), state=quiet | {"kind": "paused"}),
        "paused for good": build_answer(
            build_interest(effective_from=show(hour + 8_700 * HOUR)), state=quiet | {"kind": "paused"}
        ),
        "learning": learning,
        "usual": usual,
        "unheard": unheard,
        "nothing yet": build_answer(
            state=quiet,
            freshness={"kind": "none", "known_until": None, "unheard_since": None, "text": ""},
            windows=[],
        ),
        "gap": gap,
        "live": live,
        "late": late,
        "interrupted": interrupted,
    }  # fmt: skip
