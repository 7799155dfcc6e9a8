"""The circuit breaker: it opens after failures, and lets single probes through until the server answers again."""

from datetime import timedelta

import pytest
from hypothesis import given, settings, strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, invariant, multiple, rule

from chassis.breaker import Breaker, BreakerPolicy, BreakerState

FAILURES_TO_OPEN = BreakerPolicy().failures_to_open
FIRST_OPENING = BreakerPolicy().first_opening
LONGEST_OPENING = BreakerPolicy().longest_opening
NOW = timedelta(hours=12)
chances = st.floats(0, 1)


def open_breaker(breaker: Breaker, now: timedelta, chance: float = 1.0) -> Breaker:
    """Return the breaker after as many failures as open it."""
    for _ in range(FAILURES_TO_OPEN):
        breaker = breaker.after_failure(breaker.generation, now, chance)
    return breaker


def fail_probe(breaker: Breaker, chance: float) -> Breaker:
    """Return an open breaker after a probe at the end of the open period, which failed at once."""
    probing = breaker.admit_call(breaker.open_until)
    assert probing is not None
    return probing.after_failure(probing.generation, breaker.open_until, chance)


def test_a_breaker_opens_exactly_at_the_configured_number_of_failures_in_a_row() -> None:
    """One success in between resets the count of failures."""
    breaker = Breaker()
    for _ in range(2):
        for _ in range(FAILURES_TO_OPEN - 1):
            breaker = breaker.after_failure(breaker.generation, NOW, 0.5)
            assert breaker.state is BreakerState.CLOSED
        breaker = breaker.after_success(breaker.generation)
    assert open_breaker(breaker, NOW).state is BreakerState.OPEN


@given(chances)
def test_an_open_breaker_admits_no_call_until_its_open_period_is_over(chance: float) -> None:
    """After the open period exactly one call, the probe, is admitted."""
    breaker = open_breaker(Breaker(), NOW, chance)
    opening = breaker.compute_wait(NOW)
    assert FIRST_OPENING / 2 <= opening <= FIRST_OPENING
    assert breaker.admit_call(NOW) is None
    assert breaker.admit_call(NOW + opening - timedelta(microseconds=1)) is None
    probing = breaker.admit_call(NOW + opening)
    assert probing is not None
    assert probing.state is BreakerState.HALF_OPEN
    assert probing.admit_call(NOW + LONGEST_OPENING * 9) is None


@given(st.lists(chances, min_size=1, max_size=40), st.integers(1, 9), st.integers(0, 999), st.integers(1, 99))
def test_open_periods_in_a_row_double_up_to_the_longest(
    jitters: list[float], failures: int, longer_s: int, first_s: int
) -> None:
    """Each period lasts from half of its maximum to all of it, depending on the jitter, for any policy."""
    first, longest = timedelta(seconds=first_s), timedelta(seconds=first_s + longer_s)
    breaker = Breaker(BreakerPolicy(failures, first, longest))
    for _ in range(failures):
        assert breaker.state is BreakerState.CLOSED
        breaker = breaker.after_failure(breaker.generation, NOW, jitters[0])
    assert breaker.state is BreakerState.OPEN
    assert first / 2 <= breaker.open_until - NOW <= first
    most = first
    for chance in jitters[1:]:
        before = breaker.open_until
        breaker = fail_probe(breaker, chance)
        most = min(most * 2, longest)
        assert most / 2 <= breaker.open_until - before <= most


def test_a_successful_probe_closes_and_resets_the_breaker() -> None:
    """The next open period is as short as the first, after the full number of failures."""
    breaker = fail_probe(fail_probe(open_breaker(Breaker(), NOW), 1.0), 1.0)
    probing = breaker.admit_call(breaker.open_until)
    assert probing is not None
    closed = probing.after_success(probing.generation)
    assert (closed.state, closed.failures) == (BreakerState.CLOSED, 0)
    assert open_breaker(closed, NOW).compute_wait(NOW) == FIRST_OPENING


