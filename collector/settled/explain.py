"""Sentences that say what the collection of an airport and direction waits for. Pure.

They are shown at `/flights/{icao}/coverage` and `/scheduler/status`.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta

from collector.intervals import DAY, day_of
from collector.model import CoverageRow
from collector.settled.evidence import GIVE_UP_AFTER, NightlyRecord, NightlyRecords, RecordTiming
from collector.settled.planner import CollectionTarget
from collector.settled.schedule import ASK_AGAIN_AFTER
from collector.settled.source_failure import SourceFailure
from collector.unheard import explain_unheard
from domain.interests import Direction


@dataclass(frozen=True, slots=True)
class Progress:
    """The progress of the collection of one airport and direction: what an explanation needs of it."""

    airport: str
    direction: Direction
    next_begin: datetime
    """Begin of the next interval to collect."""
    doubted_at: datetime | None = None
    """Time of an answer without flights for that interval, which is doubted. None: no answer is doubted."""
    uncounted_at: datetime | None = None
    """Time of an answer about that interval with too many rows that cannot be counted. None: there was none."""
    unheard_since: datetime | None = None
    """Begin of the first day that was asked for, if the airport is unheard. None: it is heard, or not asked for yet."""


def build_progress(target: CollectionTarget, row: CoverageRow | None, unheard_since: datetime | None) -> Progress:
    """Build the progress of a target from its coverage, if it has any.

    `unheard_since`: the begin of the first day that was asked for, if the airport is unheard; else None.
    """
    return Progress(
        airport=target.airport,
        direction=target.direction,
        next_begin=target.next_begin,
        doubted_at=row.doubted_at if row is not None and row.doubted_day == target.next_begin else None,
        uncounted_at=target.uncounted_at if target.uncounted_begin == target.next_begin else None,
        unheard_since=unheard_since,
    )


def explain_waiting(
    progress: Progress,
    records: NightlyRecords,
    timing: RecordTiming,
    now: datetime,
    failure: SourceFailure | None = None,
) -> str | None:
    """Return in words what the next day of an airport and direction waits for; None if it waits for no evidence.

    None while the next day has not ended, and once the day's record is proven to be whole, unless an empty answer for
    it is doubted, or its answer could not be counted, or the source fails. An unheard airport is always explained.
    `failure`: the last call of the source, if it failed.
    """
    if progress.unheard_since is not None:
        return explain_unheard(progress.airport, progress.unheard_since)
    day = day_of(progress.next_begin)
    if progress.doubted_at is not None:
        return (
            f"{_format_day(day)}: no flight, where there usually are some; "
            f"asked again at {_format_time(progress.doubted_at + ASK_AGAIN_AFTER, now)}"
        )
    if day + DAY > now:
        return None
    if progress.uncounted_at is not None:
        again = _format_time(progress.uncounted_at + ASK_AGAIN_AFTER, now)
        return (
            f"{_format_day(day)}: the source's answer has too many flights without an aircraft's address or without "
            f"times, or of other airports; asked again at {again}, "
            f"and given up as a gap from {_format_day(day + DAY + GIVE_UP_AFTER)} on"
        )
    unproven = records.find_unproven(day, progress.direction)
    waiting = None if unproven is None else _explain_record(unproven, timing, now)
    if failure is None or (unproven is not None and unproven.is_given_up(now)):
        return waiting
    return f"{waiting or f'{_format_day(day)}: not collected yet'}; {failure.explain(now)}"


def explain_gap(row: CoverageRow, next_begin: datetime, was_live: bool) -> str | None:
    """Return in words which days of an airport and direction are never collected: its last gap, or the next one.

    `was_live`: True if a part of the last gap was covered live.

    The next one is between the end of the coverage and `next_begin`, where collection will go on. None: there is
    neither. Both consist of whole days, unless coverage ended within one.
    """
    if row.covered_until < next_begin:
        return (
            f"{_format_days(row.covered_until, next_begin)}: not collected, and never will be; collection goes on with "
            f"{_format_day(next_begin)}, because earlier days lie too far back, were given up, or are not "
            "wanted by all who watch the airport"
        )
    if row.gap_from is None or row.gap_until is None:
        return None
    days = _format_days(row.gap_from, row.gap_until)
    if was_live:
        return f"{days}: not collected, and never will be; windows in this time are judged where it was covered live"
    return (
        f"{days}: not collected, and never will be; windows in this time are not judged, so that no alert for too "
        "little traffic comes of it"
    )


def explain_credits(target: CollectionTarget, calls_ahead: int | None, deferred_until: datetime | None) -> str | None:
    """Return in words that the next day of a target waits for credits, and whose turn comes first; None if it does not.

    Nobody is named. `calls_ahead`: number of due calls before the target's first; None: more than are planned.
    `deferred_until`: until when the credits defer calls; None: they defer none.
    """
    if deferred_until is None or target.available_until <= target.next_begin:
        return None
    people = len(target.people)
    payers = "one person pays for it" if people == 1 else f"{people} people pay for it together"
    if calls_ahead is None:
        return f"waits for credits: {payers}; today's go to the people whose turn comes first"
    first = "it is the next" if calls_ahead == 0 else f"{calls_ahead} calls come first, in turns of all people who wait"
    return f"waits for credits: {payers}; {first}"


def _explain_record(record: NightlyRecord, timing: RecordTiming, now: datetime) -> str:
    """Return in one sentence what is known of a record that is not whole yet, and when it is asked for."""
    waiting = f"waiting for the night's record of {_format_day(record.day)}"
    if record.is_given_up(now):
        return f"the source has not given the night's record of {_format_day(record.day)}: the day is given up as a gap"
    if record.there_since is not None:
        again = _format_time(record.compute_next_call_time(timing), now)
        return (
            f"the night's record of {_format_day(record.day)} is there ({record.flights} {record.direction.value} at "
            f"{record.airport}); it counts as whole if the same is given at {again}"
        )
    if record.asked_at is None:
        first_call = record.compute_next_call_time(timing)
        return f"{waiting}; " + ("no answer yet" if first_call <= now else f"first asked at {first_call:%H:%M}")
    return f"{waiting}; last asked {_format_time(record.asked_at, now)}"


def _format_days(begin: datetime, end: datetime) -> str:
    """Return the days that [begin, end) touches: 28 Nov, or 18 Nov – 28 Nov."""
    first, last = _format_day(begin), _format_day(end - timedelta.resolution)
    return first if first == last else f"{first} – {last}"


def _format_day(day: datetime) -> str:
    """Return a day as 28 Nov."""
    return f"{day:%-d %b}"


def _format_time(at: datetime, now: datetime) -> str:
    """Return a time (UTC): as 03:10 if it is today, else as 28 Nov 03:10."""
    return f"{at:%H:%M}" if day_of(at) == day_of(now) else f"{at:%-d %b %H:%M}"
