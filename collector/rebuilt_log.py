"""The messages about one airport and direction as they were published, rebuilt from what is stored of them. Pure.

The tables hold the outcome: which flights count, and where. In what order that became known follows from the ids of the
flights, which grow with each answer of the record, from when a day's record was proven, and from what was live. What is
exact and what is not: docs/adr/0061-alerts-from-the-collectors-tables.md. Instants are seconds since 1970.
"""

from bisect import bisect_right
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Final, NamedTuple
from zlib import crc32

from collector.live.movements import REVEALED_WITHIN_S
from collector.record_order import DAY_S, FlightGroup, RecordOrder
from collector.settled.reconciliation import MATCHED_WITHIN
from domain.interests import Direction
from domain.live_record import Provenance
from domain.traffic import Coverage, Observation
from domain.windows import HOUR_S

UNDECIDED_S: Final = MATCHED_WITHIN // MATCHED_WITHIN.resolution // 1_000_000
"""Seconds at the end of a day about whose live movements the next day's record decides."""
_RECORDED_AFTER_S: Final = 6 * HOUR_S
"""Time after its end at which a day's record is taken to have come, if nothing says when it was proven."""
_LIVE_LAG_S: Final = int(REVEALED_WITHIN_S) + 60
"""Time after which live coverage is taken to have been published."""


class LateFlight(NamedTuple):
    """A stored flight whose row is newer than the first one of a later day."""

    at: int
    """Begin of the hour or minute of its event time."""
    row_id: int
    was_live: bool
    """True if it has the event time of a live movement."""
    is_undecided: bool
    """True if it lies in the last minutes of its day, about which the next day's record decides."""


class MovementGroup(NamedTuple):
    """The live movements of one hour or minute, by what became of them."""

    at: int
    is_undecided: bool
    """True if they lie in the last minutes of their day, about which the next day's record decides."""
    recorded: int
    """Those that the record has: a stored flight has their event time."""
    taken_back: int
    """Those that were retracted, also because their flight was published by itself."""
    open: int
    """Those about which the record has not decided."""


@dataclass(frozen=True, slots=True)
class StoredDirection:
    """The stored rows of one airport and direction, from some instant on."""

    direction: Direction
    covered: tuple[int, int] | None = None
    """The settled coverage [begin, end); None: there is none."""
    earlier_days: frozenset[int] = frozenset()
    """Days (since 1970) that are covered, and were collected as history or before a gap."""
    history: Mapping[int, int] = field(default_factory=dict)
    """By earlier day that was published as history, from when on it was covered before that; its end if it was not."""
    flights: Sequence[FlightGroup] = ()
    """In the order of time."""
    late: Sequence[LateFlight] = ()
    """Those of `flights` that `RecordOrder.may_be_late` says."""
    movements: Sequence[MovementGroup] = ()
    stretches: Sequence[tuple[int, int]] = ()
    """Live coverage that was published, in order."""
    proven: Mapping[int, int] = field(default_factory=dict)
    """By day (since 1970), when its record was proven to be whole."""
    unit: int = HOUR_S
    """Seconds of a group: an hour or a minute."""

    def build_order(self) -> RecordOrder:
        """Build the order in which the record of each day was stored."""
        whole = [day for day, judged_from in self.history.items() if judged_from >= (day + 1) * DAY_S]
        return RecordOrder(self.flights, self.covered, self.earlier_days, whole)


class RebuiltMessage(NamedTuple):
    """A message, and its place in the order in which all messages of the airport were published."""

    at: int
    """The time of its publication, as far as the tables tell."""
    row_id: int
    """The lowest id of its flights' rows, or of the rows before it: the order of messages of the same instant."""
    observation: Observation