def test_after_an_abandoned_probe_the_next_call_is_the_probe() -> None:
    """A cancelled probe must not keep the breaker half open for ever."""
    breaker = open_breaker(Breaker(), NOW)
    probing = breaker.admit_call(breaker.open_until)
    assert probing is not None
    abandoned = probing.after_abandoned_call(probing.generation, breaker.open_until)
    assert abandoned.admit_call(breaker.open_until) is not None
    assert abandoned.openings == breaker.openings


@pytest.mark.parametrize("outcome", ["succeeded", "failed", "abandoned"])
@pytest.mark.parametrize("state", [BreakerState.OPEN, BreakerState.HALF_OPEN, BreakerState.CLOSED])
def test_an_outcome_of_an_earlier_generation_changes_nothing(outcome: str, state: BreakerState) -> None:
    """A call from before the last change of state is no probe."""
    before = Breaker()
    breaker = open_breaker(before, NOW)
    if state is not BreakerState.OPEN:
        breaker = breaker.admit_call(breaker.open_until) or breaker
    if state is BreakerState.CLOSED:
        breaker = breaker.after_success(breaker.generation)
    assert breaker.state is state
    after = {
        "succeeded": breaker.after_success(before.generation),
        "failed": breaker.after_failure(before.generation, NOW, 0.5),
        "abandoned": breaker.after_abandoned_call(before.generation, NOW),
    }
    assert after[outcome] == breaker


class Calls(RuleBasedStateMachine):
    """A state machine of calls that begin, overlap and end in any way, while time passes."""

    out = Bundle("out")

    def __init__(self) -> None:
        super().__init__()
        self.breaker = Breaker()
        self.now = NOW
        self.probes: set[int] = set()
        self.waiting: list[int] = []

    @rule(target=out)
    def begin_call(self) -> object:
        """Begin a call if the breaker admits one, and check that it admits at most one probe."""
        admitted = self.breaker.admit_call(self.now)
        if admitted is None:
            assert self.breaker.state is not BreakerState.CLOSED
            return multiple()
        assert self.breaker.state is BreakerState.CLOSED or self.breaker.compute_wait(self.now) == timedelta(0)
        self.breaker = admitted
        if admitted.state is BreakerState.HALF_OPEN:
            assert admitted.generation not in self.probes, "a second probe of the same half-open state"
            self.probes.add(admitted.generation)
        self.waiting.append(admitted.generation)
        return admitted.generation

    @rule(generation=consumes(out), chance=chances)
    def fail_call(self, generation: int, chance: float) -> None:
        self.waiting.remove(generation)
        self.breaker = self.breaker.after_failure(generation, self.now, chance)

    @rule(generation=consumes(out))
    def succeed_call(self, generation: int) -> None:
        """End a call with a success, and check that the breaker is closed and reset."""
        self.waiting.remove(generation)
        before, self.breaker = self.breaker, self.breaker.after_success(generation)
        if generation == before.generation:
            assert self.breaker.state is BreakerState.CLOSED
            assert self.breaker.failures == self.breaker.openings == 0

    @rule(generation=consumes(out))
    def abandon_call(self, generation: int) -> None:
        self.waiting.remove(generation)
        self.breaker = self.breaker.after_abandoned_call(generation, self.now)

    @rule(seconds=st.integers(0, 2_000))
    def wait_some_time(self, seconds: int) -> None:
        self.now += timedelta(seconds=seconds)

    @invariant()
    def closed_means_few_failures(self) -> None:
        assert self.breaker.failures < FAILURES_TO_OPEN

    @invariant()
    def half_open_means_that_one_probe_is_out(self) -> None:
        if self.breaker.state is BreakerState.HALF_OPEN:
            assert self.waiting.count(self.breaker.generation) == 1

    @invariant()
    def nobody_is_locked_out_for_good(self) -> None:
        assert self.breaker.compute_wait(self.now) <= LONGEST_OPENING
        if self.breaker.state is not BreakerState.HALF_OPEN:
            assert self.breaker.admit_call(self.now + LONGEST_OPENING) is not None


TestCalls = Calls.TestCase
TestCalls.settings = settings(max_examples=100, stateful_step_count=40)
