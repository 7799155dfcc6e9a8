"""Logs of what a collector may publish, for tests: strategies for all of them, and what the brute-force model says."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from uuid import UUID

from hypothesis import strategies as st

from domain.alerts import AlertState, Bound, compute_alert_id
from domain.interests import Direction, Interest
from domain.traffic import Coverage, Observation
from domain.windows import Window, instant, seconds
from tests.domain.brute_force import Log, Wish, everything_to_be_said

BASE = datetime(2013, 2, 8, tzinfo=UTC)


def an_interest(**changes) -> Interest:
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
def one_direction(draw, direction: Direction, longest: int = 14) -> list[Observation]:
    """A log of one direction as a collector may write it: intervals in order, some in parts, some gaps, some jumps."""
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
    """The logs of both directions, shuffled together, each in its own order."""
    left = draw(one_direction(Direction.ARRIVALS, longest))
    right = draw(one_direction(Direction.DEPARTURES, longest))
    if draw(st.integers(0, 3)) == 0:
        return [*right, *left]  # as when one direction is wanted long after the other
    log = []
    while left or right:
        log.append((left if left and (not right or draw(st.booleans())) else right).pop(0))
    return log


@st.composite
def with_late_flights(draw, log: list[Observation]) -> list[Observation]:
    """A log in which some batches also bring flights of long before, that the source did not have in time."""
    late = []
    for observation in log:
        hours = draw(st.lists(st.integers(1, 100), max_size=3)) if draw(st.booleans()) else []
        times = tuple(observation.begin - hour * 1800 for hour in hours)
        late.append(replace(observation, event_times=(*observation.event_times, *times)))
    return late


def _with_a_threshold(high: int | None, low: int | None, **values) -> Interest:
    if high is None and low is None:
        high = 1
    return an_interest(high=high, low=low if high is None or (low or 0) < high else None, **values)


interests = st.builds(
    _with_a_threshold,
    direction=st.sampled_from(Direction),
    window=st.sampled_from(Window),
    high=st.none() | st.integers(0, 8),
    low=st.none() | st.integers(0, 8),
    for_windows=st.integers(1, 3),
    repeat=st.booleans(),
    effective_from=st.integers(-20, 40).map(lambda n: BASE + n * timedelta(minutes=30)),
)


def facts(log: list[Observation], direction: Direction) -> list[Log]:
    """The log as the brute-force model takes it."""
    return [_facts([event for event in log if event.direction is part]) for part in direction.parts]


def _facts(log: list[Observation]) -> Log:
    begin = end = None
    gaps = []
    for event in log:
        if begin is None and event.coverage is Coverage.COMPLETE:
            begin = end = event.begin
        if begin is None:
            continue
        if event.begin > end:  # jumped over
            gaps.append((instant(end), instant(event.begin)))
            end = event.begin
        if event.coverage is Coverage.GAP:
            gaps.append((instant(event.begin), instant(event.end)))
        if event.coverage is not Coverage.PARTIAL:
            end = event.end
    return Log(
        flights=[instant(at) for event in log for at in event.event_times],
        covered=None if begin is None else (instant(begin), instant(end)),
        gaps=gaps,
    )


def to_be_said(interest: Interest, log: list[Observation]) -> set[tuple[str, str, datetime]]:
    """Bound, state and window start of everything that the brute-force model has to say."""
    wish = Wish(
        interest.window.value,
        interest.high,
        interest.low,
        interest.for_windows,
        interest.repeat,
        interest.effective_from,
    )
    return everything_to_be_said(facts(log, interest.direction), wish)


def expected_ids(interest: Interest, log: list[Observation]) -> set[UUID]:
    """The ids of the alerts that the brute-force model has to say."""
    return {
        compute_alert_id(interest.interest_id, interest.version, Bound(bound), start, AlertState(state))
        for bound, state, start in to_be_said(interest, log)
    }