def rebuild_messages(
    parts: Sequence[StoredDirection], corrected_after_s: int, now: int, divided_at: Iterable[int] = ()
) -> list[RebuiltMessage]:
    """Return the messages about some directions in the order in which they were published, as far as can be said.

    `corrected_after_s`: seconds after the end of a day at which it is collected once more. Nothing is published after
    `now`. `divided_at`: instants before which, and after which, there are messages of their own: what was live is
    otherwise told at once, up to when the record of any direction came.
    """
    messages: list[RebuiltMessage] = []
    publications = []
    for stored in parts:
        order = stored.build_order()
        publications.append(_Publication(stored, order))
        times = _time_records(stored, order, now)
        messages += _rebuild_record(publications[-1], order, times, corrected_after_s)
    others = sorted({*divided_at, *[each.at for each in messages]})
    for publication in publications:
        messages += _rebuild_live(publication, others)
    messages.sort(key=lambda each: (each.at, each.row_id))
    return messages + [gap for stored in parts for gap in _rebuild_last_gap(stored, messages)]


def _rebuild_last_gap(stored: StoredDirection, messages: Sequence[RebuiltMessage]) -> Iterator[RebuiltMessage]:
    """Yield the message of a gap with which the coverage of a direction ends, if it does."""
    own = [each for each in messages if each.observation.direction is stored.direction]
    if stored.covered is None or not own:
        return
    known_until = max(each.observation.end for each in own)
    if known_until < stored.covered[1]:
        gap = Observation(stored.direction, known_until, stored.covered[1], (), Coverage.GAP)
        yield RebuiltMessage(max(messages[-1].at, stored.covered[1]), messages[-1].row_id, gap)


def _time_records(stored: StoredDirection, order: RecordOrder, now: int) -> dict[int, int]:
    """Return when the record of each ordinary day was stored: when it was proven, and not before the day before's."""
    times: dict[int, int] = {}
    last = 0
    for day in order.ordinary:
        end = (day + 1) * DAY_S
        last = times[day] = max(last, min(max(stored.proven.get(day, end + _RECORDED_AFTER_S), end), now))
    return times


class _Publication:
    """The flights of each message: what the record added and took back of each group, and the live movements."""

    def __init__(self, stored: StoredDirection, order: RecordOrder) -> None:
        self.stored = stored
        self.added: defaultdict[int, list[int]] = defaultdict(list)
        """By day, the event times that its record added."""
        self.corrected: defaultdict[tuple[int, int], list[LateFlight]] = defaultdict(list)
        """By the day before whose next record they were stored, and their own day: the flights of a correction."""
        self.taken: defaultdict[int, list[tuple[int, int]]] = defaultdict(list)
        """By day, the event times and fingerprints of the movements that its record took back."""
        self.live = {(each.at, each.is_undecided): each for each in stored.movements}
        self.live_times: dict[int, int] = {}
        """By group, the event time with which its movements were published."""
        self._days = {*order.ordinary, *order.history}
        self._sort_flights(order)

    def count_live(self, at: int) -> int:
        """Return how many movements of a group were published live."""
        groups = [self.live[key] for key in ((at, False), (at, True)) if key in self.live]
        return sum(each.recorded + each.taken_back + each.open for each in groups)

    def _sort_flights(self, order: RecordOrder) -> None:
        """Sort the flights into those that a record added, those of a correction, and those that were live before."""
        late: defaultdict[int, list[LateFlight]] = defaultdict(list)
        restored: defaultdict[tuple[int, bool], int] = defaultdict(int)
        for each in self.stored.late:
            day = each.at // DAY_S
            is_late = order.is_late(day, each.row_id)
            if each.was_live and each.is_undecided:  # the next day's record may have matched it
                is_late = is_late and order.is_late(day + 1, each.row_id)
            if is_late:
                late[each.at].append(each)
                restored[each.at, each.is_undecided] += each.was_live
        for group in self.stored.flights:
            day, own = group.at // DAY_S, late.get(group.at, [])
            recorded = sum(self.live[key].recorded for key in ((group.at, False), (group.at, True)) if key in self.live)
            matched = recorded - sum(each.was_live for each in own)
            self.added[day] += [group.at] * max(group.flights - len(own) - matched, 0)
            for each in own:
                before = order.find_day_before(each.row_id)
                self.corrected[day if before is None else before, day].append(each)
        self._split_days(order)
        taken: defaultdict[int, int] = defaultdict(int)
        for (at, is_undecided), movements in sorted(self.live.items()):
            number = movements.taken_back + restored[at, is_undecided]
            decider = at // DAY_S + is_undecided
            if number and decider in self._days:
                first, taken[at] = taken[at], taken[at] + number
                self.taken[decider] += [(at, compute_fingerprint(at, each)) for each in range(first, taken[at])]

    def _split_days(self, order: RecordOrder) -> None:
        """Take the flights from before the record's own part of a day out of it: they came with the day as history."""
        corrected = {day for _, day in self.corrected}
        for day in order.ordinary:
            if (judged_from := self.stored.history.get(day)) is None:
                continue
            early = [at for at in self.added[day] if at + self.stored.unit <= judged_from]
            if early or day not in corrected:  # it came also if nothing was new
                row_id = order.first_ids.get(day, 0)
                self.corrected[day, day] += [LateFlight(at, row_id, False, False) for at in early]
                self.added[day] = self.added[day][len(early) :]

    def list_taken(self, day: int) -> tuple[tuple[int, int], ...]:
        """Return event time, as published, and fingerprint of the movements that the record of a day takes back."""
        return tuple((self.live_times.get(at, at), fingerprint) for at, fingerprint in self.taken.get(day, ()))


