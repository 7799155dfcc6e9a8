"""How many take-offs and landings the detector finds in a recording, by the interval of the polls.

    python -m benchmarks.live_accuracy [RECORDING EVENTS]

EVENTS is CSV with the columns direction (dep or arr), icao24, airport and time (Unix seconds): the movements that are
in the recording. Without arguments: the hour of Paris in `benchmarks/recordings`. A movement counts as found if one of
the same aircraft at the same airport is at most 180 s away. Prints a table of precision, recall and delay (the median
time from the movement to the poll that reveals it), what was missed and what was false at the shortest interval, and a
second table: polls are left out for a while in each quarter of an hour, beginning at six different times, and the
movements from a minute before such a pause to a minute after it are looked for.
"""

import csv
import statistics
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, NamedTuple

from collector.live.airfields import AirfieldIndex, load_airfields
from collector.live.movements import Movement, MovementDetector
from collector.live.recordings import read_recording, resample
from collector.sources.state_vector import Poll
from domain.interests import Direction

TOLERANCE_S: Final = 180.0
STEPS_S: Final = (10, 30, 60, 90, 120)
PAUSES_S: Final = (60, 90, 120, 180, 300, 600)
DIRECTIONS: Final = ("dep", "arr")

_QUARTER_S: Final = 900
_PAUSES_BEGIN_S: Final = range(0, _QUARTER_S, 150)
_BESIDE_S: Final = 60.0


class Recording(NamedTuple):
    """A recording of polls, and the movements that are in it."""

    polls: Path
    events: Path


_FOLDER: Final = Path(__file__).with_name("recordings")
PARIS: Final = Recording(
    _FOLDER / "paris-2021-10-07-1200-1300.states.jsonl.gz", _FOLDER / "paris-2021-10-07-1200-1300.events.csv"
)


@dataclass(frozen=True, slots=True)
class Event:
    """A movement: "dep" or "arr", of which aircraft, at which airport, and when (Unix seconds)."""

    direction: str
    icao24: str
    airport: str
    time: float


@dataclass(frozen=True, slots=True)
class Score:
    """How well the movements of one direction were found."""

    found: int
    """Movements that were expected and found."""
    false: Sequence[Event]
    missed: Sequence[Event]
    delays_s: Sequence[float] = field(default=())

    @property
    def precision(self) -> float:
        """The part of the movements found that was expected; 1 if none was found."""
        return self.found / (self.found + len(self.false)) if self.found or self.false else 1.0

    @property
    def recall(self) -> float:
        """The part of the movements expected that was found; 1 if none was expected."""
        return self.found / (self.found + len(self.missed)) if self.found or self.missed else 1.0


def describe(movement: Movement) -> Event:
    """Return a movement in the form of those that are expected."""
    direction = "dep" if movement.direction is Direction.DEPARTURES else "arr"
    return Event(direction, movement.icao24, movement.airport, movement.event_time.timestamp())


def compare(found: Iterable[tuple[float, Movement]], expected: Iterable[Event], direction: str) -> Score:
    """Return the score of a direction; each movement comes with the time of the poll that revealed it."""
    missed = [each for each in expected if each.direction == direction]
    false: list[Event] = []
    delays: list[float] = []
    for time, movement in found:
        event = describe(movement)
        if event.direction != direction:
            continue
        same = [
            each
            for each in missed
            if (each.icao24, each.airport) == (event.icao24, event.airport)
            and abs(each.time - event.time) <= TOLERANCE_S
        ]
        if same:
            nearest = min(same, key=lambda each: abs(each.time - event.time))
            missed.remove(nearest)
            delays.append(time - nearest.time)
        else:
            false.append(event)
    return Score(len(delays), false, missed, delays)


def detect(polls: Iterable[Poll], airfields: AirfieldIndex) -> Iterator[tuple[float, Movement]]:
    """Yield the movements in polls, each with the time of the poll that reveals it."""
    detector = MovementDetector(airfields)
    for poll in polls:
        for movement in detector.observe(poll):
            yield poll.time, movement


