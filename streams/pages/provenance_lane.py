"""The lane below a chart that says in form and word where the counts come from: live, the record, or from nowhere.

Horizontal values are in percent of the chart's width, vertical values in pixels from the top.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Final, assert_never

from domain.live_record import Provenance
from domain.windows import Window
from streams.pages.axes import round_percent
from streams.pages.windows import WindowCoverage, WindowShown
from streams.pages.wording import format_interval

LANE_HEIGHT: Final = 30
"""Pixels that the lane takes below the axis of time, with its words."""

_LABELS: Final = {
    "settled": ("night's record", "record"),
    "live": ("seen live", "live"),
    "gap": ("gap",),
    "not-covered": ("not covered",),
    "kept": ("history",),
    "open": ("not covered yet", "open"),
}
"""For each kind of stretch its words, the longest first."""

_CHARACTER_SHARE: Final = 2.2
"""Percent of the width of a chart on a phone that one character of a label takes."""

_TOOLTIPS: Final = {
    "settled": "from the night's record, which has the last word",
    "live": "seen live: the night's record may still correct it",
    "gap": "a gap: not all flights are known, unless the night's record fills it",
    "not-covered": "not covered",
    "kept": "from the history of closed windows",
    "open": "open, not covered yet: what is known may be little of it",
}


@dataclass(frozen=True, slots=True)
class LaneStretch:
    """Neighbouring windows whose flights are known in the same way."""

    x: float
    width: float
    kind: str
    """One of settled, live, gap, not-covered, kept, open."""
    label: str
    """Empty: there is no room for a word."""
    tooltip: str

    @property
    def middle(self) -> float:
        """The middle of the stretch."""
        return round_percent(self.x + self.width / 2)

    @property
    def end(self) -> float:
        """The right end of the stretch."""
        return round_percent(self.x + self.width)


def build_lane(windows: Sequence[WindowShown], length: Window, slot: float) -> tuple[LaneStretch, ...]:
    """Build the stretches of the lane in order. `slot`: width of a window in percent."""
    return tuple(_build_stretches(windows, length, slot))


def _build_stretches(windows: Sequence[WindowShown], length: Window, slot: float) -> Iterator[LaneStretch]:
    """Yield one stretch for each run of windows of one kind."""
    index = 0
    for kind, run in groupby(windows, key=classify_window):
        stretch = list(run)
        width = round_percent(len(stretch) * slot)
        time = format_interval(stretch[0].start, stretch[-1].start + length.length)
        yield LaneStretch(
            x=round_percent(index * slot),
            width=width,
            kind=kind,
            label=next((label for label in _LABELS[kind] if len(label) * _CHARACTER_SHARE <= width), ""),
            tooltip=f"{time}: {_TOOLTIPS[kind]}",
        )
        index += len(stretch)


def classify_window(window: WindowShown) -> str:
    """Return how a window's flights are known, as `LaneStretch.kind` lists it; an open one by what is known so far."""
    match window.known:
        case WindowCoverage.CLOSED | WindowCoverage.OPEN:
            return window.provenance.value if window.is_begun and window.provenance is not None else "open"
        case WindowCoverage.GAP:
            return "gap"
        case WindowCoverage.UNCOVERED:
            return "not-covered"
        case WindowCoverage.FROM_HISTORY:
            return "kept"
        case _:
            assert_never(window.known)


def describe_knowledge(window: WindowShown) -> str:
    """Return in words how much of a window's flights is known, and from where, as `closed, seen live`."""
    match window.known:
        case WindowCoverage.CLOSED:
            is_live = window.provenance is Provenance.LIVE
            return "closed, seen live" if is_live else "closed, from the night's record"
        case WindowCoverage.OPEN:
            is_live = window.provenance is Provenance.LIVE
            if window.is_begun:
                return "open, seen live so far" if is_live else "open"
            return "not covered yet; these were seen live" if is_live else "not covered yet"
        case WindowCoverage.GAP:
            return "a gap: flights may be missing"
        case WindowCoverage.UNCOVERED | WindowCoverage.FROM_HISTORY:
            return window.known.value
        case _:
            assert_never(window.known)


def summarize_knowledge(windows: Sequence[WindowShown]) -> str:
    """Return in one sentence how many windows are known in which way, for people who cannot see the chart."""
    kinds = [classify_window(window) for window in windows]
    texts = {
        "settled": "{} from the night's record",
        "kept": "{} from the history",
        "live": "{} seen live",
        "gap": "{} with a gap",
        "not-covered": "{} not covered",
        "open": "{} not covered yet",
    }
    parts = [text.format(kinds.count(kind)) for kind, text in texts.items() if kind in kinds]
    return f"Of {len(windows)} windows: {', '.join(parts)}."
