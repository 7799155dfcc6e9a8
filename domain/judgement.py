"""The alert rule: what traffic says about an interest. DESIGN.md section 4 is its text.

Everything that has ever to be said of an interest follows from the traffic alone (`said`), so what an event
adds is the difference between the traffic before and after it (`alerts_between`), and no memory of former
alerts is needed: the same log gives the same alert ids, however it was cut, repeated or interrupted.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from domain.alerts import Alert, Bound, State, alert_id
from domain.interests import Interest
from domain.traffic import Flow, Traffic
from domain.windows import HOUR_S, instant, seconds

NOTHING_KNOWN = Traffic()


@dataclass(frozen=True, slots=True)
class _Standing:
    """What is known of one window."""

    count: int
    begun: bool
    """It lies after `effective_from` and after the beginning of coverage."""
    closed: bool
    """Its count is final (late flights aside)."""
    lost: bool
    """It can never be known: it counts as no breach for its neighbours."""


class _Windows:
    """The windows of one interest over some traffic. A window is named by its number since 1970."""

    def __init__(self, interest: Interest, traffic: Traffic) -> None:
        self._flows = traffic.flows(interest.direction)
        self._hours = interest.window.hours
        self._effective_from = seconds(interest.effective_from)
        self._cache: dict[int, _Standing] = {}

    def __getitem__(self, number: int) -> _Standing:
        standing = self._cache.get(number)
        if standing is None:
            standing = self._cache[number] = self._look(number)
        return standing

    def _look(self, number: int) -> _Standing:
        hour = number * self._hours
        start, end = hour * HOUR_S, (hour + self._hours) * HOUR_S
        covered_from = [flow.covered_from for flow in self._flows]
        too_early = start < self._effective_from or any(begin is not None and begin > start for begin in covered_from)
        begun = not too_early and None not in covered_from
        gap = any(flow.has_gap_in(start, end) for flow in self._flows)
        return _Standing(
            count=sum(flow.counts.total(hour, self._hours) for flow in self._flows),
            begun=begun,
            closed=begun and not gap and all((flow.watermark or 0) >= end for flow in self._flows),
            lost=too_early or gap,
        )


def _high(windows: _Windows, number: int, threshold: int, for_windows: int) -> State | None:
    """What is said of the high threshold in a window.

    A gap hides flights but cannot undo those that were counted, so a window that a gap touches may still
    fire (ADR 0003); it never resolves, and for its neighbours it is unknown.
    """
    window = windows[number]
    past = [windows[number - back] for back in range(1, for_windows + 1)]
    if not window.begun or not all(each.closed or each.lost for each in past):
        return None
    breaches = [not each.lost and each.count > threshold for each in past]
    before = all(breaches)
    if window.count > threshold and all(breaches[:-1]):
        return State.STILL if before else State.FIRING
    return State.RESOLVED if before and window.closed else None


def _low(windows: _Windows, number: int, threshold: int, for_windows: int) -> State | None:
    """What is said of the low threshold in a window: only once it is closed."""
    window = windows[number]
    if not window.closed:
        return None
    past = [windows[number - back] for back in range(1, for_windows + 1)]
    breaches = [each.closed and each.count < threshold for each in past]
    before = all(breaches)
    if window.count < threshold and all(breaches[:-1]):
        return State.STILL if before else State.FIRING
    return State.RESOLVED if before else None


_IN_BREACH = (State.FIRING, State.STILL)


def alerts_between(interest: Interest, before: Traffic, after: Traffic) -> Iterator[Alert]:
    """What is to be said of an interest because `before` has become `after`, in the order of the windows.

    With `before` = NOTHING_KNOWN: all that is to be said so far, for an interest that was just set.
    """
    touched = _touched(interest, before, after)
    if not touched:
        return
    then, now = _Windows(interest, before), _Windows(interest, after)
    for number in touched:
        if interest.high is not None:
            old, new = (_high(each, number, interest.high, interest.for_windows) for each in (then, now))
            if new is not None and new != old and _is_said(interest, new):
                # An early high tells the count that passed the threshold, whatever else came in the same batch.
                count = now[number].count if now[number].closed else interest.high + 1
                yield _alert(interest, number, Bound.HIGH, new, count, interest.high)
        if interest.low is not None:
            old, new = (_low(each, number, interest.low, interest.for_windows) for each in (then, now))
            if old in _IN_BREACH and new not in _IN_BREACH and _is_said(interest, old):
                said = then[number].count
                yield _alert(interest, number, Bound.LOW, State.WITHDRAWN, now[number].count, interest.low, said)
            if new is not None and new != old and _is_said(interest, new):
                yield _alert(interest, number, Bound.LOW, new, now[number].count, interest.low)


def _is_said(interest: Interest, state: State | None) -> bool:
    return state is not State.STILL or interest.repeat


def _touched(interest: Interest, before: Traffic, after: Traffic) -> range:
    """The windows of which something else may be said now: those that changed, and those that look back at them."""
    pairs = list(zip(before.flows(interest.direction), after.flows(interest.direction), strict=True))
    changes = [change for old, new in pairs if (change := _changed_hours(old, new)) is not None]
    begins = [new.covered_from // HOUR_S for _, new in pairs if new.covered_from is not None]
    if not changes or len(begins) < len(pairs):
        return range(0)  # before all its flows are covered for the first time, nothing is said
    hours = interest.window.hours
    first_hour = max(*begins, seconds(interest.effective_from) // HOUR_S)
    last = max(max((new.watermark or 0) // HOUR_S, new.counts.end_hour) for _, new in pairs) // hours
    # With its first coverage a direction makes all that is known of the other worth judging; later, only what it adds.
    if all(old.covered_from is not None for old, _ in pairs):
        first_hour = max(first_hour, min(first for first, _ in changes))
        last = min(last, max(end for _, end in changes) // hours + interest.for_windows)
    return range(first_hour // hours, last + 1)


def _changed_hours(old: Flow, new: Flow) -> tuple[int, int] | None:
    """The first and the last hour in which two states of a flow differ, or None."""
    if old is new:
        return None
    hours: list[int] = []
    if old.watermark != new.watermark:
        hours += [(old.watermark or new.covered_from or 0) // HOUR_S, (new.watermark or 0) // HOUR_S]
    if old.counts is not new.counts:
        # What was forgotten has not changed.
        known = range(new.counts.first_hour, new.counts.end_hour)
        changed = [hour for hour in known if old.counts.total(hour, 1) != new.counts.total(hour, 1)]
        hours += changed[:1] + changed[-1:]
    return (min(hours), max(hours)) if hours else None


def _alert(
    interest: Interest,
    number: int,
    bound: Bound,
    state: State,
    count: int,
    threshold: int,
    withdrawn_count: int | None = None,
) -> Alert:
    start = instant(number * interest.window.hours * HOUR_S)
    return Alert(
        alert_id=alert_id(interest.interest_id, interest.version, bound, start, state),
        interest_id=interest.interest_id,
        user_id=interest.user_id,
        version=interest.version,
        airport=interest.airport,
        direction=interest.direction,
        window=interest.window,
        window_start=start,
        bound=bound,
        state=state,
        count=count,
        threshold=threshold,
        for_windows=interest.for_windows,
        withdrawn_count=withdrawn_count,
    )
