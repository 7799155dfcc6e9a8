"""The present state of an interest, from its last windows. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from collector.window_verdicts import JudgedWindow
from domain.alerts import Bound
from domain.interests import Interest


class StateKind(StrEnum):
    """The present state of an interest."""

    FIRING = "firing"
    """The last window that was judged is in breach."""
    NORMAL = "normal"
    """The last window that was judged is in no breach."""
    PAUSED = "paused"
    """It is in effect from a later instant on."""
    LEARNING = "learning"
    """No window was judged yet: what is usual is not known. Only of thresholds in percent."""
    UNKNOWN = "unknown"
    """None of the last windows was judged since the interest was set or changed."""


@dataclass(frozen=True, slots=True)
class InterestState:
    """The state of an interest, and the window that it follows from."""

    kind: StateKind
    bound: Bound | None = None
    """The threshold that is breached; None: none is."""
    window: JudgedWindow | None = None
    """The last window that was judged; None: none was."""


def find_state(interest: Interest, windows: Sequence[JudgedWindow], now: datetime) -> InterestState:
    """Return the present state of an interest, which follows from its last windows, in order of time.

    It is UNKNOWN also for an interest that is LEARNING: to tell the two apart takes a forecast.
    """
    if interest.effective_from > now:
        return InterestState(StateKind.PAUSED)
    for window in reversed(windows):
        if window.version != interest.version:
            break
        if window.breached:
            return InterestState(StateKind.FIRING, window.breached[0], window)
        if window.is_closed and window.why_unknown is None:
            return InterestState(StateKind.NORMAL, None, window)
    return InterestState(StateKind.UNKNOWN)