def compute_fingerprint(at: int, number: int) -> int:
    """Return a fingerprint for one of the movements of a group: they are told apart by their number alone."""
    return crc32(b"%d" % number, at & 0xFFFFFFFF)


def _rebuild_record(
    publication: _Publication, order: RecordOrder, times: Mapping[int, int], corrected_after_s: int
) -> Iterator[RebuiltMessage]:
    """Yield the messages of the record: of the days in order, of their corrections, and of the history."""
    stored = publication.stored
    _place_live(publication)
    row_id = 0
    for day in order.ordinary:
        row_id = order.first_ids.get(day, row_id)
        yield RebuiltMessage(times[day], row_id, _observe_day(publication, day))
    yield from _rebuild_flights_of_today(publication, order, row_id)
    following = {day: times[later] for day, later in pairwise(order.ordinary)}
    for (before, day), late in publication.corrected.items():
        begin, end = _clip_day(stored, day)
        if day in stored.history:  # the whole day came again, as history
            begin = day * DAY_S
        at = max(times.get(before, end), min(end + corrected_after_s, following.get(before, end + corrected_after_s)))
        flights = tuple(each.at for each in late)
        yield RebuiltMessage(
            at,
            min([each.row_id for each in late], default=order.first_ids.get(day, 0)),
            Observation(stored.direction, begin, end, flights, Coverage.COMPLETE, is_history=day in stored.history),
        )
    newest = max(times.values(), default=0)
    at, row_id = min(times.values(), default=newest), 0
    for day in order.history:
        first_id = order.first_ids.get(day)
        if first_id is not None:
            known = order.find_day_before(first_id)
            row_id, at = first_id, max(at, times.get(known, at) if known is not None else at)
        yield RebuiltMessage(at, row_id, _observe_history(publication, day))


