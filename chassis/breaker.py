"""A circuit breaker (Nygard, "Release It!"): a server that fails again and again is left alone for a while. Pure.

CLOSED ──N failures in a row──▶ OPEN ──its time is over──▶ HALF_OPEN: one probe
   ▲                              ▲                           │
   └──────────a success───────────┼───────────────────────────┤
                                  └─────────a failure─────────┘
"""

from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Final

_LONG_AGO: Final = datetime.min.replace(tzinfo=UTC)


class BreakerState(StrEnum):
    """What happens to a call."""

    CLOSED = "closed"
    """It goes out."""
    OPEN = "open"
    """It does not."""
    HALF_OPEN = "half_open"
    """It does not, for one is out already to see whether the server is back."""


@dataclass(frozen=True, slots=True)
class BreakerPolicy:
    """How much it takes to leave a server alone, and for how long."""

    failures_to_open: int = 5
    first_opening: timedelta = timedelta(seconds=5)
    longest_opening: timedelta = timedelta(minutes=4)
    """Each opening in a row is twice as long as the one before, up to this."""

    def compute_max_opening(self, before: int) -> timedelta:
        """How long at most to stay open after so many openings in a row."""
        return min(self.first_opening * (1 << min(before, 16)), self.longest_opening)


@dataclass(frozen=True, slots=True)
class Breaker:
    """A state; every transition returns the next one. `now` is never earlier than in the transition before.

    A caller keeps the `generation` of the state that `admit_call` gave and hands it in with the outcome: what
    comes from before the last change of state says nothing about the server of today, and changes nothing.
    """

    policy: BreakerPolicy = BreakerPolicy()
    state: BreakerState = BreakerState.CLOSED
    generation: int = 0
    """Grows with every change of state."""
    failures: int = 0
    """In a row, while closed."""
    openings: int = 0
    """In a row, since the last success."""
    open_until: datetime = _LONG_AGO
    """While open."""

    def admit_call(self, now: datetime) -> "Breaker | None":
        """The breaker once a call has gone out; None where none may. Each one that goes out needs an outcome."""
        if self.state is BreakerState.CLOSED:
            return self
        if self.state is BreakerState.OPEN and now >= self.open_until:
            return self._enter(BreakerState.HALF_OPEN)
        return None

    def after_success(self, generation: int) -> "Breaker":
        """The server has answered, whatever it said."""
        if generation != self.generation:
            return self
        if self.state is BreakerState.CLOSED:
            return replace(self, failures=0)
        return self._enter(BreakerState.CLOSED, openings=0)

    def after_failure(self, generation: int, now: datetime, chance: float) -> "Breaker":
        """The server has failed. `chance`, from 0 to 1, is the jitter, so that not all come back at once."""
        if generation != self.generation:
            return self
        failures = self.failures + 1
        if self.state is BreakerState.CLOSED and failures < self.policy.failures_to_open:
            return replace(self, failures=failures)
        opening = self.policy.compute_max_opening(self.openings) * (0.5 + chance / 2)
        return self._enter(BreakerState.OPEN, openings=self.openings + 1, open_until=now + opening)

    def after_abandoned_call(self, generation: int, now: datetime) -> "Breaker":
        """Nobody waited for the outcome. A probe leaves its place to the next call."""
        if generation != self.generation or self.state is BreakerState.CLOSED:
            return self
        return self._enter(BreakerState.OPEN, open_until=now)

    def compute_wait(self, now: datetime) -> timedelta:
        """How long no call may go out, as far as is known: a probe may come back at any moment."""
        return max(self.open_until - now, timedelta(0)) if self.state is BreakerState.OPEN else timedelta(0)

    def _enter(self, state: BreakerState, openings: int | None = None, open_until: datetime = _LONG_AGO) -> "Breaker":
        openings = self.openings if openings is None else openings
        return Breaker(self.policy, state, self.generation + 1, failures=0, openings=openings, open_until=open_until)
