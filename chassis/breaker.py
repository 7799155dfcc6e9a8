"""A circuit breaker (Nygard, "Release It!"): calls to a server that fails again and again stop for a while. Pure.

CLOSED ──N failures in a row──▶ OPEN ──its period is over──▶ HALF_OPEN: one probe
   ▲                              ▲                           │
   └──────────a success───────────┼───────────────────────────┤
                                  └─────────a failure─────────┘
"""

from dataclasses import dataclass, replace
from datetime import timedelta
from enum import StrEnum


class BreakerState(StrEnum):
    """The three states of a circuit breaker (the values are labels of metrics)."""

    CLOSED = "closed"
    """Calls go out."""
    OPEN = "open"
    """No call goes out until the open period is over."""
    HALF_OPEN = "half_open"
    """One call, the probe, is in flight to test the server; no other call goes out until the probe ends."""


@dataclass(frozen=True, slots=True)
class BreakerPolicy:
    """The configuration of a breaker: how many failures open it, and how long it stays open."""

    failures_to_open: int = 5
    """Failures in a row that open a closed breaker."""
    first_opening: timedelta = timedelta(seconds=5)
    """The longest duration of the first open period after a success."""
    longest_opening: timedelta = timedelta(minutes=4)
    """The longest duration of any open period; each period in a row is twice as long as the one before, up to this."""

    def compute_max_opening(self, openings_before: int) -> timedelta:
        """Return the longest duration of the next open period, after `openings_before` open periods in a row.

        It is `first_opening`, doubled for each period before, but at most `longest_opening`.
        """
        return min(self.first_opening * (1 << min(openings_before, 16)), self.longest_opening)


@dataclass(frozen=True, slots=True)
class Breaker:
    """The frozen state of a circuit breaker; every transition returns the next state.

    A caller keeps the `generation` of the breaker that `admit_call` returned, and passes it in with the call's outcome.
    An outcome from an earlier generation says nothing about the server's present state, and changes nothing. `now` is
    always the elapsed time of one clock (`Clock.elapsed`), so it never decreases: a wall clock that is set neither
    keeps the breaker open nor closes it early.
    """

    policy: BreakerPolicy = BreakerPolicy()
    state: BreakerState = BreakerState.CLOSED
    generation: int = 0
    """A number that grows with every change of `state`."""
    failures: int = 0
    """Failures in a row while closed; 0 in the other states."""
    openings: int = 0
    """Open periods in a row since the last success."""
    open_until: timedelta = timedelta(0)
    """The end of the open period, in elapsed time; meaningless unless the state is OPEN."""

    def admit_call(self, now: timedelta) -> "Breaker | None":
        """Return the breaker after admitting a call, or None if no call may go out now.

        A closed breaker admits every call and stays as it is. An open breaker whose time is over admits one call, the
        probe, and becomes half open; until the probe's outcome it admits no other. The caller must report the
        outcome of every admitted call: `after_success`, `after_failure` or `after_abandoned_call`.
        """
        if self.state is BreakerState.CLOSED:
            return self
        if self.state is BreakerState.OPEN and now >= self.open_until:
            return self._enter(BreakerState.HALF_OPEN)
        return None

    def after_success(self, generation: int) -> "Breaker":
        """Return the closed breaker, with no failures counted, that follows when the server has answered a call.

        The content of the answer does not matter. The breaker does not change for a call of an earlier generation.
        """
        if generation != self.generation:
            return self
        if self.state is BreakerState.CLOSED:
            return replace(self, failures=0)
        return self._enter(BreakerState.CLOSED, openings=0)

    def after_failure(self, generation: int, now: timedelta, chance: float) -> "Breaker":
        """Return the breaker with one more failure counted; it is open after a failed probe or too many in a row.

        The breaker does not change for a call of an earlier generation. The open period begins now, and its longest
        duration doubles with each period in a row.

        `chance`, from 0 to 1, is the jitter: it makes the open period last from half of its longest duration (0) to all
        of it (1), so that not all clients probe at the same instant.
        """
        if generation != self.generation:
            return self
        failures = self.failures + 1
        if self.state is BreakerState.CLOSED and failures < self.policy.failures_to_open:
            return replace(self, failures=failures)
        opening = self.policy.compute_max_opening(self.openings) * (0.5 + chance / 2)
        return self._enter(BreakerState.OPEN, openings=self.openings + 1, open_until=now + opening)

    def after_abandoned_call(self, generation: int, now: timedelta) -> "Breaker":
        """Return the breaker that follows when a call's outcome will never be known, because its caller was cancelled.

        An abandoned probe makes the breaker open until now, so that the next call may be the probe at once. A closed
        breaker does not change, nor does any for a call of an earlier generation.
        """
        if generation != self.generation or self.state is BreakerState.CLOSED:
            return self
        return self._enter(BreakerState.OPEN, open_until=now)

    def compute_wait(self, now: timedelta) -> timedelta:
        """Return the rest of the open period; zero when the breaker is closed or half open.

        While it is half open no call may go out either, but the probe may end at any moment.
        """
        return max(self.open_until - now, timedelta(0)) if self.state is BreakerState.OPEN else timedelta(0)

    def _enter(
        self, state: BreakerState, openings: int | None = None, open_until: timedelta = timedelta(0)
    ) -> "Breaker":
        """Return the breaker in another state, with the next generation and no failures counted.

        `openings` None: the number of open periods in a row stays the same.
        """
        openings = self.openings if openings is None else openings
        return Breaker(self.policy, state, self.generation + 1, failures=0, openings=openings, open_until=open_until)
