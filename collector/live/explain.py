"""The sentence that says of an airport whether it is heard live now, from when on, or why not. Pure.

It is shown at `/flights/{icao}/coverage`.
"""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Final

from collector.intervals import day_of
from collector.live.movements import REVEALED_WITHIN_S
from collector.live.reports import FeedReport

_HOUR: Final = timedelta(hours=1)
_SILENT_AFTER_S: Final = 150
"""Age of the last poll at which nothing is heard, as the light of a feed has it (`streams/pages/lights.py`)."""
_LATE_REPORT_S: Final = 60
"""Seconds by which the last poll of a feed that is asked seldom may be older than its interval."""


def explain_live(icao: str, reports: Sequence[FeedReport], now: datetime) -> str | None:
    """Return in words whether an airport is heard live by any of the feeds; None if there is no feed.

    If it is, the sentence names the first whole hour and when it can be judged, unless that is past.
    """
    if not reports:
        return None
    hearing = [each for each in reports if icao in each.live and not _is_silent(each, now)]
    if hearing:
        # The feed that hears it longest covers most.
        report = min(hearing, key=lambda each: each.heard_since.get(icao, now.timestamp()))
        since = report.heard_since.get(icao)
        return "Heard live." if since is None else _explain_hearing(datetime.fromtimestamp(since, UTC), report, now)
    return f"Not heard live: {'; '.join(_explain_silence(icao, each, now) for each in reports)}."


def _is_silent(report: FeedReport, now: datetime) -> bool:
    """Return True if a feed has no poll, or its last one is too old or, by a clock that was set, of the future.

    False if the feed goes on.
    """
    if report.last_poll_at is None:
        return True
    return abs(now.timestamp() - report.last_poll_at) > max(_SILENT_AFTER_S, report.interval_s + _LATE_REPORT_S)


def _explain_hearing(since: datetime, report: FeedReport, now: datetime) -> str:
    """Return from when on an airport is heard, and when the first whole hour since then can be judged.

    `report`: of the feed that hears it.
    """
    first = since.replace(minute=0, second=0, microsecond=0)
    if first < since:
        first += _HOUR
    # Until then a movement of the hour may still be found.
    judged = first + _HOUR + timedelta(seconds=REVEALED_WITHIN_S + 2 * report.interval_s)
    heard = f"Heard live since {_format_time(since, now)} UTC"
    if judged <= now:
        return f"{heard}."
    return f"{heard}; the first whole hour, {first:%H:%M}–{first + _HOUR:%H:%M}, is judged about {judged:%H:%M}."


def _explain_silence(icao: str, report: FeedReport, now: datetime) -> str:
    """Return why a feed does not hear an airport, with the feed's name and without a full stop."""
    if report.error is not None:
        reason = report.error
    elif icao in report.settled:
        reason = report.settled[icao]
    elif report.last_poll_at is None:
        reason = "no poll yet"
    elif _is_silent(report, now):
        reason = f"its last poll was at {_format_time(datetime.fromtimestamp(report.last_poll_at, UTC), now)} UTC"
    else:
        reason = "its last poll was made before somebody watched the airport"
    return f"{report.feed}: {reason.rstrip('.')}"


def _format_time(at: datetime, now: datetime) -> str:
    """Return a time (UTC): as 03:10 if it is today, else as 28 Nov 03:10."""
    return f"{at:%H:%M}" if day_of(at) == day_of(now) else f"{at:%-d %b %H:%M}"
