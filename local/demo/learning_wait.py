"""The demo's wait, before its story begins, for the weeks from which the usual of thresholds in percent follows."""

from collections.abc import Collection, Mapping, Sequence
from datetime import UTC, datetime, time, timedelta
from typing import Any, Final

from domain.interests import Direction, Interest
from local.demo.plan import DemoPlan
from local.opensky.record_options import FIRST_DAY

_WEEKS: Final = timedelta(days=35)
"""How long before a window the earliest of the weeks is that its usual follows from."""
_YEAR: Final = datetime.combine(FIRST_DAY, time.min, UTC)


class LearningWait:
    """The airports and directions whose weeks before the story are needed, and the check if they are collected."""

    def __init__(self, interests: Sequence[Interest], plan: DemoPlan, unheard: Collection[str]) -> None:
        """`unheard`: airports of which nothing is ever recorded, so that nothing is learned."""
        learners = [
            each
            for each in interests
            if each.airport not in unheard and (each.high_percent is not None or each.low_percent is not None)
        ]
        self._targets: set[tuple[str, Direction]] = {
            (each.airport, part) for each in learners for part in each.direction.parts
        }
        self.airports = {airport for airport, _ in self._targets}
        self.begin = max(plan.begin - _WEEKS, _YEAR)
        """The begin of the weeks."""

    def is_over(self, coverage: Mapping[str, Mapping[str, Any]]) -> bool:
        """Return True if all weeks are collected, by the collector's answers by airport; False if some are not."""
        stretches = [coverage.get(airport, {}).get(part.value) for airport, part in self._targets]
        return all(each and datetime.fromisoformat(each["covered_from"]) <= self.begin for each in stretches)

    def describe_end(self, is_over: bool) -> str:
        """Return in a sentence what the story begins with. `is_over`: True if all weeks are collected."""
        if is_over:
            return f"What is usual is known, from {self.begin:%-d %B} on"
        return (
            "Not all of the five weeks before are collected, because the source lacks days or this machine is too "
            "slow: some windows may not be judged by percent"
        )
