"""The query for the windows of an interest: what was counted, by which version it was judged, and what was alerted.

The alerts are a function of the log; the log is rebuilt from the tables (`collector.rebuilt_log`). Nothing here writes.
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import astuple, dataclass, replace
from datetime import datetime, timedelta
from typing import Final
from uuid import UUID

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from chassis.clock import Clock
from chassis.db.database import Database
from collector.errors import BadRangeError, NoSuchInterestError
from collector.interest_state import InterestState, find_state
from collector.interest_versions import FormerVersion, load_versions
from collector.intervals import DAY, day_of
from collector.model import CoverageRow, FlightRow, InterestRow, LiveMovementRow, NightlyRecordRow
from collector.settled.history_days import HistoryDayRow
from collector.stored_log import KnownEnds, load_known_ends, load_messages
from collector.unheard import find_unheard_since
from collector.window_verdicts import JudgedWindow, judge_known_windows
from domain.calendar import find_calendar
from domain.grids import LocalGrid
from domain.interests import Direction, Interest
from domain.percent_counts import LOOKBACK_HOURS, PercentCounts
from domain.rule import find_interest_grid
from domain.window_history import VersionInForce, WindowHistory, has_percents, replay_windows
from domain.windows import Window, instant, seconds

LONGEST_RANGE: Final = 40 * DAY
"""The longest range of windows, and how far back it may begin: former versions are kept for so long."""
DEFAULT_WINDOWS: Final = {Window.ONE_HOUR: 48, Window.SIX_HOURS: 28, Window.ONE_DAY: 35}
"""Number of windows that are shown if nobody says which."""
MOST_REPLAYED: Final = 12
"""Former versions of an interest that are looked at, the latest ones: each costs a pass over the flights."""

_BASE: Final = timedelta(weeks=5, days=1)
"""Longest time from a window back to the weeks that its usual follows from; clocks are moved by a day at most."""
_LONG_LOOKBACK: Final = timedelta(hours=LOOKBACK_HOURS) + DAY
"""Longest time from a window back to the one before it that is not skipped; clocks are moved by a day at most."""
_SHORT_LOOKBACK: Final = timedelta(days=2)
"""The same at most airports: more is read only where that is not enough."""
_FORM: Final = "3"
"""Changes with what follows from the same stored values, so that nobody keeps an answer of before."""


@dataclass(frozen=True, slots=True)
class Freshness:
    """The ends of the known flights of an interest's airport."""

    known_until: datetime | None
    """Where what is known of all parts of the direction ends; None: of a part nothing is known."""
    recorded_until: datetime | None
    """Where the record of all parts ends, before which nothing is missing but gaps; None: a part has none."""
    is_live: bool
    """True if positions of all parts go beyond the record, and ended less than half an hour ago."""
    unheard_since: datetime | None
    """Begin of the first day that was asked for, if the airport is unheard."""


@dataclass(frozen=True, slots=True)
class InterestWindows:
    """The windows of an interest in a range, in order of time, and how fresh they are."""

    interest: Interest
    state: InterestState
    freshness: Freshness
    windows: Sequence[JudgedWindow]
    former_versions: Sequence[FormerVersion]
    """Those that were in force in the range, the oldest first; of many the latest MOST_REPLAYED."""
    earliest_begin: datetime
    """The earliest begin of a range that may be requested: a midnight (UTC)."""


@dataclass(frozen=True, slots=True)
class WindowRequest:
    """A request for the windows of an interest: those that start in [begin, end)."""

    user_id: UUID
    interest_id: UUID
    begin: datetime | None
    """None: as many as DEFAULT_WINDOWS says."""
    end: datetime | None
    """None: to the end of what is known, with the window that is open then."""
    is_whole: bool = False
    """True: from the earliest begin that may be requested on; `begin` must be None then."""


