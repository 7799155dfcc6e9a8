"""What is to be said because an airport's traffic has become another.

Everything that has ever to be said follows from the traffic alone, so what an event adds is the difference between
the traffic before and after it, and no memory of former alerts is needed: the same log gives the same alert ids,
however it was cut, repeated or interrupted.
"""

from collections.abc import Container, Iterator, Mapping
from datetime import datetime
from typing import Final, NamedTuple, assert_never

from domain.alerts import Alert, AlertState, Bound, alert_id, list_thresholds
from domain.episodes import Lookback
from domain.interests import Direction, Interest
from domain.rule import (
    ANY_THRESHOLD,
    BEYOND,
    NO_HIGH,
    NO_LOW,
    NO_STATES,
    StateRanges,
    ThresholdRange,
    first_window,
    judge_high,
    judge_low,
)
from domain.traffic import DAY_HOURS, DirectionTraffic, Traffic
from domain.window_counts import WindowCounts
from domain.windows import HOUR_S, Window, instant

NO_TRAFFIC: Final = Traffic()


class RangeAlert(NamedTuple):
    """Something that is to be said of a window now and was not before, of all thresholds of a stretch."""

    number: int
    bound: Bound
    state: AlertState
    stretch: ThresholdRange
    is_first: bool
    """Of the interests whose first window is `for_windows` - 1 before this one; else of those that began earlier."""
    for_repeat: bool
    """Only of interests that want to be told again in each window."""
    flights: int | None
    """In the window; None: so many as passed the threshold, because the window is still open."""
    withdrawn_flights: int | None = None
    """With WITHDRAWN: of how many the withdrawn alert spoke."""

    def concerns(self, first_window: int, for_windows: int, repeat: bool) -> bool:
        """Whether an interest is meant, by its first window; its threshold is another question."""
        if self.for_repeat and not repeat:
            return False
        begins = self.number - for_windows
        return first_window == begins + 1 if self.is_first else first_window <= begins


class _Extent(NamedTuple):
    """Of what changed in a direction: from which hour to which, and how far it is known. Hours since 1970."""

    first: int
    last: int
    covered_before: int | None
    """Up to where (seconds) all of its flows were covered before; None: not all were."""
    covered: int
    last_with_flights: int
    """The last hour that is covered, or has flights."""
    from_the_beginning: bool
    """All that is known is news, because one of the flows is covered for the first time."""


