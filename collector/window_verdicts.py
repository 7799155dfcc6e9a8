"""The windows of an interest as they are shown: what each version's rule makes of them, and why. Pure."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import assert_never

from collector.stored_log import KnownEnds
from domain.alerts import Alert, AlertState, Bound
from domain.calendar import find_calendar
from domain.explanation import Knowledge, Usualness, WindowVerdict, judge_windows
from domain.grids import Grid
from domain.interests import Direction, Interest
from domain.reasons import WindowExplanation, explain_windows
from domain.rule import find_interest_grid
from domain.usual_fold import find_base_windows
from domain.window_history import VersionInForce, WindowHistory, find_judging_version, has_percents
from domain.windows import instant, seconds


class WhyUnknown(StrEnum):
    """Why a window is not judged. A window that is open is no such window: more flights of it may follow."""

    NOT_COLLECTED = "not_collected"
    """Nothing of it is known yet."""
    GAP = "gap"
    """A part of it is not known, and will not be unless the gap is filled."""
    BEFORE_COVERAGE = "before_coverage"
    """It starts before the first coverage."""
    BEFORE_EFFECTIVE_FROM = "before_effective_from"
    """It starts before the interest is in effect."""
    CHANGED_BEFORE_JUDGED = "changed_before_judged"
    """The version that it belongs to was changed before the window was known to its end: nobody is told of it."""
    USUAL_UNKNOWN = "usual_unknown"
    """Fewer than three of the five weeks before were known when it was reached. Only of thresholds in percent."""
    USUAL_TOO_SMALL = "usual_too_small"
    """Fewer than five flights are usual: it is skipped. Only of thresholds in percent."""
    USUAL_NOT_REACHED = "usual_not_reached"
    """What is usual is not fixed before the coverage reaches its start. Only of thresholds in percent."""


@dataclass(frozen=True, slots=True)
class SaidAlert:
    """An alert that was raised about a window, and the one that it withdraws, if it withdraws one."""

    alert: Alert
    corrects: Alert | None


@dataclass(frozen=True, slots=True)
class JudgedWindow:
    """One window of an interest: its count, the version that judged it, its alerts, and the reason in words."""

    start: datetime
    end: datetime
    local_start: datetime
    """The start by the airport's clock."""
    flights: int | None
    """Flights that are known; None: not all are, and the window is neither open nor in breach."""
    is_closed: bool
    """True if all flights are known."""
    is_live: bool
    """True if what is known of a part of it comes from positions, and the record has not confirmed it."""
    why_unknown: WhyUnknown | None
    """None: it was judged, or it is open and will be."""
    version: int | None
    """The version that judged it, or would; None: it is before the first window of all that are known."""
    doubled_usual: int | None
    base: Sequence[tuple[datetime, int]]
    """Starts and flights of the windows of the weeks before, as far as they are known now; empty without percents."""
    breached: Sequence[Bound]
    """The thresholds that it breaches, for as many windows in a row as the interest asks for."""
    alerts: Sequence[SaidAlert]
    """In the order in which they were raised."""
    text: str


def judge_known_windows(
    history: WindowHistory,
    versions: Sequence[VersionInForce],
    within: range,
    ends: Mapping[Direction, KnownEnds],
) -> list[JudgedWindow]:
    """Return the windows `within` (since 1970) in order, each judged by the version that it belongs to.

    `history`: what the log makes of these windows. `ends`: where what is known of each part of the direction ends.
    """
    present = versions[-1].interest
    grid = find_interest_grid(present)
    judging = {number: find_judging_version(versions, number) for number in within}
    explained: dict[int, dict[int, tuple[WindowVerdict, WindowExplanation]]] = {}
    for interest in {each.interest.version: each.interest for each in judging.values() if each is not None}.values():
        explained[interest.version] = dict(_explain_range(interest, history, grid, within))
    if not explained:  # all windows are before the first one of the interest
        explained[present.version] = dict(_explain_range(present, history, grid, within))
    windows = []
    for number in within:
        version = judging[number]
        judged_by = present.version if version is None else version.interest.version
        found = explained.get(judged_by, {}).get(number)
        windows.append(_build_window(history, grid, number, version, present, found, ends))
    return windows


def _explain_range(
    interest: Interest, history: WindowHistory, grid: Grid, within: range
) -> Iterator[tuple[int, tuple[WindowVerdict, WindowExplanation]]]:
    """Yield the windows that can be judged by one version, by number, with its verdict and the reasons."""
    # The reasons name how many windows in a row are past the threshold.
    longer = range(within.start - interest.for_windows, within.stop)
    verdicts = list(judge_windows(interest, history.traffic, longer))
    for verdict, explanation in zip(verdicts, explain_windows(interest, verdicts), strict=True):
        number = grid.find_number(seconds(verdict.start))
        if number in within:
            yield number, (verdict, explanation)


