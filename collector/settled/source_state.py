"""Storage of facts about the source: clock comparison, foreign answers. And the reset of what a wrong clock stored.

Each function runs in the caller's transaction.
"""

import json
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final

import structlog
from sqlalchemy import delete, select
from sqlalchemy.orm import Session

from collector.errors import ForeignAnswerError, SourceError
from collector.intervals import DAY, day_of
from collector.model import (
    CoverageRow,
    CreditsRow,
    ForeignAnswerRow,
    InterestRow,
    LastPollRow,
    LiveStateRow,
    NightlyRecordRow,
    SourceClockRow,
    UnheardRow,
)

log = structlog.get_logger()

LARGEST_CLOCK_ERROR: Final = timedelta(hours=1)
"""If our clock is off by more than this, nothing of an answer is stored: the wrong interval would be covered."""

_ROW_ID: Final = 1
_KEPT: Final = "clock kept"
"""No feed has this name: the row stands in the table of the feeds' states, and is of another format."""
_KEPT_FORMAT: Final = "clock-1"
_FARTHEST_AHEAD: Final = DAY
"""An instant farther ahead of now than this was stored by a wrong clock."""


@dataclass(frozen=True, slots=True)
class ForeignAnswers:
    """The number of answers of one kind that somebody else gave in the source's name."""

    kind: str
    answers: int
    last_at: datetime


@dataclass(frozen=True, slots=True)
class ClockComparison:
    """The last comparison of our clock with the source's."""

    at: datetime
    """By our clock."""
    error_s: float
    """Seconds that our clock was ahead of the source's; negative: behind it."""


def count_foreign_answer(session: Session, error: SourceError, now: datetime) -> None:
    """Count a foreign answer by its kind; do nothing for any other error."""
    if not isinstance(error, ForeignAnswerError):
        return
    row = session.get(ForeignAnswerRow, error.kind.value, with_for_update=True)
    if row is None:
        row = ForeignAnswerRow(kind=error.kind.value, answers=0, last_at=now)
        session.add(row)
    row.answers += 1
    row.last_at = now


def load_foreign_answers(session: Session) -> list[ForeignAnswers]:
    """Return the number of foreign answers of each kind, the kind of the last one first."""
    rows = session.scalars(select(ForeignAnswerRow).order_by(ForeignAnswerRow.last_at.desc(), ForeignAnswerRow.kind))
    return [ForeignAnswers(row.kind, row.answers, row.last_at) for row in rows]


def store_clock_error(session: Session, error: timedelta, now: datetime) -> None:
    """Store how far our clock is ahead of the source's."""
    row = session.get(SourceClockRow, _ROW_ID, with_for_update=True)
    if row is None:
        session.add(SourceClockRow(id=_ROW_ID, compared_at=now, error_s=error.total_seconds()))
    else:
        row.compared_at, row.error_s = now, error.total_seconds()


def load_clock_comparison(session: Session) -> ClockComparison | None:
    """Return the last comparison of the clocks; None if there was none yet."""
    row = session.get(SourceClockRow, _ROW_ID)
    return None if row is None else ClockComparison(row.compared_at, row.error_s)


def store_clock_kept(session: Session, comparison: ClockComparison, now: datetime) -> None:
    """Store that our clock was not set since a comparison, as the process knows that runs since then.

    So the comparison holds for the next process, too, however long the source is unavailable.
    """
    body = json.dumps({"compared_at": comparison.at.timestamp()}).encode()
    session.merge(LiveStateRow(feed=_KEPT, format=_KEPT_FORMAT, stated_at=now.timestamp(), body=body))


def load_clock_checked(session: Session, comparison: ClockComparison) -> datetime:
    """Return when our clock was known to be what the last comparison says: at its time, or while a process ran on."""
    row = session.get(LiveStateRow, _KEPT)
    if row is None or row.format != _KEPT_FORMAT:
        return comparison.at
    if json.loads(row.body)["compared_at"] != comparison.at.timestamp():
        return comparison.at  # compared anew since then
    return max(datetime.fromtimestamp(row.stated_at, UTC), comparison.at)


def may_trust_clock(session: Session, now: datetime) -> bool:
    """Return False if our clock is known or suspected to be wrong, else True.

    Known: it was off by more than LARGEST_CLOCK_ERROR at the last comparison. Suspected: there are interests, so that
    the clocks are compared every day, but the last comparison, and the last time at which a process knew that the clock
    was not set since, are more than two days away from `now`. The clock may have jumped since.
    """
    comparison = load_clock_comparison(session)
    if comparison is None:
        return True
    if abs(comparison.error_s) > LARGEST_CLOCK_ERROR.total_seconds():
        return False
    is_watching = session.scalar(select(InterestRow.interest_id).limit(1)) is not None
    return not is_watching or abs(now - load_clock_checked(session, comparison)) <= 2 * DAY


def reset_future_instants(session: Session, now: datetime) -> None:
    """Reset the stored instants that are more than a day ahead of `now`; they would stop collection until that time.

    `now` must be of a clock that agrees with the source's: then such an instant was stored by a wrong clock. The end of
    a coverage, or of the days asked for at an unheard airport, is set to the midnight at which yesterday began, the
    last poll to `now`, the day of the quota to today; a pause ends. Each of these is logged. Doubts and evidence with
    such instants are deleted, and a `corrected_until` after `covered_until` is set to it, without a log entry.
    """
    limit, yesterday = now + _FARTHEST_AHEAD, day_of(now) - DAY
    for cursor in session.scalars(select(CoverageRow).where(CoverageRow.covered_until > limit)):
        _log_reset("cursor", cursor.covered_until, cursor.airport, cursor.direction)
        cursor.covered_from = min(cursor.covered_from, yesterday)
        cursor.covered_until = yesterday
        cursor.doubted_day = cursor.doubted_at = None
    for cursor in session.scalars(select(CoverageRow).where(CoverageRow.corrected_until > CoverageRow.covered_until)):
        cursor.corrected_until = cursor.covered_until
    for cursor in session.scalars(select(CoverageRow).where(CoverageRow.doubted_at > limit)):
        cursor.doubted_day = cursor.doubted_at = None
    for unheard in session.scalars(select(UnheardRow).where(UnheardRow.asked_until > limit)):
        _log_reset("unheard", unheard.asked_until, unheard.airport, unheard.direction)
        unheard.asked_until, unheard.since = yesterday, min(unheard.since, yesterday)
    for poll in session.scalars(select(LastPollRow).where(LastPollRow.asked_at > limit)):
        _log_reset("last_poll", poll.asked_at, poll.airport, poll.direction)
        poll.asked_at = now
    for credit in session.scalars(select(CreditsRow)):
        if credit.day > limit:
            _log_reset("quota_day", credit.day)
            credit.day = day_of(now)
        if credit.paused_until is not None and credit.paused_until > limit:
            _log_reset("pause", credit.paused_until)
            credit.paused_until = None
    session.execute(delete(NightlyRecordRow).where(NightlyRecordRow.day > limit))
    session.execute(delete(NightlyRecordRow).where(NightlyRecordRow.asked_at > limit))
    session.execute(delete(NightlyRecordRow).where(NightlyRecordRow.whole_since > limit))


def _log_reset(what: str, instant: datetime, airport: str | None = None, direction: str | None = None) -> None:
    """Log that an instant of the future was reset, with the airport and direction that it belonged to, if any."""
    log.warning(
        "collection.future_instant_taken_back", what=what, was=instant.isoformat(), airport=airport, direction=direction
    )
