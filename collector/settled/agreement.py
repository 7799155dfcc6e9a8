"""The agreement of live movements with the settled record, by day: how much of the record was found live.

`compute_agreement` is pure; the other functions run in the caller's transaction.
"""

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from collector.intervals import DAY, Interval, day_of, split_by_days
from collector.model import CoverageRow, LiveAgreementRow, LiveCoverageRow, LiveOutcome
from collector.settled.reconciliation import MATCHED_WITHIN, LiveMovement
from collector.settled.stored_flights import load_published_flights
from collector.settled.stored_movements import load_movements
from collector.sources.flight import PublishedFlight
from domain.interests import Direction

JUDGED_DAYS: Final = 3
"""Days with flights of the record, the last ones, by which an airport and direction is judged."""

LEAST_RECALL_PERCENT: Final = 80
"""The part of the record's flights that must be found live on these days; with less, live coverage is not published."""

_HOURS_A_DAY: Final = 24
_Stretch = tuple[datetime, datetime]


@dataclass(frozen=True, slots=True)
class DailyAgreement:
    """The agreement of one UTC day, airport and direction; see `LiveAgreementRow`."""

    day: datetime
    recorded: int
    live: int
    matched: int
    added: int
    retracted: int
    hourly: tuple[tuple[int, int], ...]
    """For each hour of the day: flights of the record, movements found live."""

    @property
    def recall(self) -> float | None:
        """The part of the record's flights that was found live; None if the record has none."""
        return self.matched / self.recorded if self.recorded else None

    @property
    def precision(self) -> float | None:
        """The part of the live movements that the record has; None if there are none."""
        return self.matched / self.live if self.live else None


@dataclass(frozen=True, slots=True)
class LiveStretch:
    """A stretch [begin, end) of live coverage."""

    begin: datetime
    end: datetime
    is_published: bool
    """False if the airport was distrusted at that time."""


