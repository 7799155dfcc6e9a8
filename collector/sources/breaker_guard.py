"""The circuit breaker of a source: it guards API calls, and shows its state in metrics and log."""

import random
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Final, assert_never

import structlog
from prometheus_client import Gauge

from chassis.breaker import Breaker, BreakerPolicy, BreakerState
from chassis.clock import Clock
from chassis.metrics import LabelledMetric
from collector.errors import BreakerOpenError, SourceError, SourceUnavailableError

log = structlog.get_logger()

BREAKER_POLICY: Final = BreakerPolicy(first_opening=timedelta(seconds=30), longest_opening=timedelta(minutes=15))
"""Policy of the circuit breaker for a source of flights."""

POSITIONS_POLICY: Final = BreakerPolicy(first_opening=timedelta(seconds=30), longest_opening=timedelta(minutes=2))
"""Policy of the circuit breaker for a source of positions.

It is asked every 10 to 90 seconds as it is, and each minute for which nobody asks after it has come back is a gap.
"""


class BreakerGuard:
    """A source's circuit breaker, shared by all tasks. Its periods are elapsed time of the service's clock."""

    def __init__(
        self,
        clock: Clock,
        gauge: LabelledMetric[Gauge],
        policy: BreakerPolicy = BREAKER_POLICY,
        events: str = "opensky",
        **labels: str,
    ) -> None:
        """`gauge` has the label `state`, and those of `labels`. `events`: the first part of the log's event names."""
        self._clock = clock
        self._breaker = Breaker(policy)
        self._gauge = gauge
        self._events = events
        self._labels = labels
        self._update_gauge()

    @contextmanager
    def guard_call(self) -> Iterator[None]:
        """Run the block, which makes one API call, and report its outcome to the circuit breaker.

        Only a SourceUnavailableError is a failure; any other SourceError is a success, for the source has answered. A
        block that is cancelled, or raises anything else, is an abandoned call. The block's error is raised on. Raises
        BreakerOpenError, without running the block, if the breaker does not admit a call.
        """
        elapsed = self._clock.elapsed()
        admitted = self._breaker.admit_call(elapsed)
        if admitted is None:
            raise BreakerOpenError(max(self._breaker.compute_wait(elapsed).total_seconds(), 1.0))
        self._set_breaker(admitted)
        generation = admitted.generation
        try:
            yield
        except SourceUnavailableError:
            self._set_breaker(self._breaker.after_failure(generation, self._clock.elapsed(), random.random()))
            raise
        except SourceError:
            # A rate limit or a rejection is the answer of a server that works. An open breaker would mend nothing, and
            # hide from the operator that the credentials are wrong.
            self._set_breaker(self._breaker.after_success(generation))
            raise
        except BaseException:  # cancelled, or a bug: the outcome is unknown
            self._set_breaker(self._breaker.after_abandoned_call(generation, self._clock.elapsed()))
            raise
        self._set_breaker(self._breaker.after_success(generation))

    def _set_breaker(self, breaker: Breaker) -> None:
        """Replace the breaker by its next value; if its state changed, update the gauge and log it."""
        before, self._breaker = self._breaker, breaker
        if breaker.state is before.state:
            return
        self._update_gauge()
        match breaker.state:
            case BreakerState.OPEN:
                wait = breaker.compute_wait(self._clock.elapsed())
                log.warning(f"{self._events}.breaker_opened", for_s=wait.total_seconds(), **self._labels)
            case BreakerState.CLOSED:
                log.info(f"{self._events}.breaker_closed", **self._labels)
            case BreakerState.HALF_OPEN:
                pass  # a probe is in flight: its outcome is logged
            case _:
                assert_never(breaker.state)

    def _update_gauge(self) -> None:
        """Set the gauge to 1 for the breaker's present state, and to 0 for each other state."""
        for state in BreakerState:
            self._gauge.labels(state=state.value, **self._labels).set(state is self._breaker.state)
