"""Traffic: the hourly flight counts and the coverage of one airport, folded from the collector's observations.

The fold is pure. Times are whole hours and whole seconds since 1970 (UTC), because this is the hot path.
"""

from bisect import bisect_left
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from itertools import compress
from operator import is_not
from typing import Final, assert_never

from domain.corrections import Correction, KnownDirection, add_correction, build_correction
from domain.hourly_counts import DAY_HOURS, DAY_QUARTERS, HourlyCounts, SplitDays, count_by_hour, split_no_day
from domain.interests import Direction
from domain.intervals import Intervals, clip_intervals, cut_interval, merge_intervals, subtract_intervals
from domain.known_flights import KnownFlights, add_flights, drop_days, retract_flights
from domain.live_record import LiveRecord, Provenance, record_message
from domain.observations import (
    LONGEST_INTERVAL_S as LONGEST_INTERVAL_S,
    RETAINED_HOURS as RETAINED_HOURS,
    Coverage as Coverage,
    Observation as Observation,
)
from domain.usual import NO_USUAL, Usual
from domain.windows import HOUR_S

_DAY_S: Final = DAY_HOURS * HOUR_S

MAX_DAYS: Final = RETAINED_HOURS // DAY_HOURS + 1 + LONGEST_INTERVAL_S // HOUR_S // DAY_HOURS
"""Days that have counts at the same time, at most: the retained days, the current day, and the longest interval."""


