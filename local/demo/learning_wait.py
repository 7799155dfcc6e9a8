"""What the demo waits for before its story begins: the weeks from which the usual of thresholds in percent follows."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import UTC, datetime, time, timedelta
from typing import Any, Final

from domain.interests import Direction, Interest
from local.demo.plan import DemoPlan
from local.errors import LocalError
from local.opensky.record_options import FIRST_DAY

_WEEKS: Final = timedelta(days=35)
"""How long before a window the earliest of the weeks is that its usual follows from."""
_YEAR: Final = datetime.combine(FIRST_DAY, time.min, UTC)


class LearningWait:
    """The airports and directions whose weeks before the story are needed, and whether they are collected."""

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
        self._has_weeks = plan.begin >= _YEAR + _WEEKS

    def is_over(self, coverage: Mapping[str, Mapping[str, Any]]) -> bool:
        """Return True if all weeks are collected, by the collector's answers by airport; False if some are not."""
        stretches = [coverage.get(airport, {}).get(part.value) for airport, part in self._targets]
        return all(each and datetime.fromisoformat(each["covered_from"]) <= self.begin for each in stretches)

    def require_learned(self, interests: Iterable[Mapping[str, Any]]) -> None:
        """Raise LocalError if an interest, as the collector answers it, is still learning though it could have learned.

        In January the year's flights do not go back far enough, and of an airport with few flights a day may be left
        out: neither is an error.
        """
        learning = {each["airport_icao"] for each in interests if each["learning_until"] is not None} & self.airports
        if learning and self._has_weeks:
            raise LocalError(
                f"the weeks before of {', '.join(sorted(learning))} were not collected before the story began: this "
                "machine has too much to do now, or the log of collector says why"
            )