class WindowQueries:
    """Read-only queries on the windows of interests. May raise DatabaseUnavailableError; thread-safe."""

    def __init__(self, database: Database, clock: Clock, corrected_after: timedelta) -> None:
        """`corrected_after`: time after the end of a day at which it is collected once more."""
        self._database = database
        self._clock = clock
        self._corrected_after = corrected_after

    def find_tag(self, request: WindowRequest) -> tuple[Interest, str]:
        """Return an interest, and a text that is another one once anything has changed that `find_windows` shows.

        It costs some short queries. Raises what `find_windows` raises.
        """
        now = self._clock.now()
        with self._database.reading() as session:
            row, since = _require_interest(session, request), _check_range(request, now)
            request = _set_earliest_begin(request, since)
            ends = load_known_ends(session, row.airport, Direction(row.direction))
            known_until = _find_common_end([each.known_until for each in ends.values()])
            latest = _find_latest(row.value(), known_until, since, now)
            return row.value(), _digest(session, row, since, ends, latest, request, now)

    def find_windows(self, request: WindowRequest) -> tuple[InterestWindows, str]:
        """Return the windows of an interest, and the tag of this answer as `find_tag` returns it.

        Raises NoSuchInterestError, also for another user's interest, and BadRangeError.
        """
        now = self._clock.now()
        with self._database.reading() as session:
            row, since = _require_interest(session, request), _check_range(request, now)
            request = _set_earliest_begin(request, since)
            interest, set_at = row.value(), row.updated_at
            former = load_versions(session, interest.interest_id, since)[-MOST_REPLAYED:]
            ends = load_known_ends(session, interest.airport, interest.direction)
            freshness = _build_freshness(ends, find_unheard_since(session, interest.airport, now), now)
            latest = _find_latest(interest, freshness.known_until, since, now)
            within = _find_requested(interest, request, latest, since)
            versions = [VersionInForce(each.interest, each.since, each.until) for each in former]
            versions.append(VersionInForce(interest, set_at, None))
            span = range(min(within.start, latest.start), latest.stop)
            back = _SHORT_LOOKBACK
            while True:
                known_from, live_from = _find_begins(versions, span, back)
                by_minute = _needs_minutes(interest, known_from, span)
                messages = load_messages(
                    session,
                    interest.airport,
                    interest.direction,
                    known_from,
                    live_from,
                    now,
                    self._corrected_after,
                    [each.since for each in versions],
                    by_minute=by_minute,
                )
                history = replay_windows(messages, versions, within)
                if back == _LONG_LOOKBACK or not _looks_farther_back(history, versions, span, back):
                    break
                back = _LONG_LOOKBACK
            tag = _digest(session, row, since, ends, latest, request, now)
        windows = judge_known_windows(history, versions, within, ends)
        newest = windows if within == latest else judge_known_windows(history, versions, latest, ends)
        begin = windows[0].start if windows else since
        shown = [each for each in former if each.until > begin]
        return InterestWindows(interest, find_state(interest, newest, now), freshness, windows, shown, since), tag


def _require_interest(session: Session, request: WindowRequest) -> InterestRow:
    """Return the interest's row. Raises NoSuchInterestError, also for another user's interest."""
    row = session.get(InterestRow, request.interest_id)
    if row is None or row.user_id != request.user_id:
        raise NoSuchInterestError("You have no interest with this id.")
    return row


def _check_range(request: WindowRequest, now: datetime) -> datetime:
    """Return the earliest begin of a range. Raises BadRangeError unless the requested range may be shown."""
    begin, end, oldest = request.begin, request.end, day_of(now) - LONGEST_RANGE
    if request.is_whole and begin is not None:
        raise BadRangeError("whole=true begins as early as possible: send either begin or whole", "begin", "whole")
    if begin is not None and begin < oldest:
        raise BadRangeError(f"begin must be {oldest:%Y-%m-%d} or later: windows of before are not shown", "begin")
    if end is not None and end <= oldest:
        raise BadRangeError(f"end must be after {oldest:%Y-%m-%d}: windows of before are not shown", "end")
    if begin is not None and end is not None:
        if begin >= end:
            raise BadRangeError("begin must be before end", "begin", "end")
        if end - begin > LONGEST_RANGE:
            raise BadRangeError(f"the range must be at most {LONGEST_RANGE.days} days", "begin", "end")
    return oldest


def _set_earliest_begin(request: WindowRequest, oldest: datetime) -> WindowRequest:
    """Return the request with its begin: the oldest one that may be requested, if it is for the whole range."""
    return replace(request, begin=oldest) if request.is_whole else request


def _find_latest(interest: Interest, known_until: datetime | None, oldest: datetime, now: datetime) -> range:
    """Return the numbers of the last windows, to the one that is open at the end of what is known.

    If nothing is known of a part, or nothing of the time that is shown, to the one that is open at present.
    """
    grid = find_interest_grid(interest)
    open_at = now if known_until is None or known_until < oldest else known_until
    stop = grid.find_number(seconds(open_at)) + 1
    earliest = grid.find_first_from(seconds(oldest))
    return range(max(stop - DEFAULT_WINDOWS[interest.window], earliest), max(stop, earliest))


def _find_requested(interest: Interest, request: WindowRequest, latest: range, oldest: datetime) -> range:
    """Return the numbers of the windows that are asked for; none after the `latest` ones."""
    grid = find_interest_grid(interest)
    stop = latest.stop
    if request.end is not None:
        stop = min(stop, grid.find_first_from(seconds(request.end)))
    if request.begin is not None:
        first = grid.find_first_from(seconds(request.begin))
    else:
        first = max(stop - DEFAULT_WINDOWS[interest.window], grid.find_first_from(seconds(oldest)))
    return range(first, max(stop, first))