def read_events(recording: Recording) -> list[Event]:
    """Return the movements that are in a recording."""
    with recording.events.open(encoding="utf-8", newline="") as lines:
        return [
            Event(row["direction"], row["icao24"], row["airport"], float(row["time"])) for row in csv.DictReader(lines)
        ]


def read_polls(recording: Recording, step_s: float) -> list[Poll]:
    """Return the polls of a recording that is resampled to a step."""
    with recording.polls.open("rb") as stream:
        return list(resample(read_recording(stream), step_s))


def compare_recording(recording: Recording, step_s: float, airfields: AirfieldIndex) -> Mapping[str, Score]:
    """Return the scores of a recording that is resampled to a step, by direction."""
    expected, found = read_events(recording), list(detect(read_polls(recording, step_s), airfields))
    return {direction: compare(found, expected, direction) for direction in DIRECTIONS}


def measure_pause(
    polls: Sequence[Poll], expected: Sequence[Event], pause_s: float, airfields: AirfieldIndex
) -> Mapping[str, tuple[int, int, int]]:
    """Return for each direction how many movements lie beside pauses of a length, and how many are missed and false."""
    counts = dict.fromkeys(DIRECTIONS, (0, 0, 0))
    for begin in _PAUSES_BEGIN_S:
        start = polls[0].time + begin
        heard = [each for each in polls if not _is_paused(each.time, start, pause_s)]
        found = list(detect(heard, airfields))
        beside = {
            each
            for each in expected
            if any(_is_paused(each.time + shift, start, pause_s) for shift in (-_BESIDE_S, 0.0, _BESIDE_S))
        }
        for direction in DIRECTIONS:
            score = compare(found, expected, direction)
            of, missed, false = counts[direction]
            counts[direction] = (
                of + sum(each.direction == direction for each in beside),
                missed + len(beside.intersection(score.missed)),
                false + len(score.false),
            )
    return counts


def _is_paused(time: float, start: float, pause_s: float) -> bool:
    """Return True if an instant is in the first `pause_s` of a quarter of an hour that begins at `start` or later."""
    return time >= start and (time - start) % _QUARTER_S < pause_s


def main(arguments: Sequence[str]) -> None:
    """Print the accuracy by polling interval and by pause; exit with one sentence unless 0 or 2 files are named."""
    if len(arguments) not in (0, 2):
        sys.exit(f"live_accuracy: name a recording and its events, or neither.\n\n{__doc__}")
    recording = Recording(*map(Path, arguments)) if arguments else PARIS
    airfields = load_airfields()
    print("| poll every | departures: precision / recall, delay | arrivals: precision / recall, delay |\n|---|---|---|")
    shortest: Mapping[str, Score] = {}
    for step in STEPS_S:
        scores = compare_recording(recording, step, airfields)
        shortest = shortest or scores
        cells = [
            f"{score.precision:.3f} / {score.recall:.3f}, {statistics.median(score.delays_s or [0.0]):.0f} s"
            for score in scores.values()
        ]
        print(f"| {step} s | {' | '.join(cells)} |")
    for kind, name in (("missed", "missed"), ("false", "found, but not expected")):
        for score in shortest.values():
            for event in getattr(score, kind):
                print(f"{name}: {event.direction} {event.icao24} {event.airport} {event.time:.0f}")
    print("\n| no polls for | departures: recall beside it, false | arrivals: recall beside it, false |\n|---|---|---|")
    polls, expected = read_polls(recording, STEPS_S[0]), read_events(recording)
    for pause in PAUSES_S:
        counts = measure_pause(polls, expected, pause, airfields)
        cells = [f"{1 - missed / max(of, 1):.2f} of {of}, {false}" for of, missed, false in counts.values()]
        print(f"| {pause} s | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
