"""What the stream was told of each airport and direction, by the record and live, and what was only stored."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final

from sqlalchemy import select, update
from sqlalchemy.orm import Session

from collector.live.publication import WholeStretch
from collector.live.wanted import Target
from collector.model import CoverageRow, LiveCoverageRow
from domain.interests import Direction

_LOOKED_BACK: Final = timedelta(days=8)
"""Stretches that ended before that do not matter: the stream's own watermark is then what counts."""


@dataclass(frozen=True, slots=True)
class _LastStretch:
    """The last stretch of the table of live coverage of an airport and direction."""

    row_id: int
    begin: int
    end: int
    published: bool


class LiveCoverageTable:
    """The writer of the table of live coverage; only the leader writes it, so what it holds is kept in memory.

    Its methods work in their caller's transaction. What they note counts once `confirm` is called, after the commit;
    `discard` drops it, and reads the table anew with the next call of `load`.
    """

    def __init__(self) -> None:
        self._published_until: dict[Target, int] = {}
        self._last: dict[Target, _LastStretch] = {}
        self._noted: dict[Target, tuple[int | None, _LastStretch]] = {}
        self._begins: dict[tuple[Target, int], int] = {}
        self._is_loaded = False

    def load(self, session: Session, now: datetime) -> None:
        """Read the table, unless it was read since the last `discard`."""
        if self._is_loaded:
            return
        self._published_until, self._last, self._noted = {}, {}, {}
        rows = session.execute(
            select(
                LiveCoverageRow.id,
                LiveCoverageRow.airport,
                LiveCoverageRow.direction,
                LiveCoverageRow.begin_at,
                LiveCoverageRow.end_at,
                LiveCoverageRow.published,
            )
            .where(LiveCoverageRow.end_at > now - _LOOKED_BACK)
            .order_by(LiveCoverageRow.end_at, LiveCoverageRow.id)
        )
        for row_id, airport, direction, begin_at, end_at, published in rows:
            target, end = (airport, Direction(direction)), to_seconds(end_at)
            self._last[target] = _LastStretch(row_id, to_seconds(begin_at), end, published)
            if published:
                self._published_until[target] = end
        self._is_loaded = True

    def get_published_until(self, target: Target) -> int | None:
        """Return the end of the last published stretch; None: none was published lately."""
        return self._published_until.get(target)

    def get_stored_until(self, target: Target) -> int | None:
        """Return the end of the last stretch, published or not; None: there was none lately."""
        last = self._last.get(target)
        return last.end if last is not None else None

    def add(self, session: Session, target: Target, stretches: Iterable[WholeStretch], *, published: bool) -> None:
        """Store stretches, in their order, all of them later than what is stored; extend the last one if they touch.

        `find_begin` then tells where each of them began.
        """
        for begin, end in stretches:
            last = self._noted[target][1] if target in self._noted else self._last.get(target)
            if last is not None and last.end == begin and last.published is published:
                session.execute(
                    update(LiveCoverageRow).where(LiveCoverageRow.id == last.row_id).values(end_at=to_instant(end))
                )
                row_id, since = last.row_id, last.begin
            else:
                airport, direction = target
                row = LiveCoverageRow(
                    airport=airport,
                    direction=direction.value,
                    begin_at=to_instant(begin),
                    end_at=to_instant(end),
                    published=published,
                )
                session.add(row)
                session.flush()
                row_id, since = row.id, begin
            self._noted[target] = end if published else None, _LastStretch(row_id, since, end, published)
            self._begins[target, end] = since

    def find_begin(self, target: Target, end: int) -> int:
        """Return where the coverage began that reaches the end of a stretch which was added in this transaction."""
        return self._begins[target, end]

    def confirm(self) -> None:
        """Keep what was noted: the transaction has committed."""
        for target, (published_until, last) in self._noted.items():
            self._last[target] = last
            if published_until is not None:
                self._published_until[target] = published_until
        self._noted, self._begins = {}, {}

    def discard(self) -> None:
        """Forget everything: the transaction failed, perhaps only after its commit."""
        self._noted, self._begins, self._is_loaded = {}, {}, False


def load_settled_until(session: Session, targets: Iterable[Target]) -> dict[Target, int]:
    """Return up to which time the record of each airport and direction was published; none without a record."""
    airports = sorted({airport for airport, _ in targets})
    found: dict[Target, int] = {}
    for first in range(0, len(airports), 500):
        rows = session.execute(
            select(CoverageRow.airport, CoverageRow.direction, CoverageRow.covered_until).where(
                CoverageRow.airport.in_(airports[first : first + 500])
            )
        )
        found |= {(airport, Direction(direction)): to_seconds(until) for airport, direction, until in rows}
    return found


def find_told_until(target: Target, settled: Mapping[Target, int], live: LiveCoverageTable) -> int | None:
    """Return up to which time the stream was told of an airport and direction; None: it was told nothing."""
    known = [each for each in (settled.get(target), live.get_published_until(target)) if each is not None]
    return max(known, default=None)


def to_instant(seconds: int) -> datetime:
    """Return the instant of Unix seconds."""
    return datetime.fromtimestamp(seconds, UTC)


def to_seconds(instant: datetime) -> int:
    """Return the whole Unix seconds of an instant."""
    return int(instant.timestamp())