@dataclass(frozen=True, slots=True)
class DirectionTraffic:
    """The traffic of one direction at one airport: hourly counts, and the time for which they are complete."""

    counts: HourlyCounts = field(default_factory=HourlyCounts)
    covered_from: int | None = None
    """The start of coverage (seconds since 1970); None before the first coverage."""
    watermark: int | None = None
    """The end of coverage (seconds since 1970); None before the first coverage."""
    gaps: Intervals = ()
    """Intervals between the start and the end of coverage that are not covered; adjacent intervals are merged."""
    known: KnownFlights = field(default_factory=dict)
    """The flights of the retained days that can be retracted."""
    corrections: tuple[Correction, ...] = ()
    """The messages that changed what was known of the retained days, in their order."""
    forgotten: Mapping[int, int] = field(default_factory=dict)
    """By day (since 1970), the number of corrections that changed it and are kept no longer, because of too many."""
    live: LiveRecord | None = None
    """The record of what was told from positions; None: nothing ever was."""
    history: Intervals = ()
    """Intervals whose flights were told as history while nothing else covered them: known for what is usual, and never
    judged, also if they are covered later. Adjacent intervals are merged."""

    def fold(self, observation: Observation, splits: SplitDays = split_no_day) -> "DirectionTraffic":
        """Return the traffic after an observation: flights counted, coverage or gap added, expired days discarded.

        `splits`: the days whose flights are also counted by quarters of an hour.

        The first COMPLETE observation starts the coverage. From then on the watermark moves (never back) to the end of
        an observation that is COMPLETE or GAP, to its begin if it is PARTIAL; an interval between the watermark and the
        begin, which the collector skipped, becomes a gap. COMPLETE also fills what was unknown in its interval: gaps in
        it are cut out; if it begins before the coverage, coverage begins there, with a gap up to the former start.
        An observation of history changes neither the coverage nor its gaps: see `history`.
        """
        if observation.is_history:
            return self._fold_history(observation, splits)
        # An interval that the collector skipped is a gap, until an observation fills it.
        after = self._with_gap_until(observation.begin)
        match observation.coverage:
            case Coverage.COMPLETE:
                after = after._with_coverage(observation.begin, observation.end)
            case Coverage.GAP:
                after = after._with_gap_until(observation.end)
            case Coverage.PARTIAL:
                pass
            case _:
                assert_never(observation.coverage)
        counted = after._without_expired_coverage()._with_flights_of(observation, splits)
        return counted._with_provenance_of(observation, self)

    def _fold_history(self, observation: Observation, splits: SplitDays) -> "DirectionTraffic":
        """Return the traffic after an observation of history: flights are counted, COMPLETE makes its interval known.

        What is covered already stays as it is: the record of such a time corrects its counts.
        """
        after = self
        if observation.coverage is Coverage.COMPLETE:
            begin, end = observation.begin, observation.end
            if self.watermark is not None:
                begin, end = max(begin, find_oldest_coverage(self.watermark)), min(end, self.watermark)
            unknown = subtract_intervals(self._list_uncovered(begin, end), self.history)
            if unknown:
                after = replace(self, history=merge_intervals([*self.history, *unknown]))
        return after._with_flights_of(observation, splits)._with_provenance_of(observation, self)

    @property
    def known_from(self) -> int | None:
        """The earliest time (seconds since 1970) of which all flights are known, covered or as history; None: none."""
        if not self.history:
            return self.covered_from
        first = self.history[0][0]
        return first if self.covered_from is None else min(first, self.covered_from)

    def is_known(self, begin: int, end: int) -> bool:
        """Return True if all flights of [begin, end) (seconds since 1970) are known, by coverage or as history.

        False if any part of it is neither covered nor history.
        """
        is_within = self.covered_from is not None and self.covered_from <= begin and end <= (self.watermark or 0)
        if is_within and not (self.gaps and self.has_gap_in(begin, end)):
            return True
        return bool(self.history) and not subtract_intervals(self._list_uncovered(begin, end), self.history)

    def has_history_in(self, begin: int, end: int) -> bool:
        """Return True if a part of [begin, end) (seconds since 1970) is known as history alone, False if none is."""
        return any(first < end and last > begin for first, last in self.history)

    def _list_uncovered(self, begin: int, end: int) -> Intervals:
        """Return the parts of [begin, end) that are not covered: before the coverage, in gaps, or after it."""
        if self.covered_from is None or self.watermark is None:
            return merge_intervals([(begin, end)])
        before, after = (begin, min(end, self.covered_from)), (max(begin, self.watermark), end)
        return merge_intervals([before, *clip_intervals(self.gaps, begin, end), after])

    def _with_provenance_of(self, observation: Observation, before: "DirectionTraffic") -> "DirectionTraffic":
        """Return a copy that records where an observation comes from, or self; `before`: the traffic before it."""
        if before.live is None and observation.provenance is Provenance.SETTLED:
            return self
        is_complete = observation.coverage is Coverage.COMPLETE
        live = record_message(
            before.live, observation.provenance, observation.begin, observation.end, is_complete, before.watermark
        )
        return self if live == before.live else replace(self, live=live)

    @property
    def settled_until(self) -> int | None:
        """The end of what the settled record has covered (seconds since 1970); None if the record has covered nothing.

        Without positions that is the watermark.
        """
        return self.watermark if self.live is None else self.live.settled_until

    @property
    def is_live(self) -> bool:
        """True if its newest coverage comes from positions; False: from the settled record, or nothing is covered."""
        live, end = self.live, self.watermark
        return live is not None and end is not None and live.is_unsettled(end - 1, end)

    @property
    def first_retained_day(self) -> int:
        """The first day (since 1970) whose counts are retained, also if coverage began later and may be filled to it.

        RETAINED_HOURS before the watermark's day, but at most MAX_DAYS before the last day with counts; before the
        first coverage: RETAINED_HOURS before the last day with counts.
        """
        if self.watermark is not None:
            return max(find_oldest_coverage(self.watermark) // _DAY_S, self.counts.end_day - MAX_DAYS)
        return self.counts.end_day - 1 - RETAINED_HOURS // DAY_HOURS

    @property
    def is_truncated(self) -> bool:
        """True if windows before the start of coverage were covered once, and were discarded; False if none was."""
        return self.watermark is not None and self.covered_from == find_oldest_coverage(self.watermark)

    def _with_flights_of(self, observation: Observation, splits: SplitDays) -> "DirectionTraffic":
        """Return a copy that counts the observation's valid flights and drops the days older than the retention.

        Flights that it retracts are taken away first, if they are known. Flights of dropped days are not counted. The
        oldest day is RETAINED_HOURS before the watermark's day, but at most MAX_DAYS before the last day with counts;
        before the first coverage it is RETAINED_HOURS before the observation's day or the last stored day, whichever is
        later. Returns self if nothing changes.
        """
        times, fingerprints = observation.list_valid_flights()
        hours, quarters = count_by_hour(times, splits)
        if self.watermark is not None:
            # The second limit is never reached if times go forward; a log that jumps back for years must not take
            # the memory of all the days in between.
            end = max([self.counts.end_day, *[hour // DAY_HOURS + 1 for hour in hours]])
            if quarters:
                end = max(end, *[quarter // DAY_QUARTERS + 1 for quarter in quarters])
            oldest = max(find_oldest_coverage(self.watermark) // _DAY_S, end - MAX_DAYS)
        else:
            oldest = max(observation.begin // _DAY_S, self.counts.end_day - 1) - RETAINED_HOURS // DAY_HOURS
        retained = self.counts.without_days_before(oldest)
        known = drop_days(self.known, oldest)
        if observation.retracted:
            retained, known = retract_flights(observation.retracted, retained, known, splits)
        counts = retained.with_changes(
            {hour: more for hour, more in hours.items() if hour >= oldest * DAY_HOURS},
            quarters and {quarter: more for quarter, more in quarters.items() if quarter >= oldest * DAY_QUARTERS},
        )
        known = add_flights(known, times, fingerprints, oldest)
        flow = self
        if counts is not self.counts or known is not self.known:
            flow = self._with_counts(counts, known)
        return flow._without_corrections_before(oldest)

    def _without_corrections_before(self, oldest: int) -> "DirectionTraffic":
        """Return a copy without the corrections that changed only days before `oldest` (since 1970), or self."""
        if not self.corrections and not self.forgotten:
            return self
        if not any(each.day < oldest for each in self.corrections) and not any(day < oldest for day in self.forgotten):
            return self
        return replace(
            self,
            corrections=tuple(each for each in self.corrections if each.day >= oldest),
            forgotten={day: number for day, number in self.forgotten.items() if day >= oldest},
        )

    def find_changed_days(self, earlier: "DirectionTraffic") -> list[int]:
        """Return, in order, the retained days (since 1970) of which something differs from `earlier`.

        Compared are counts, known flights and corrections.
        """
        since, counts = self.first_retained_day, self.counts
        days = set(counts.find_changed_days(earlier.counts, since))
        if self.known is not earlier.known:
            now, then = self.known, earlier.known
            # The flights of a day that has not changed are the same object.
            days.update(compress(now, map(is_not, now.values(), map(then.get, now))))
            days.update(then.keys() - now.keys())
        if self.corrections is not earlier.corrections:
            days.update(each.day for each in set(self.corrections).symmetric_difference(earlier.corrections))
            days.update(day for day, number in self.forgotten.items() if earlier.forgotten.get(day) != number)
        return sorted([day for day in days if day >= since])

    def _with_coverage(self, begin: int, end: int) -> "DirectionTraffic":
        """Return a copy in which [begin, end) is covered: the watermark moves to `end`, but never back.

        Gaps in the interval are cut out. `begin` is the start of coverage if nothing was covered before it; what lies
        between `end` and a later start of coverage becomes a gap. Nothing before the retained hours is covered.
        """
        if self.watermark is None or self.covered_from is None:
            return replace(self, covered_from=begin, watermark=end)
        watermark = max(self.watermark, end)
        if begin >= self.watermark:
            return self._with_watermark(watermark)
        gaps, covered_from = cut_interval(self.gaps, begin, end), self.covered_from
        begin = max(begin, find_oldest_coverage(watermark))
        if begin < min(end, covered_from):
            if end < covered_from:
                gaps = merge_intervals([(end, covered_from), *gaps])
            covered_from = begin
        return replace(self, covered_from=covered_from, watermark=watermark, gaps=gaps)

    def _with_watermark(self, watermark: int) -> "DirectionTraffic":
        """Return a copy with another watermark. Called for each batch: `replace` takes three times as long."""
        return DirectionTraffic(
            self.counts, self.covered_from, watermark, self.gaps, self.known, self.corrections, self.forgotten,
            self.live, self.history,
        )  # fmt: skip

    def _with_counts(self, counts: HourlyCounts, known: KnownFlights) -> "DirectionTraffic":
        """Return a copy with other counts and known flights. For each batch: `replace` takes three times as long."""
        return DirectionTraffic(
            counts, self.covered_from, self.watermark, self.gaps, known, self.corrections, self.forgotten,
            self.live, self.history,
        )  # fmt: skip

    def list_filled(self, earlier: "DirectionTraffic") -> Intervals:
        """Return the intervals before the earlier watermark of which more is known than in `earlier`.

        These are the gaps that were filled since, and all between the start of coverage and a later one in `earlier`.
        """
        if self.gaps is earlier.gaps and self.covered_from == earlier.covered_from:
            return ()
        if self.covered_from is None or earlier.covered_from is None or earlier.watermark is None:
            return ()
        gaps = clip_intervals(earlier.gaps, self.covered_from, earlier.watermark)
        filled = subtract_intervals(gaps, self.gaps)
        if self.covered_from < earlier.covered_from:
            filled = merge_intervals([(self.covered_from, earlier.covered_from), *filled])
        return filled

    def _with_gap_until(self, end: int) -> "DirectionTraffic":
        """Return a copy with a gap from the watermark to `end`, which becomes the watermark.

        The gap is merged with an adjacent gap before it. Returns self before the first coverage (all is unknown there)
        or if the watermark has reached `end` already.
        """
        if self.watermark is None or end <= self.watermark:
            return self
        begin, gaps_before = self.watermark, self.gaps
        if gaps_before and gaps_before[-1][1] == begin:
            begin, gaps_before = gaps_before[-1][0], gaps_before[:-1]
        return replace(self, gaps=(*gaps_before, (begin, end)), watermark=end)

    def _without_expired_coverage(self) -> "DirectionTraffic":
        """Return a copy whose coverage begins RETAINED_HOURS before the watermark's day, or later.

        Gaps that end before that are dropped, and history from before it. Returns self if nothing is too old.
        """
        if self.watermark is None or self.covered_from is None:
            return self
        oldest = find_oldest_coverage(self.watermark)
        retained = self
        if self.history and self.history[0][0] < oldest:
            retained = replace(self, history=cut_interval(self.history, self.history[0][0], oldest))
        if oldest <= self.covered_from:
            return retained
        return replace(retained, covered_from=oldest, gaps=tuple(gap for gap in self.gaps if gap[1] > oldest))

    def has_gap_in(self, begin: int, end: int) -> bool:
        """Return True if a gap overlaps [begin, end) (seconds since 1970), False if none does."""
        before_end = bisect_left(self.gaps, (end,))  # gaps are in order and do not overlap
        return before_end > 0 and begin < self.gaps[before_end - 1][1]


@dataclass(frozen=True, slots=True)
class Traffic:
    """The traffic of one airport, arrivals and departures; immutable: folding an observation returns a new one."""

    arrivals: DirectionTraffic = DirectionTraffic()
    departures: DirectionTraffic = DirectionTraffic()
    usual: Usual = NO_USUAL
    """The usual counts of the windows that were reached (`domain.usual_fold`). `fold` does not change them."""

    def select_directions(self, direction: Direction) -> tuple[DirectionTraffic, ...]:
        """Return the traffic of each part of a direction: arrivals and departures for BOTH, else one."""
        if direction is Direction.BOTH:
            return (self.arrivals, self.departures)
        return (self.arrivals,) if direction is Direction.ARRIVALS else (self.departures,)

    def without_direction(self, direction: Direction) -> "Traffic":
        """Return a copy in which nothing is known of one direction, ARRIVALS or DEPARTURES; the other stays."""
        usual = self.usual.without_direction(direction)
        if direction is Direction.ARRIVALS:
            return replace(self, arrivals=DirectionTraffic(), usual=usual)
        return replace(self, departures=DirectionTraffic(), usual=usual)

    def with_usual(self, usual: Usual) -> "Traffic":
        """Return a copy with another record of what is usual."""
        return Traffic(self.arrivals, self.departures, usual)

    def fold(self, observation: Observation, splits: SplitDays = split_no_day) -> "Traffic":
        """Return the traffic after an observation: the traffic of the observation's direction changes, the other stays.

        `splits`: the days whose flights are also counted by quarters of an hour (`domain.calendar`). An observation
        that changes what was known is recorded among the direction's corrections. Raises ValueError if the
        observation's direction is BOTH.
        """
        if observation.direction is Direction.BOTH:
            raise ValueError("an observation is of arrivals or of departures, not of both")
        is_arrivals = observation.direction is Direction.ARRIVALS
        old, other = (self.arrivals, self.departures) if is_arrivals else (self.departures, self.arrivals)
        new = old.fold(observation, splits)
        filled = new.list_filled(old)
        if filled or observation.may_correct(old.watermark):
            new = _record_correction(old, new, other, filled)
        return Traffic(new, other, self.usual) if is_arrivals else Traffic(other, new, self.usual)


def find_oldest_coverage(watermark: int) -> int:
    """Return the earliest start of coverage that is remembered at a watermark (both seconds since 1970)."""
    return watermark // _DAY_S * _DAY_S - RETAINED_HOURS * HOUR_S


def _record_correction(
    old: DirectionTraffic, new: DirectionTraffic, other: DirectionTraffic, filled: Intervals
) -> DirectionTraffic:
    """Return one direction's traffic after a message, with a record of the message if it is a correction.

    `old`, `new`: before and after the message; `other`: the other direction; `filled`: what the message filled. A
    message that filled nothing, and changed no count or only added flights to hours which were not covered to their
    end, is no correction; then returns `new`. Changes of days before the old start of coverage are not recorded: no
    window of them could be judged.
    """
    if old.watermark is None or new.watermark is None or old.covered_from is None or new.covered_from is None:
        return new
    since = max(old.covered_from // _DAY_S, new.first_retained_day)
    before, after, others = (KnownDirection(each.counts, each.watermark) for each in (old, new, other))
    number = 1 + max([each.number for part in (old, other) for each in part.corrections], default=0)
    covered_from_before = old.covered_from if new.covered_from < old.covered_from else None
    correction = build_correction(number, before, after, others, since, filled, covered_from_before)
    if correction is None:
        return new
    corrections, forgotten = add_correction(new.corrections, new.forgotten, correction)
    return replace(new, corrections=corrections, forgotten=forgotten)
