"""Logs as a collector may publish them: hypothesis strategies for logs, and the model's alerts of a log."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from uuid import UUID

from hypothesis import strategies as st

from domain.alerts import AlertState, Bound, compute_alert_id
from domain.interests import Direction, Interest
from domain.traffic import Coverage, Observation
from domain.windows import Window, instant, seconds
from tests.domain.brute_force import Log, ModelInterest, compute_model_alerts

BASE = datetime(2013, 2, 8, tzinfo=UTC)
"""The midnight from which the hours of tests are counted."""


def an_interest(**changes) -> Interest:
    """Return an interest in more than two departures an hour from KJFK, with the fields in `changes` replaced."""
    values = {
        "interest_id": UUID(int=1),
        "user_id": UUID(int=2),
        "airport": "KJFK",
        "direction": Direction.DEPARTURES,
        "window": Window.ONE_HOUR,
        "high": 2,
        "low": None,
        "for_windows": 1,
        "repeat": False,
        "effective_from": BASE,
        "version": 1,
    }
    return Interest(**(values | changes))


@st.composite
def direction_logs(draw, direction: Direction, longest: int = 14) -> list[Observation]:
    """Draw a log of one direction as a collector may write it: intervals in order, partial ones, gaps, skipped time."""
    at = seconds(BASE) + draw(st.integers(-30, 30)) * 600
    log = []
    for _ in range(draw(st.integers(0, longest))):
        if draw(st.integers(0, 9)) == 0:
            at += draw(st.integers(1, 30)) * 600
        end = at + draw(st.integers(1, 30)) * 600
        if draw(st.integers(0, 7)) == 0:
            log.append(Observation(direction, at, end, (), Coverage.GAP))
        else:
            times = sorted(draw(st.lists(st.integers(at, end - 1), max_size=8)))
            cut = draw(st.integers(0, len(times)))
            if draw(st.booleans()):
                log.append(Observation(direction, at, end, tuple(times[:cut]), Coverage.PARTIAL))
                times = times[cut:]
            log.append(Observation(direction, at, end, tuple(times), Coverage.COMPLETE))
        at = end
    return log


@st.composite
def interleaved(draw, longest: int = 14) -> list[Observation]:
    """Draw a log of both directions: their logs interleaved, each in its own order."""
    left = draw(direction_logs(Direction.ARRIVALS, longest))
    right = draw(direction_logs(Direction.DEPARTURES, longest))
    if draw(st.integers(0, 3)) == 0:
        return [*right, *left]  # one direction is collected long after the other
    log = []
    while left or right:
        log.append((left if left and (not right or draw(st.booleans())) else right).pop(0))
    return log


@st.composite
def with_late_flights(draw, log: list[Observation]) -> list[Observation]:
    """Draw a log in which some batches also hold late flights, of up to 50 hours before their interval."""
    late = []
    for observation in log:
        hours = draw(st.lists(st.integers(1, 100), max_size=3)) if draw(st.booleans()) else []
        times = tuple(observation.begin - hour * 1800 for hour in hours)
        late.append(replace(observation, event_times=(*observation.event_times, *times)))
    return late


def _build_valid_interest(high: int | None, low: int | None, **values) -> Interest:
    """Return an interest with at least one threshold; a low one that is not below the high one is left out."""
    if high is None and low is None:
        high = 1
    return an_interest(high=high, low=low if high is None or (low or 0) < high else None, **values)


# Valid interests of any kind.
interests = st.builds(
    _build_valid_interest,
    direction=st.sampled_from(Direction),
    window=st.sampled_from(Window),
    high=st.none() | st.integers(0, 8),
    low=st.none() | st.integers(0, 8),
    for_windows=st.integers(1, 3),
    repeat=st.booleans(),
    effective_from=st.integers(-20, 40).map(lambda n: BASE + n * timedelta(minutes=30)),
)


def build_model_logs(log: list[Observation], direction: Direction) -> list[Log]:
    """Return the log as the brute-force model takes it: one model log for each part of a direction."""
    return [_build_model_log([event for event in log if event.direction is part]) for part in direction.parts]


def _build_model_log(log: list[Observation]) -> Log:
    """Return the flights, the coverage and the gaps that the observations of one direction state.

    The flights are those that were seen and not taken back since, in the order of the messages.
    """
    begin = end = None
    gaps = []
    flights: list[tuple[int, int | None]] = []
    for event in log:
        for retracted in event.retracted:
            if retracted in flights:
                flights.remove(retracted)
        flights += zip(event.event_times, event.fingerprints or [None] * len(event.event_times), strict=True)
        if begin is None and event.coverage is Coverage.COMPLETE:
            begin = end = event.begin
        if begin is None:
            continue
        if event.begin > end:  # the collector skipped an interval
            gaps.append((instant(end), instant(event.begin)))
            end = event.begin
        if event.coverage is Coverage.GAP:
            gaps.append((instant(event.begin), instant(event.end)))
        if event.coverage is not Coverage.PARTIAL:
            end = max(end, event.end)
    return Log(
        flights=[instant(at) for at, _ in flights],
        covered=None if begin is None else (instant(begin), instant(end)),
        gaps=gaps,
    )


def compute_expected_alerts(interest: Interest, log: list[Observation]) -> set[tuple[str, str, datetime]]:
    """Return bound, state and window start of all alerts that the brute-force model derives from a log."""
    model_interest = ModelInterest(
        interest.window.value,
        interest.high,
        interest.low,
        interest.for_windows,
        interest.repeat,
        interest.effective_from,
    )
    return compute_model_alerts(build_model_logs(log, interest.direction), model_interest)


def expected_ids(interest: Interest, log: list[Observation]) -> set[UUID]:
    """Return the ids of all alerts that the brute-force model derives from a log."""
    return {
        compute_alert_id(interest.interest_id, interest.version, Bound(bound), start, AlertState(state))
        for bound, state, start in compute_expected_alerts(interest, log)
    }
