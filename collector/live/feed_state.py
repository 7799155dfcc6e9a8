"""The state of one feed of positions: its detector, the coverage of each airport, and what is not published yet."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from typing import Final

from collector.live.airfields import AirfieldIndex
from collector.live.live_coverage import CoverageRules, LiveCoverage, PollSummary, Verdict, fold_poll
from collector.live.movements import BRIDGED_PAUSE_S, REVEALED_WITHIN_S, Movement, MovementDetector
from collector.live.poll_summaries import AirportGrid, Hearing
from collector.live.publication import add_stretch, cut_before
from collector.live.snapshots import FeedMemory, Stretch
from collector.live.wanted import Target
from collector.sources.state_vector import Poll
from domain.interests import Direction

LONGEST_LAG_S: Final = 90.0
"""A poll whose time is farther behind our clock is none: its movements would be told as if they were new."""
LONGEST_LEAD_S: Final = 30.0
"""A poll whose time is farther ahead of our clock is none."""
WARM_UP_S: Final = 180.0
"""After the first poll of a row, two polls at the slowest pace: then an aircraft has been heard before it moves."""
HEARD_FOR_S: Final = 3 * 86_400.0
"""A position near the ground shows for so long that an airport is heard: as long as a snowstorm may close it."""

_OLDEST_EVENT_S: Final = 3_600.0
"""A movement is revealed within minutes, or never: an older one would come of a wrong time."""
_UNHEARD: Final = Hearing(0, 0)


def build_rules(longest_interval_s: float) -> CoverageRules:
    """Return the rules of coverage of a feed that is polled at this interval or more often."""
    turn_up_s = REVEALED_WITHIN_S + 2 * longest_interval_s
    return CoverageRules(
        longest_pause_s=BRIDGED_PAUSE_S,
        warm_up_s=WARM_UP_S,
        turn_up_s=dict.fromkeys(Direction.BOTH.parts, turn_up_s),
        heard_for_s=HEARD_FOR_S,
        longest_lag_s=LONGEST_LAG_S,
        longest_lead_s=LONGEST_LEAD_S,
    )


@dataclass(frozen=True, slots=True)
class FoundMovement:
    """A movement of a wanted airport and direction, and the stated time of the poll that revealed it."""

    movement: Movement
    found_at: float

    @property
    def target(self) -> Target:
        """The airport and direction."""
        return self.movement.airport, self.movement.direction


class FeedState:
    """The fold of one feed: each poll changes it; what was published is taken out of it."""

    def __init__(self, airfields: AirfieldIndex, rules: CoverageRules, memory: FeedMemory | None = None) -> None:
        """`memory`: that of the leader before; None: it begins anew."""
        self._airfields = airfields
        self._rules = rules
        self._detector = MovementDetector(airfields)
        self._coverages: dict[str, LiveCoverage] = {}
        self.stretches: dict[Target, tuple[Stretch, ...]] = {}
        """What is covered and not published yet, by airport and direction, in order."""
        self.unpublished: list[FoundMovement] = []
        """Movements that are not stored yet, in the order in which they were found."""
        self.members: frozenset[str] = frozenset()
        """The sources that had a part in the last poll."""
        self.stated_at = 0.0
        """The time of the last poll, on the source's clock; 0 before the first one."""
        if memory is not None:
            self._detector.restore(memory.detector)
            self._coverages = dict(memory.coverages)
            self.stretches = dict(memory.stretches)
            self.members, self.stated_at = memory.members, memory.stated_at

    @property
    def aircraft(self) -> int:
        """The number of aircraft that the detector remembers."""
        return self._detector.aircraft

    def begin_anew(self) -> None:
        """Forget all aircraft, and how airports were heard: a source that had a part is not heard any more."""
        self._detector = MovementDetector(self._airfields)
        self._coverages.clear()

    def give_up(self) -> None:
        """Forget also what was found and not published: the time of dropped movements must not be told as covered."""
        self.unpublished.clear()
        self.stretches.clear()
        self.begin_anew()

    def fold(
        self, poll: Poll, answered_at: float, grid: AirportGrid, polled: Collection[str], targets: Collection[Target]
    ) -> list[FoundMovement]:
        """Fold a poll, later than those before, and return the movements that it reveals of the targets.

        `answered_at`: by our clock, in Unix seconds. `grid`: of all wanted airports. `polled`: the ICAO codes of the
        airports whose sky was asked for: of others the poll says nothing, and their rows of polls end. After a pause
        that the detector does not bridge it begins anew, as it does if the time was set back.
        """
        if self.stated_at - poll.time > LONGEST_LAG_S + LONGEST_LEAD_S:
            self.give_up()  # both clocks were ahead, and were set back: what was found is of times that are yet to come
            self.stated_at = 0.0
        if self.stated_at and poll.time - self.stated_at > BRIDGED_PAUSE_S:
            self._detector = MovementDetector(self._airfields)
        self.stated_at = max(self.stated_at, poll.time)
        found = [
            FoundMovement(each, poll.time)
            for each in self._detector.observe(poll)
            if each.airport in polled
            and (each.airport, each.direction) in targets
            and poll.time - each.event_time.timestamp() <= _OLDEST_EVENT_S
        ]
        self.unpublished += found
        hearing = grid.measure_hearing(poll)
        for icao in [each for each in self._coverages if each not in polled]:
            self._coverages[icao] = replace(self._coverages[icao], row_since=None)
        for icao in polled:
            heard, coverage = hearing.get(icao, _UNHEARD), self._coverages.get(icao)
            if coverage is None:
                if heard is _UNHEARD:
                    continue
                coverage = LiveCoverage()
            self._fold_coverage(icao, coverage, PollSummary(answered_at, poll.time, *heard), targets)
        return found

    def _fold_coverage(
        self, icao: str, coverage: LiveCoverage, summary: PollSummary, targets: Collection[Target]
    ) -> None:
        """Fold a poll into the coverage of an airport; keep the stretches that are covered now."""
        self._coverages[icao], statements = fold_poll(coverage, self._rules, summary)
        for each in statements:
            target = icao, each.direction
            # Gaps are not said: the stream learns of them once polls go on, from the coverage after them.
            if each.verdict is Verdict.COVERED and target in targets:
                self.stretches[target] = add_stretch(self.stretches.get(target, ()), each.begin, each.end)
        # Movements of a direction that nobody wants are dropped: once somebody does, only what follows is covered.
        unwanted = {part: summary.stated_at for part in self._rules.turn_up_s if (icao, part) not in targets}
        if unwanted:
            coverage = self._coverages[icao]
            self._coverages[icao] = replace(coverage, said_until={**(coverage.said_until or {}), **unwanted})

    def forget_unwanted(self, codes: Collection[str], targets: Collection[Target]) -> None:
        """Forget how airports are heard that nobody wants any more, and what is covered and not wanted."""
        for icao in [each for each in self._coverages if each not in codes]:
            del self._coverages[icao]
        for target in [each for each in self.stretches if each not in targets]:
            del self.stretches[target]

    def find_expected(self, now: float) -> dict[Target, float]:
        """Return by airport and direction from where on time will be covered, if polls go on as they do.

        Only airports that are heard without a pause up to `now` (Unix seconds, by our clock) are in it.
        """
        return {
            (icao, part): max((self._coverages[icao].said_until or {}).get(part, begin), begin)
            for icao, begin in self.find_heard_since(now).items()
            for part in self._rules.turn_up_s
        }

    def find_heard_since(self, now: float) -> dict[str, float]:
        """Return from when on each airport is heard without a pause up to now, by ICAO code in their order.

        Both times are Unix seconds. Not in it are airports that are not heard, or whose polls have paused.
        """
        found: dict[str, float] = {}
        for icao, coverage in sorted(self._coverages.items()):
            last = coverage.last
            if coverage.row_since is None or coverage.heard_since is None or last is None:
                continue
            if now - last.answered_at <= self._rules.longest_pause_s:
                found[icao] = max(coverage.row_since + self._rules.warm_up_s, coverage.heard_since)
        return found

    def list_live(self, now: float) -> list[str]:
        """Return the ICAO codes of the airports that are heard without a pause, in their order."""
        return list(self.find_heard_since(now))

    def drop_published(self, movements: int, until: Mapping[Target, float]) -> None:
        """Take out the first movements, and what is covered up to a time, by airport and direction."""
        del self.unpublished[:movements]
        self.stretches = self.cut_stretches(until)

    def cut_stretches(self, until: Mapping[Target, float]) -> dict[Target, tuple[Stretch, ...]]:
        """Return what is covered after a time, by airport and direction."""
        cut = {target: cut_before(each, until.get(target)) for target, each in self.stretches.items()}
        return {target: each for target, each in cut.items() if each}

    def get_memory(self, until: Mapping[Target, float]) -> FeedMemory:
        """Return what is to be stored, without what is covered up to a time, by airport and direction."""
        return FeedMemory(
            self._detector.get_memory(), self._coverages, self.cut_stretches(until), self.members, self.stated_at
        )