def _rebuild_flights_of_today(publication: _Publication, order: RecordOrder, row_id: int) -> Iterator[RebuiltMessage]:
    """Yield one PARTIAL message of the flights from after the coverage, which came before their day's record, or none.

    `row_id`: the lowest row of the last day that is covered.
    """
    stored = publication.stored
    if stored.covered is None:
        return
    end = stored.covered[1]
    times = sorted(at for day in publication.added if day >= end // DAY_S for at in publication.added[day] if at >= end)
    if times:
        first = order.first_ids.get(end // DAY_S, row_id)
        observation = Observation(stored.direction, end, times[-1] + stored.unit, tuple(times), Coverage.PARTIAL)
        yield RebuiltMessage(times[-1] + stored.unit, max(first, row_id), observation)


def _clip_day(stored: StoredDirection, day: int) -> tuple[int, int]:
    """Return begin and end of what the record covers of a day; of a day of history, of what it covered before."""
    begin, end = day * DAY_S, (day + 1) * DAY_S
    if day in stored.history:
        return stored.history[day], end
    if stored.covered is None or day in stored.earlier_days:
        return begin, end
    return max(begin, stored.covered[0]), min(end, stored.covered[1])


def _observe_day(publication: _Publication, day: int) -> Observation:
    """Return the observation with which the record covered a day."""
    begin, end = _clip_day(publication.stored, day)
    times = publication.added.get(day, [])  # in order
    if times and (times[0] < begin or times[-1] >= end):
        times = [max(at, begin) for at in times if at < end]
    taken = publication.list_taken(day)
    return Observation(publication.stored.direction, begin, end, tuple(times), Coverage.COMPLETE, retracted=taken)


def _observe_history(publication: _Publication, day: int) -> Observation:
    """Return the observation that brought a day as history, with its mark unless it is from before there was one."""
    stored, begin, times = publication.stored, day * DAY_S, tuple(publication.added.get(day, ()))
    return Observation(
        stored.direction,
        begin,
        begin + DAY_S,
        times,
        Coverage.COMPLETE,
        retracted=publication.list_taken(day),
        is_history=day in stored.history,
    )


def _place_live(publication: _Publication) -> None:
    """Decide with which event time the movements of each group count: within a stretch, if there is one."""
    stretches, unit = publication.stored.stretches, publication.stored.unit
    begins = [begin for begin, _ in stretches]
    for at in {each.at for each in publication.stored.movements}:
        place = bisect_right(begins, at) - 1
        if place >= 0 and stretches[place][1] > at:
            publication.live_times[at] = at
        elif place + 1 < len(stretches) and begins[place + 1] < at + unit:
            publication.live_times[at] = begins[place + 1]
        else:
            publication.live_times[at] = at


def _rebuild_live(publication: _Publication, others: Sequence[int]) -> Iterator[RebuiltMessage]:
    """Yield the messages of what was live: the stretches, cut where others came, each with its movements.

    `others`: when other messages came, in order.
    """
    stored = publication.stored
    waiting = sorted((time, at) for at, time in publication.live_times.items())
    cuts = [at - _LIVE_LAG_S for at in others]
    for begin, end in stored.stretches:
        inner = cuts[bisect_right(cuts, begin) : bisect_right(cuts, end)]
        for first, last in pairwise(sorted({begin, *inner, end})):
            while waiting and waiting[0][0] < first:
                yield _observe_uncovered(publication, *waiting.pop(0))
            own = []
            while waiting and waiting[0][0] < last:
                own.append(waiting.pop(0))
            at = last + _LIVE_LAG_S - 1  # before the message that it is cut for
            yield RebuiltMessage(at, 0, _observe_live(publication, first, last, own, Coverage.COMPLETE))
    for time, at in waiting:
        yield _observe_uncovered(publication, time, at)


def _observe_uncovered(publication: _Publication, time: int, at: int) -> RebuiltMessage:
    """Return the message of the movements of a group that no stretch of live coverage holds."""
    end = at + publication.stored.unit
    # It begins in time that was told: what a message skips would be a gap.
    observation = _observe_live(publication, at - 5 * DAY_S, end, [(time, at)], Coverage.PARTIAL)
    return RebuiltMessage(end + _LIVE_LAG_S, 0, observation)


def _observe_live(
    publication: _Publication, begin: int, end: int, groups: Iterable[tuple[int, int]], coverage: Coverage
) -> Observation:
    """Return an observation of [begin, end) with the movements of some groups, each with its event time."""
    numbered = [(time, at, number) for time, at in groups for number in range(publication.count_live(at))]
    return Observation(
        publication.stored.direction,
        begin,
        end,
        tuple(time for time, _, _ in numbered),
        coverage,
        tuple(compute_fingerprint(at, number) for _, at, number in numbered),
        provenance=Provenance.LIVE,
    )