def compute_agreement(
    day: datetime, flights: Iterable[PublishedFlight], movements: Iterable[LiveMovement], stretches: Sequence[_Stretch]
) -> DailyAgreement | None:
    """Return the agreement of a UTC day within the stretches of live coverage; what was corrected is of the whole day.

    `flights`: the record's flights of the day, with their event times as published: those of their movements, so that
    a flight and its movement are in the same stretch and hour. Movements whose outcome is open count for nothing.
    Return None if there is no stretch and no movement that counts.
    """
    decided = [each for each in movements if each.outcome is not LiveOutcome.PUBLISHED]
    if not decided and not stretches:
        return None
    of_record = list(flights)
    matched = [each for each in decided if each.outcome is LiveOutcome.MATCHED]
    identities = {each.identity for each in matched}
    hourly = [[0, 0] for _ in range(_HOURS_A_DAY)]
    for column, times in enumerate(([each.event_time for each in of_record], [each.event_time for each in decided])):
        for at in times:
            if _is_within(at, stretches):
                hourly[(at - day) * _HOURS_A_DAY // DAY][column] += 1
    recorded, live = (sum(column) for column in zip(*hourly, strict=True))
    return DailyAgreement(
        day=day,
        recorded=recorded,
        live=live,
        matched=min(recorded, sum(_is_within(each.event_time, stretches) for each in matched)),
        added=sum(each not in identities for each in of_record),
        retracted=len(decided) - len(matched),
        hourly=tuple((own, other) for own, other in hourly),
    )


def store_agreement(session: Session, interval: Interval, cursor: CoverageRow) -> None:
    """Compute and store the agreement of the days that an answer of the record has decided about.

    These are the interval's days, the day before, whose last movements had been left, and the day after, as far as the
    settled coverage reaches, which the cursor holds: it has advanced already. Does nothing where nothing was live.
    """
    begin = max(cursor.covered_from, interval.begin - MATCHED_WITHIN)
    end = min(cursor.covered_until, interval.end + MATCHED_WITHIN)
    if begin >= end:
        return
    first, last = day_of(begin), day_of(end) + DAY
    stretches = load_stretches(session, interval.airport, interval.direction, first, last)
    movements = load_movements(session, interval.airport, interval.direction, first, last)
    if not stretches and not movements:
        return
    for each in split_by_days(interval.airport, interval.direction, begin, end):
        day = day_of(each.begin)
        settled = max(day, cursor.covered_from), min(day + DAY, cursor.covered_until)
        agreement = compute_agreement(
            day,
            load_published_flights(session, interval.airport, interval.direction, *settled),
            [movement for movement in movements if settled[0] <= movement.event_time < settled[1]],
            _clip(stretches, settled),
        )
        if agreement is not None:
            session.merge(_build_row(interval, agreement))


def load_stretches(
    session: Session, airport: str, direction: Direction, begin: datetime, end: datetime
) -> list[LiveStretch]:
    """Load the stretches of live coverage that overlap [begin, end), also those that were not published, in order."""
    rows = session.scalars(
        select(LiveCoverageRow)
        .where(
            LiveCoverageRow.airport == airport,
            LiveCoverageRow.direction == direction.value,
            LiveCoverageRow.end_at > begin,
            LiveCoverageRow.begin_at < end,
        )
        .order_by(LiveCoverageRow.begin_at)
    )
    return [LiveStretch(row.begin_at, row.end_at, row.published) for row in rows]


def has_published_stretch(session: Session, airport: str, direction: Direction, begin: datetime, end: datetime) -> bool:
    """Return True if a published stretch of live coverage overlaps [begin, end), False if none does."""
    query = select(LiveCoverageRow.id).where(
        LiveCoverageRow.airport == airport,
        LiveCoverageRow.direction == direction.value,
        LiveCoverageRow.end_at > begin,
        LiveCoverageRow.begin_at < end,
        LiveCoverageRow.published,
    )
    return session.scalar(query.limit(1)) is not None


def load_agreements(session: Session, airport: str, direction: Direction, days: int) -> list[DailyAgreement]:
    """Return the agreement of the last days that have one, at most `days`, newest first."""
    rows = session.scalars(
        select(LiveAgreementRow)
        .where(LiveAgreementRow.airport == airport, LiveAgreementRow.direction == direction.value)
        .order_by(LiveAgreementRow.day.desc())
        .limit(days)
    )
    return [
        DailyAgreement(
            row.day,
            row.recorded,
            row.live,
            row.matched,
            row.added,
            row.retracted,
            tuple((own, other) for own, other in json.loads(row.hourly)),
        )
        for row in rows
    ]


def find_distrusted(session: Session, airport: str | None = None) -> frozenset[tuple[str, Direction]]:
    """Return the airports and directions that agree badly with the record, of one airport or of all (None).

    Of the last JUDGED_DAYS days on which the record has flights within the stretches of live coverage, published or
    not, less than LEAST_RECALL_PERCENT of these flights were found live. All days together are judged, not each by
    itself. An airport without such a day is trusted.
    """
    newest = func.row_number().over(
        partition_by=(LiveAgreementRow.airport, LiveAgreementRow.direction), order_by=LiveAgreementRow.day.desc()
    )
    days = select(
        LiveAgreementRow.airport,
        LiveAgreementRow.direction,
        LiveAgreementRow.matched,
        LiveAgreementRow.recorded,
        newest.label("number"),
    ).where(LiveAgreementRow.recorded > 0)
    if airport is not None:
        days = days.where(LiveAgreementRow.airport == airport)
    judged = days.subquery()
    rows = session.execute(
        select(judged.c.airport, judged.c.direction)
        .where(judged.c.number <= JUDGED_DAYS)
        .group_by(judged.c.airport, judged.c.direction)
        .having(100 * func.sum(judged.c.matched) < LEAST_RECALL_PERCENT * func.sum(judged.c.recorded))
    )
    return frozenset((row.airport, Direction(row.direction)) for row in rows)


def _build_row(interval: Interval, agreement: DailyAgreement) -> LiveAgreementRow:
    """Return the row of the agreement of one day, in the interval's airport and direction."""
    return LiveAgreementRow(
        airport=interval.airport,
        direction=interval.direction.value,
        day=agreement.day,
        recorded=agreement.recorded,
        live=agreement.live,
        matched=agreement.matched,
        added=agreement.added,
        retracted=agreement.retracted,
        hourly=json.dumps(agreement.hourly),
    )


def _clip(stretches: Iterable[LiveStretch], limits: _Stretch) -> list[_Stretch]:
    """Return the parts of the stretches within the limits."""
    parts = [(max(each.begin, limits[0]), min(each.end, limits[1])) for each in stretches]
    return [(begin, end) for begin, end in parts if begin < end]


def _is_within(at: datetime, stretches: Iterable[_Stretch]) -> bool:
    """Return True if a stretch holds the instant, False if none does."""
    return any(begin <= at < end for begin, end in stretches)