def _build_window(
    history: WindowHistory,
    grid: Grid,
    number: int,
    version: VersionInForce | None,
    present: Interest,
    found: tuple[WindowVerdict, WindowExplanation] | None,
    ends: Mapping[Direction, KnownEnds],
) -> JudgedWindow:
    """Build one window. `version`: the one that it belongs to; `found`: its verdict, None if there is none."""
    begin, end = grid.find_begin(number), grid.find_begin(number + 1)
    start = instant(begin)
    interest = present if version is None else version.interest
    alerts = tuple(_pair_alerts(history.alerts.get(number, ())))
    why, text = _explain_unknown(history, begin, end, version, found, ends)
    is_breached = [] if found is None or why in _UNJUDGED else _list_breached(found[0])
    is_closed = found is not None and _is_closed(found[0], history, end)
    count = None if found is None else found[0].count
    is_open = why is None and not is_closed
    base: Sequence[tuple[datetime, int]] = ()
    if has_percents(interest):
        base_windows = find_base_windows(
            history.traffic, find_calendar(interest.airport), interest.direction, grid, number
        )
        base = tuple((instant(at), flights) for at, flights in base_windows)
    return JudgedWindow(
        start=start,
        end=instant(end),
        local_start=find_calendar(interest.airport).show(start),
        flights=count if is_closed or is_open or is_breached else None,
        is_closed=is_closed,
        is_live=any(
            part.live is not None and part.live.is_unsettled(begin, end)
            for part in history.traffic.select_directions(interest.direction)
        ),
        why_unknown=why,
        version=None if version is None else interest.version,
        doubled_usual=None if found is None else found[0].doubled_usual,
        base=base,
        breached=tuple(is_breached),
        alerts=alerts,
        text=text,
    )


_UNJUDGED = (
    WhyUnknown.NOT_COLLECTED,
    WhyUnknown.BEFORE_COVERAGE,
    WhyUnknown.BEFORE_EFFECTIVE_FROM,
    WhyUnknown.CHANGED_BEFORE_JUDGED,
)
"""The reasons for which no threshold is judged, whatever the count is."""


def _is_closed(verdict: WindowVerdict, history: WindowHistory, end: int) -> bool:
    """Return True if all flights of a window are known, also of one that is not judged because it is too early."""
    match verdict.knowledge:
        case Knowledge.CLOSED:
            return True
        case Knowledge.EARLY:
            return history.find_closing(end) is not None
        case Knowledge.OPEN | Knowledge.GAP | Knowledge.UNCOVERED:
            return False
        case _:
            assert_never(verdict.knowledge)


def _list_breached(verdict: WindowVerdict) -> list[Bound]:
    """Return the bounds that a window breaches, for as many windows in a row as its interest asks for."""
    return [bound for bound in Bound if (state := verdict.state_of(bound)) is not None and state.is_breach]


def _pair_alerts(alerts: Sequence[Alert]) -> Iterator[SaidAlert]:
    """Yield the alerts of a window in their order, each WITHDRAWN with the last alert of its kind that it withdraws."""
    said: list[Alert] = []
    for alert in alerts:
        corrected = None
        if alert.state is AlertState.WITHDRAWN:
            is_end = alert.withdrawn_state is AlertState.RESOLVED
            corrected = next(
                (
                    each
                    for each in reversed(said)
                    if (each.version, each.bound, each.revision) == (alert.version, alert.bound, alert.revision)
                    and (each.state is AlertState.RESOLVED if is_end else each.state.is_breach)
                ),
                None,
            )
        said.append(alert)
        yield SaidAlert(alert, corrected)


def _explain_unknown(
    history: WindowHistory,
    begin: int,
    end: int,
    version: VersionInForce | None,
    found: tuple[WindowVerdict, WindowExplanation] | None,
    ends: Mapping[Direction, KnownEnds],
) -> tuple[WhyUnknown | None, str]:
    """Return why a window is not judged (None: it is, or will be), and the reason of what was said, in words."""
    if version is None:
        return WhyUnknown.BEFORE_EFFECTIVE_FROM, "It starts before the interest is in effect, so it is not judged."
    known = [each.known_until for each in ends.values()]
    is_reached = all(each is not None and seconds(each) > begin for each in known)
    if found is None or (not is_reached and not found[0].count and found[0].knowledge is Knowledge.OPEN):
        if is_reached:
            return WhyUnknown.BEFORE_COVERAGE, "It starts before the first coverage, so it is not judged."
        return WhyUnknown.NOT_COLLECTED, "Nothing is known of it yet."
    verdict, explanation = found
    closed_at = history.find_closing(end)
    text = " ".join(bound.why for bound in explanation.bounds)
    if version.until is not None and (closed_at is None or closed_at >= version.until):
        changed = f"The interest was changed at {version.until:%Y-%m-%d %H:%M} (UTC)"
        return WhyUnknown.CHANGED_BEFORE_JUDGED, f"{changed}, before all of the window was known: it was not judged."
    return _find_reason(verdict, version.interest), text


def _find_reason(verdict: WindowVerdict, interest: Interest) -> WhyUnknown | None:
    """Return why a window is not judged; None: it was, or it is open."""
    match verdict.knowledge:
        case Knowledge.GAP:
            return WhyUnknown.GAP
        case Knowledge.UNCOVERED:
            return WhyUnknown.BEFORE_COVERAGE
        case Knowledge.EARLY:
            return WhyUnknown.BEFORE_EFFECTIVE_FROM
        case Knowledge.CLOSED | Knowledge.OPEN:
            pass
        case _:
            assert_never(verdict.knowledge)
    if interest.high is not None or interest.low is not None:
        return None  # a threshold in flights was judged
    match verdict.unjudged:
        case None:
            return None
        case Usualness.UNKNOWN:
            return WhyUnknown.USUAL_UNKNOWN
        case Usualness.SKIPPED:
            return WhyUnknown.USUAL_TOO_SMALL
        case Usualness.UNREACHED:
            return WhyUnknown.USUAL_NOT_REACHED
        case _:
            assert_never(verdict.unjudged)
