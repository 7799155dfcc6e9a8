"""The alerts of one interest, built from the range alerts that follow from a change of its airport's traffic."""

from collections.abc import Iterator

from domain.alerts import Alert, AlertState, Bound, compute_alert_id
from domain.calendar import find_calendar
from domain.changes import TrafficChange
from domain.episodes import Lookback
from domain.interests import Interest
from domain.measures import Measure, convert_to_flights, find_measure, list_measured_thresholds
from domain.range_alerts import RangeAlert
from domain.rule import find_first_window, find_interest_grid
from domain.traffic import Traffic
from domain.windows import AlignedTo, instant


def compute_alerts(interest: Interest, before: Traffic, after: Traffic, within: range | None = None) -> Iterator[Alert]:
    """Yield the new alerts of one interest after its airport's traffic changed, in the order of the windows.

    Within a window HIGH comes before LOW. Windows before the interest's first are skipped. With `before` = NO_TRAFFIC:
    all alerts so far, for an interest that was just set. `within`: only alerts about these windows (since 1970).
    """
    first = find_first_window(interest)
    thresholds = list_measured_thresholds(interest)
    change, windows = TrafficChange(before, after), (interest.direction, find_interest_grid(interest))
    affected = {
        measure: set(change.list_affected_windows(*windows, measure, interest.for_windows))
        for measure in {threshold.measure for threshold in thresholds}
    }
    for number in sorted(set[int]().union(*affected.values())):
        if number < first or (within is not None and number not in within):
            continue  # before the interest is in effect, or not asked for
        for measure, bound, threshold in thresholds:
            if number not in affected[measure]:
                continue
            key = *windows, measure
            run = change.find_run_bounds(*key, number, interest.for_windows)
            for range_alert in change.find_range_alerts(*key, number, interest.for_windows, bound):
                begin, end = range_alert.thresholds
                if (
                    begin <= threshold < end
                    and range_alert.applies_to(first, run, interest.repeat)
                    and change.is_due(*key, range_alert, threshold, interest.for_windows, first, interest.repeat)
                ):
                    yield build_alert(interest, change, range_alert, threshold)


def build_alert(interest: Interest, change: TrafficChange, range_alert: RangeAlert, threshold: int) -> Alert:
    """Return the alert of one interest from a range alert that applies to it and holds its threshold (not checked).

    Adds the alert's id, its episode (the id of the FIRING that began its breach, its own id for FIRING), the counts of
    the windows before, and where its cause comes from; with a threshold in percent what is usual, and the number of
    flights that the percent makes of it. In an open window the count is the first that breaches the threshold.
    """
    bound, number, state = range_alert.bound, range_alert.number, range_alert.state
    withdrawn_state = range_alert.withdrawn_state
    revision = _find_revision(interest, change, bound, threshold, number, withdrawn_state or state)
    grid = find_interest_grid(interest)
    start = instant(grid.find_begin(number))
    own_id = compute_alert_id(interest.interest_id, interest.version, bound, start, state, withdrawn_state, revision)
    windows, measure = (interest.direction, grid), find_measure(interest, bound)
    before, after = change.get_lookbacks(*windows, measure)
    episode_id = own_id
    if state is not AlertState.FIRING:
        lookback = before if state is AlertState.WITHDRAWN else after
        first = _find_episode_start(interest, lookback, range_alert, threshold)
        episode_id = compute_alert_id(
            interest.interest_id,
            interest.version,
            bound,
            instant(grid.find_begin(first)),
            AlertState.FIRING,
            revision=_find_revision(interest, change, bound, threshold, first, AlertState.FIRING),
        )
    count_before = change.find_corrected_count(
        *windows, measure, number, interest.for_windows, find_first_window(interest), state
    )
    percent = doubled_usual = None
    base_counts: tuple[int, ...] = ()
    flights = threshold
    if measure is Measure.PERCENT:
        percent, doubled_usual = threshold, change.find_doubled_usual(*windows, number) or 0
        flights = convert_to_flights(bound, percent, doubled_usual)
        base_counts = change.list_base_counts(*windows, number, find_calendar(interest.airport))
    return Alert(
        alert_id=own_id,
        interest_id=interest.interest_id,
        user_id=interest.user_id,
        version=interest.version,
        airport=interest.airport,
        direction=interest.direction,
        window=interest.window,
        window_start=start,
        bound=bound,
        state=state,
        count=flights + 1 if range_alert.flights is None else range_alert.flights,
        threshold=flights,
        for_windows=interest.for_windows,
        withdrawn_count=range_alert.withdrawn_flights,
        earlier=after.list_earlier_counts(number),
        episode_id=episode_id,
        withdrawn_state=withdrawn_state,
        revision=revision,
        provenance=change.find_provenance(*windows, number),
        corrects=count_before is not None,
        count_before=count_before,
        percent=percent,
        doubled_usual=doubled_usual,
        base_counts=base_counts,
        earlier_usual=after.list_earlier_usual(number),
        live_windows=after.find_live_windows(number),
        aligned_to=interest.aligned_to,
        own_end=None if interest.aligned_to is AlignedTo.UTC else instant(grid.find_begin(number + 1)),
    )


def _find_revision(
    interest: Interest, change: TrafficChange, bound: Bound, threshold: int, number: int, state: AlertState
) -> int:
    """Return the revision of an alert about window `number`: how often such an alert was withdrawn before the change.

    `state`: the alert's state; for WITHDRAWN the state that it withdraws.
    """
    past = change.get_past_statements(interest.direction, find_interest_grid(interest), find_measure(interest, bound))
    if not past.are_corrected(number, interest.for_windows):
        return 0
    first = find_first_window(interest)
    history = past.find_history(bound, threshold, number, interest.for_windows, first, interest.repeat)
    return history.revision_of(state)


def _find_episode_start(interest: Interest, lookback: Lookback, range_alert: RangeAlert, threshold: int) -> int:
    """Return the number of the window whose FIRING began the breach of a STILL, RESOLVED or WITHDRAWN alert.

    `lookback`: for WITHDRAWN into the traffic before the change, else into the traffic after. A withdrawn FIRING began
    its breach in its own window; every other breach fired in the last window of its first run of `for_windows`.
    """
    if range_alert.withdrawn_state is AlertState.FIRING:
        return range_alert.number
    # A breach needs `for_windows` consecutive windows, none before the interest's first; it fires in the last of them.
    run_start = lookback.find_run_start(range_alert.bound, threshold, range_alert.number)
    return lookback.find_firing(max(run_start, find_first_window(interest)), interest.for_windows)