class TrafficChange:
    """What became of an airport's traffic, and so what is to be said. With `before` = NOTHING_KNOWN: all so far."""

    def __init__(self, before: Traffic, after: Traffic) -> None:
        self._before, self._after = before, after
        changes = {
            Direction.ARRIVALS: _changed_hours(before.arrivals, after.arrivals),
            Direction.DEPARTURES: _changed_hours(before.departures, after.departures),
        }
        self._extents = {direction: self._extent(direction, changes) for direction in Direction}
        self._windows: dict[tuple[Direction, Window], tuple[WindowCounts, WindowCounts]] = {}
        self._lookbacks: dict[tuple[Direction, Window], tuple[Lookback, Lookback]] = {}

    def _extent(self, direction: Direction, all_changes: Mapping[Direction, tuple[int, int] | None]) -> _Extent | None:
        """None where there is nothing to be said: nothing changed, or not all of its flows are covered yet."""
        changes = [change for part in direction.parts if (change := all_changes[part]) is not None]
        covered, covered_before = _covered_to(self._after, direction), _covered_to(self._before, direction)
        if not changes or covered is None:
            return None
        return _Extent(
            first=min([first for first, _ in changes]),
            last=max([last for _, last in changes]),
            covered_before=covered_before,
            covered=covered,
            last_with_flights=max([_last_hour(flow) for flow in self._after.flows(direction)]),
            from_the_beginning=covered_before is None,
        )

    def _pair(self, direction: Direction, window: Window) -> tuple[WindowCounts, WindowCounts]:
        """The windows before and after."""
        key = direction, window
        pair = self._windows.get(key)
        if pair is None:
            pair = self._windows[key] = WindowCounts(self._before, *key), WindowCounts(self._after, *key)
        return pair

    def touched(self, direction: Direction, window: Window, for_windows: int) -> list[int]:
        """The windows of which something else may be said, in order: those that changed, and that look back at them."""
        extent = self._extents[direction]
        if extent is None:
            return []
        _, now = self._pair(direction, window)
        first, last = now.first or 0, extent.last_with_flights // window.hours
        # With its first coverage a direction makes all that is known of the other worth judging; later, only what it
        # adds.
        if not extent.from_the_beginning:
            first, last = max(first, extent.first // window.hours), min(last, extent.last // window.hours + for_windows)
        # Nothing is said of a window that is open and has no flights yet.
        return [number for number in range(first, last + 1) if (each := now[number]).closed or each.flights]

    def is_quiet(
        self, direction: Direction, window: Window, for_windows: int, low: int | None, high: int | None
    ) -> bool:
        """Whether for sure none of the counts that matter is past any threshold: a quick answer, and mostly enough.

        `low` and `high`: the highest low threshold and the lowest high one; None: there is none.
        """
        extent = self._extents[direction]
        if extent is None:
            return True
        hours = window.hours
        length = hours * HOUR_S
        first, last = extent.first // hours, extent.last_with_flights // hours
        closed_until = extent.covered // length
        if extent.covered_before is None or first < extent.covered_before // length:
            return False  # what was said of closed windows may be another now
        if closed_until != extent.covered_before // length:
            first -= for_windows  # what closes now is compared with the windows before it
        most = least = 0
        for flow in self._after.flows(direction):
            counts = flow.counts.between(first * hours, (last + 1) * hours)
            if hours > 1:
                counts = tuple([sum(counts[at : at + hours]) for at in range(0, len(counts), hours)])
            most += max(counts)
            least += min(counts[: closed_until - first], default=0)
        return (high is None or most <= high) and (low is None or closed_until <= first or least >= low)

    def crossings(
        self, direction: Direction, window: Window, for_windows: int, ready: Container[int]
    ) -> Iterator[tuple[int, ThresholdRange, ThresholdRange]]:
        """By window the high and the low thresholds that its counts may have crossed, for runs of up to `for_windows`.

        There is nothing new to be said of any other, but for STILL to those who asked for it. `ready`: the windows
        that are the first ones in which runs of some interests can be complete.
        """
        for number in self.touched(direction, window, for_windows):
            yield number, *_crossed(*self._pair(direction, window), number, for_windows, number in ready)

    def news(
        self, direction: Direction, window: Window, number: int, for_windows: int, bound: Bound
    ) -> list[RangeAlert]:
        """What is to be said of a window, in the order in which it is."""
        then, now = self._pair(direction, window)
        match bound:
            case Bound.HIGH:
                return [*_high_news(then, now, number, for_windows)]
            case Bound.LOW:
                return [*_low_news(then, now, number, for_windows)]
            case _:
                assert_never(bound)

    def lookbacks(self, direction: Direction, window: Window) -> tuple[Lookback, Lookback]:
        """What lay behind the windows before the change, and what does after it."""
        key = direction, window
        lookbacks = self._lookbacks.get(key)
        if lookbacks is None:
            then, now = self._pair(direction, window)
            lookbacks = self._lookbacks[key] = Lookback(then), Lookback(now)
        return lookbacks


def _covered_to(traffic: Traffic, direction: Direction) -> int | None:
    """Up to where (seconds) all flows of a direction are covered; None: not all are."""
    covered: int | None = None
    for flow in traffic.flows(direction):
        if flow.watermark is None:
            return None
        covered = flow.watermark if covered is None else min(covered, flow.watermark)
    return covered


def _last_hour(flow: DirectionTraffic) -> int:
    """The last hour that has flights, or is covered."""
    counts = flow.counts
    covered = (flow.watermark or 0) // HOUR_S
    if not counts.days:
        return covered
    last = counts.days[-1]
    return max(covered, next((counts.end_hour - back for back in range(1, DAY_HOURS + 1) if last[-back]), 0))


def _crossed(
    then: WindowCounts, now: WindowCounts, number: int, for_windows: int, is_ready: bool
) -> tuple[ThresholdRange, ThresholdRange]:
    standing, before = now[number], then[number]
    if standing.lost:
        return ANY_THRESHOLD, ANY_THRESHOLD
    last = now[number - 1]
    flights, earlier = standing.flights, before.flights
    least = most = last.flights
    as_before = True
    for back in range(number - for_windows, number):
        each = now[back]
        if each.lost:
            return ANY_THRESHOLD, ANY_THRESHOLD
        if each.flights < least:
            least = each.flights
        elif each.flights > most:
            most = each.flights
        as_before = as_before and each == then[back]
    if as_before and standing == before:
        return NO_HIGH, NO_LOW
    high, low = NO_HIGH, NO_LOW
    passed = earlier if as_before else 0  # what was passed before, has fired
    if last.closed:
        # FIRING needs one of the windows before not to pass the threshold, RESOLVED that the last one does.
        if not standing.closed:
            high = ThresholdRange(max(least, passed), flights)
        else:
            high = ThresholdRange(min(least, flights), max(last.flights, flights))
            # What was said of a low count may have to be withdrawn.
            low = ThresholdRange(0 if before.closed else min(flights, last.flights) + 1, max(flights, most) + 1)
    if is_ready:  # for some no window before was a breach
        high = ThresholdRange(min(high.begin, passed) if last.closed else passed, max(high.end, flights))
        if standing.closed:
            low = ThresholdRange(min(low.begin, flights + 1), BEYOND)
    return high, low


def _changed_hours(old: DirectionTraffic, new: DirectionTraffic) -> tuple[int, int] | None:
    """The first and the last hour in which two states of a flow differ, or None."""
    if old is new:
        return None
    hours: list[int] = []
    if old.watermark != new.watermark:
        hours += [(old.watermark or new.covered_from or 0) // HOUR_S, (new.watermark or 0) // HOUR_S]
    days = new.counts.changed_since(old.counts)
    for day in days[:1] + days[-1:]:
        earlier, later = old.counts.day(day), new.counts.day(day)
        changed = [at for at in range(DAY_HOURS) if earlier[at] != later[at]]
        hours += [day * DAY_HOURS + at for at in changed[:1] + changed[-1:]]
    return (min(hours), max(hours)) if hours else None


def _high_news(then: WindowCounts, now: WindowCounts, number: int, for_windows: int) -> Iterator[RangeAlert]:
    for is_first in (False, True):
        new = judge_high(now, number, for_windows, is_first)
        if new is NO_STATES:
            continue
        old = judge_high(then, number, for_windows, is_first)
        if new == old:
            continue
        window = now[number]
        # An early high tells the count that passed the threshold, whatever else came in the same batch.
        count = window.flights if window.closed else None
        for state, stretches in _differences(new, old):
            for stretch in stretches:
                yield RangeAlert(number, Bound.HIGH, state, stretch, is_first, state is AlertState.STILL, count)


def _low_news(then: WindowCounts, now: WindowCounts, number: int, for_windows: int) -> Iterator[RangeAlert]:
    for is_first in (False, True):
        old = judge_low(then, number, for_windows, is_first)
        new = judge_low(now, number, for_windows, is_first)
        if new == old:
            continue
        count = now[number].flights
        if old is not NO_STATES:
            # Counts only grow, so what was in breach and still is has a higher threshold than what no longer is.
            in_breach = BEYOND if new is NO_STATES else min(new.firing.begin, new.still.begin)
            said = then[number].flights
            for stretch, for_repeat in ((old.firing, False), (old.still, True)):
                gone = ThresholdRange(stretch.begin, min(stretch.end, in_breach))
                if gone.begin < gone.end:
                    yield RangeAlert(number, Bound.LOW, AlertState.WITHDRAWN, gone, is_first, for_repeat, count, said)
        for state, stretches in _differences(new, old):
            for stretch in stretches:
                yield RangeAlert(number, Bound.LOW, state, stretch, is_first, state is AlertState.STILL, count)


def _differences(new: StateRanges, old: StateRanges) -> Iterator[tuple[AlertState, list[ThresholdRange]]]:
    """By state: the thresholds of which it is said now and was not."""
    yield AlertState.FIRING, _without(new.firing, old.firing)
    yield AlertState.RESOLVED, _without(new.resolved, old.resolved)
    yield AlertState.STILL, _without(new.still, old.still)


def _without(new: ThresholdRange, old: ThresholdRange) -> list[ThresholdRange]:
    """What is in `new` and not in `old`."""
    if new.begin >= new.end:
        return []
    if old.begin >= old.end or old.end <= new.begin or new.end <= old.begin:
        return [new]
    parts = (ThresholdRange(new.begin, old.begin), ThresholdRange(old.end, new.end))
    return [part for part in parts if part.begin < part.end]


def alerts_between(interest: Interest, before: Traffic, after: Traffic) -> Iterator[Alert]:
    """What is to be said of an interest because `before` has become `after`, in the order of the windows.

    With `before` = NOTHING_KNOWN: all that is to be said so far, for an interest that was just set.
    """
    first = first_window(interest)
    thresholds = list_thresholds(interest)
    change, kind = TrafficChange(before, after), (interest.direction, interest.window)
    for number in change.touched(*kind, interest.for_windows):
        if number < first:
            continue  # before it was for it
        for bound, threshold in thresholds:
            for news in change.news(*kind, number, interest.for_windows, bound):
                if news.stretch.begin <= threshold < news.stretch.end and news.concerns(
                    first, interest.for_windows, interest.repeat
                ):
                    yield alert_of(interest, change, news, threshold)


def alert_of(interest: Interest, change: TrafficChange, news: RangeAlert, threshold: int) -> Alert:
    """The alert that tells news of a change to somebody who has this threshold."""
    start = _start(interest, news.number)
    own_id = alert_id(interest.interest_id, interest.version, news.bound, start, news.state)
    then, now = change.lookbacks(interest.direction, interest.window)
    episode_id = own_id
    if news.state is not AlertState.FIRING:
        began = _episode_begin(interest, then if news.state is AlertState.WITHDRAWN else now, news, threshold)
        episode_id = alert_id(
            interest.interest_id, interest.version, news.bound, _start(interest, began), AlertState.FIRING
        )
    return Alert(
        alert_id=own_id,
        interest_id=interest.interest_id,
        user_id=interest.user_id,
        version=interest.version,
        airport=interest.airport,
        direction=interest.direction,
        window=interest.window,
        window_start=start,
        bound=news.bound,
        state=news.state,
        count=threshold + 1 if news.flights is None else news.flights,
        threshold=threshold,
        for_windows=interest.for_windows,
        withdrawn_count=news.withdrawn_flights,
        earlier=now.earlier(news.number),
        episode_id=episode_id,
    )


def _start(interest: Interest, number: int) -> datetime:
    return instant(number * interest.window.hours * HOUR_S)


def _episode_begin(interest: Interest, lookback: Lookback, news: RangeAlert, threshold: int) -> int:
    """The window of the FIRING with which the breach began that the news is of; the news is no FIRING itself."""
    if news.state is AlertState.WITHDRAWN and not news.for_repeat:
        return news.number  # what is withdrawn was a FIRING: a STILL is only for those who want to be told again
    # A breach needs so many windows in a row, all of them the interest's; with the last of the first ones it began.
    begin = max(lookback.run_begin(news.bound, threshold, news.number), first_window(interest))
    return begin + interest.for_windows - 1