def _find_begins(versions: Sequence[VersionInForce], within: range, lookback: timedelta) -> tuple[datetime, datetime]:
    """Return from when on flights must be known to judge the windows `within`, and from when on what was live.

    `lookback`: time in which the windows before one are sought, where some are skipped. Both are midnight (UTC).
    """
    grid = find_interest_grid(versions[-1].interest)
    back = max(each.interest.for_windows for each in versions) + 1
    begin = instant(grid.find_begin(within.start - back))
    has_usual = any(has_percents(each.interest) for each in versions)
    return day_of(begin - lookback - _BASE if has_usual else begin), day_of(begin)


def _looks_farther_back(
    history: WindowHistory, versions: Sequence[VersionInForce], within: range, lookback: timedelta
) -> bool:
    """Return True if a window `within` is compared with a window from before what was read of what is usual."""
    for interest in (each.interest for each in versions):
        if not has_percents(interest):
            continue
        grid = find_interest_grid(interest)
        begin = instant(grid.find_begin(within.start - interest.for_windows - 1))
        oldest = grid.find_number(seconds(day_of(begin - lookback)))
        counts = PercentCounts(history.traffic, interest.direction, grid)
        if any(counts.list_earlier(number, interest.for_windows)[-1] < oldest for number in within):
            return True
    return False


def _needs_minutes(interest: Interest, known_from: datetime, within: range) -> bool:
    """Return True if a window of an interest begins within an hour of UTC, so that hours are not enough.

    Of the windows from `known_from` on, to the last one `within`: those of the weeks before say what is usual.
    """
    grid, calendar = find_interest_grid(interest), find_calendar(interest.airport)
    if not isinstance(grid, LocalGrid):
        return False
    first, last = (second // (24 * 3600) for second in (seconds(known_from), grid.find_begin(within.stop)))
    return any(calendar.splits_hours(day) for day in range(first, last + 2))


def _build_freshness(ends: Mapping[Direction, KnownEnds], unheard_since: datetime | None, now: datetime) -> Freshness:
    """Build the freshness from where what is known of each part of the direction ends."""
    return Freshness(
        known_until=_find_common_end([each.known_until for each in ends.values()]),
        recorded_until=_find_common_end([each.recorded for each in ends.values()]),
        is_live=all(each.is_live(now) for each in ends.values()),
        unheard_since=unheard_since,
    )


def _find_common_end(ends: Sequence[datetime | None]) -> datetime | None:
    """Return the earliest of the ends of all parts of a direction; None if a part has none."""
    return min([end for end in ends if end is not None]) if None not in ends else None


def _digest(
    session: Session,
    row: InterestRow,
    oldest: datetime,
    ends: Mapping[Direction, KnownEnds],
    latest: range,
    request: WindowRequest,
    now: datetime,
) -> str:
    """Return a digest of all that the answer follows from; `latest`: the numbers of the last windows.

    Whatever is stored of a flight, a live movement or its outcome is stored with a row of the airport that has a higher
    id, or with a change of the coverage's row or the days of history. An index finds the highest id at once.
    """
    cursors = select(CoverageRow).where(CoverageRow.airport == row.airport).order_by(CoverageRow.direction)
    columns = CoverageRow.__table__.columns.keys()
    values: list[object] = [
        _FORM,
        (row.interest_id, row.version, row.updated_at, row.effective_from > now),
        (request.begin, request.end, oldest, latest.stop),
        [[getattr(each, name) for name in columns] for each in session.scalars(cursors)],
        [
            session.scalar(
                select(func.max(table.id)).where(table.airport == row.airport, table.direction == part.value)
            )
            for table in (FlightRow, LiveMovementRow)
            for part in ends
        ],
        [(part.value, astuple(each), each.is_live(now)) for part, each in ends.items()],
        session.execute(
            select(func.count(), func.min(HistoryDayRow.day)).where(
                HistoryDayRow.airport == row.airport, HistoryDayRow.covered
            )
        ).one(),
        session.scalar(
            select(func.max(NightlyRecordRow.whole_since)).where(NightlyRecordRow.direction.in_([*map(str, ends)]))
        ),
        [(each.interest.version, each.until) for each in load_versions(session, row.interest_id, oldest)],
        find_unheard_since(session, row.airport, now),
    ]
    return hashlib.sha256(repr(values).encode()).hexdigest()[:32]
