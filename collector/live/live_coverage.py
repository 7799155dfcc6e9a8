"""The rule of live coverage: for which time an airport's movements, as inferred from positions, are all of them. Pure.

Silence is never zero: time is covered only between polls that are fresh, follow each other without a long pause, and
show that the sky of the airport is heard. All times are Unix seconds; polls are told in the order in which they came.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import StrEnum

from domain.interests import Direction


@dataclass(frozen=True, slots=True)
class CoverageRules:
    """The detector's limits: the pause between polls that it bridges, and its delays. Measured (ADR 36)."""

    longest_pause_s: float
    """The longest pause between two polls after which no movement in between is missed."""
    warm_up_s: float
    """Time from the first poll of a row of them until a movement is surely seen: not one that had begun before."""
    turn_up_s: Mapping[Direction, float]
    """Time after a movement within which it is found: until then it may still turn up."""
    heard_for_s: float
    """Time for which a position near the ground at the airport shows that its sky is heard."""
    longest_lag_s: float
    """A poll is stale if the time that the source states is farther behind the time of the answer."""
    longest_lead_s: float
    """A poll is wrong if the time that the source states is farther ahead of the time of the answer."""

    def __post_init__(self) -> None:
        """Raise ValueError if a poll could be told to cover time before the poll itself was asked."""
        if self.warm_up_s < self.longest_lag_s or min(self.turn_up_s.values()) < self.longest_lead_s:
            raise ValueError("warm-up must not be shorter than the lag, nor the time to turn up than the lead")


@dataclass(frozen=True, slots=True)
class PollSummary:
    """A summary of one poll of an airport's region: how well its sky is heard. A poll that failed has none."""

    answered_at: float
    """By our clock."""
    stated_at: float
    """The time that the source states."""
    fresh_positions: int
    """Aircraft in the region with a position that is not stale; 0 for `"states": null`, too."""
    low_positions: int
    """Those of them that are near the airport and near the ground (1,000 ft above it, or less)."""


class Verdict(StrEnum):
    """A statement about a stretch of time: it is covered, or a gap."""

    COVERED = "covered"
    """All movements in it have been told."""
    GAP = "gap"
    """Positions will not tell its movements any more; the night's record may."""


@dataclass(frozen=True, slots=True)
class CoverageStatement:
    """A verdict about the time [begin, end) of one direction; each begins where the one before ended."""

    direction: Direction
    verdict: Verdict
    begin: float
    end: float


@dataclass(frozen=True, slots=True)
class LiveCoverage:
    """The state of one airport's coverage: the unbroken polls up to now, and how far coverage has been stated.

    Nothing is said before the airport is covered for the first time, nor when its sky is not heard any more.
    """

    row_since: float | None = None
    """The stated time of the first poll of the present row; None: there is none."""
    last: PollSummary | None = None
    """The last poll that counts, of this row or of one before."""
    heard_since: float | None = None
    """The stated time of the poll that first showed that the sky is heard; None: it is not."""
    low_at: float | None = None
    """The stated time of the last poll with a position near the ground."""
    said_until: Mapping[Direction, float] | None = None
    """By direction: the end of the last statement. None: nothing has been said."""


def fold_poll(
    coverage: LiveCoverage, rules: CoverageRules, poll: PollSummary
) -> tuple[LiveCoverage, list[CoverageStatement]]:
    """Return the coverage after a poll, and what can be said now that could not be said before.

    A poll counts if its stated time is later than that of the last one that counted, neither stale nor ahead, and there
    is a fresh position in the region. Any other is as good as none.
    """
    coverage, statements = fold_time(coverage, rules, poll.answered_at)
    if not _counts(coverage, rules, poll):
        return coverage, statements
    last, stated_at = coverage.last, poll.stated_at
    is_continued = (
        coverage.row_since is not None and last is not None and stated_at - last.stated_at <= rules.longest_pause_s
    )
    low_at, heard_since = coverage.low_at, coverage.heard_since
    if low_at is not None and stated_at - low_at > rules.heard_for_s:
        coverage = replace(coverage, said_until=None)
        low_at = heard_since = None
    if poll.low_positions > 0:
        low_at, heard_since = stated_at, heard_since if heard_since is not None else stated_at
    coverage = replace(
        coverage,
        row_since=coverage.row_since if is_continued else stated_at,
        last=poll,
        heard_since=heard_since,
        low_at=low_at,
    )
    coverage, more = _say_what_is_known(coverage, rules)
    return coverage, [*statements, *more]


def fold_time(coverage: LiveCoverage, rules: CoverageRules, now: float) -> tuple[LiveCoverage, list[CoverageStatement]]:
    """Return the coverage at `now` by our clock, without a poll, and what can be said: after a long pause, a gap.

    To be called whenever a poll has failed, and by a timer: the gap up to `now` is said at once, so that later windows
    are judged in time.
    """
    last = coverage.last
    if last is None or now - last.answered_at <= rules.longest_pause_s:
        return coverage, []
    coverage = replace(coverage, row_since=None)
    if coverage.low_at is not None and now - coverage.low_at > rules.heard_for_s:
        return replace(coverage, heard_since=None, low_at=None, said_until=None), []
    return _say_gap(coverage, dict.fromkeys(rules.turn_up_s, now))


def _counts(coverage: LiveCoverage, rules: CoverageRules, poll: PollSummary) -> bool:
    """Return True if a poll shows the sky as it is now, False if it is empty, stale, ahead, or stands still."""
    lag_s = poll.answered_at - poll.stated_at
    if poll.fresh_positions <= 0 or not -rules.longest_lead_s <= lag_s <= rules.longest_lag_s:
        return False
    return coverage.last is None or poll.stated_at > coverage.last.stated_at


def _say_what_is_known(coverage: LiveCoverage, rules: CoverageRules) -> tuple[LiveCoverage, list[CoverageStatement]]:
    """Return what the present row of polls covers and was not said yet, and the gap before it."""
    if coverage.row_since is None or coverage.last is None or coverage.heard_since is None:
        return coverage, []
    begin = max(coverage.row_since + rules.warm_up_s, coverage.heard_since)
    stated_at = coverage.last.stated_at
    # Also during the warm-up: what it lacks will not be covered, and is a gap as time passes.
    until = min(begin, stated_at, coverage.last.answered_at)
    coverage, statements = _say_gap(coverage, dict.fromkeys(rules.turn_up_s, until))
    said = dict(coverage.said_until or {})
    for direction, turn_up_s in rules.turn_up_s.items():
        start, end = max(said.get(direction, begin), begin), stated_at - turn_up_s
        if start < end:
            statements.append(CoverageStatement(direction, Verdict.COVERED, start, end))
            said[direction] = end
    return replace(coverage, said_until=said or None), statements


def _say_gap(coverage: LiveCoverage, until: Mapping[Direction, float]) -> tuple[LiveCoverage, list[CoverageStatement]]:
    """State a gap from the last statement of each direction to `until`; none of a direction that never was covered.

    Returns the coverage after it, and the statements.
    """
    said = dict(coverage.said_until or {})
    statements = [
        CoverageStatement(direction, Verdict.GAP, begin, until[direction])
        for direction, begin in said.items()
        if begin < until[direction]
    ]
    said |= {each.direction: each.end for each in statements}
    return replace(coverage, said_until=said or None), statements
