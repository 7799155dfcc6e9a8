"""The memory of a feed as bytes: a detector that goes on from it finds what the other one would have found."""

import random
import zlib
from itertools import islice

import pytest
from hypothesis import given, settings, strategies as st

from benchmarks.live_accuracy import PARIS
from collector.live.airfields import AirfieldIndex, load_airfields
from collector.live.live_coverage import LiveCoverage, PollSummary
from collector.live.movements import Movement, MovementDetector
from collector.live.recordings import read_recording, resample
from collector.live.snapshots import (
    FeedMemory,
    UnreadableSnapshotError,
    dump_memory,
    load_memory,
)
from collector.live.tracks import Track
from collector.sources.state_vector import Poll
from domain.interests import Direction
from tests.collector.live.skies import Reception, hear
from tests.collector.live.test_movements import AIRFIELDS, fill_sky

COVERAGE = LiveCoverage(10.5, PollSummary(700.25, 699.5, 3, 1), 11.0, 699.5, {Direction.ARRIVALS: 99.5})


def hand_over(detector: MovementDetector, airfields: AirfieldIndex) -> MovementDetector:
    """Return another detector, which goes on from the memory of the given one as bytes."""
    body = dump_memory(FeedMemory(detector.get_memory()))
    other = MovementDetector(airfields)
    other.restore(load_memory(body, airfields).detector)
    return other


def detect(polls: list[Poll], airfields: AirfieldIndex, handed_over_at: frozenset[int]) -> list[Movement]:
    """Return what is found in polls, by detectors that take over before the polls of these numbers."""
    detector, found = MovementDetector(airfields), []
    for number, poll in enumerate(polls):
        if number in handed_over_at:
            detector = hand_over(detector, airfields)
        found += detector.observe(poll)
    return found


@settings(max_examples=10)
@given(st.integers(0, 2**31), st.sampled_from([10, 30, 60]), st.sampled_from([0.0, 150.0, 450.0]), st.booleans())
def test_nothing_changes_by_a_hand_over(seed: int, step: int, floor_m: float, noise: bool) -> None:
    """Between any two polls, as often as one likes, on skies with all that is a movement and all that is none."""
    polls = list(hear(fill_sky(seed), step, Reception(floor_m=floor_m, noise=noise), seed))
    chance = random.Random(seed)
    handed_over_at = frozenset(chance.sample(range(1, len(polls)), 12))
    expected = detect(polls, AIRFIELDS, frozenset())
    assert expected
    assert detect(polls, AIRFIELDS, handed_over_at) == expected


def test_nothing_changes_by_a_hand_over_in_the_recording() -> None:
    """With the runways of the world: before each tenth poll of half an hour around Paris."""
    with PARIS.polls.open("rb") as stream:
        polls = list(islice(resample(read_recording(stream), 20.0), 90))
    expected = detect(polls, load_airfields(), frozenset())
    assert len(expected) > 10
    assert detect(polls, load_airfields(), frozenset(range(1, len(polls), 10))) == expected


def test_all_fields_come_back() -> None:
    """Also coverage, what is not published yet, and the sources."""
    memory = FeedMemory(
        MovementDetector(AIRFIELDS).get_memory(),
        {"EDLA": COVERAGE, "EDNX": LiveCoverage()},
        {("EDLA", Direction.ARRIVALS): ((1.5, 2.25), (3.0, 4.125))},
        frozenset(("url-1", "url-2")),
        1_700_000_000.75,
    )
    assert load_memory(dump_memory(memory), AIRFIELDS) == memory


@pytest.mark.parametrize(
    "body",
    [b"", b"nonsense", *map(zlib.compress, (b"[]", b"{}", b"7", b'{"detector":[1,2]}', b"\xff"))],
)
def test_what_is_no_snapshot_is_refused(body: bytes) -> None:
    """With one kind of error, so that its feed begins anew."""
    with pytest.raises(UnreadableSnapshotError):
        load_memory(body, AIRFIELDS)


def test_a_snapshot_that_is_cut_off_is_refused() -> None:
    """At any byte."""
    whole = dump_memory(FeedMemory(MovementDetector(AIRFIELDS).get_memory(), {"EDLA": COVERAGE}))
    for length in range(len(whole)):
        with pytest.raises(UnreadableSnapshotError):
            load_memory(whole[:length], AIRFIELDS)


def test_aircraft_at_an_airfield_that_is_gone_are_forgotten() -> None:
    """A newer table of runways may lack it; the other aircraft stay."""
    polls = list(hear(fill_sky(3), 30, Reception(), 3))
    detector = MovementDetector(AIRFIELDS)
    for poll in polls[: len(polls) // 2]:
        detector.observe(poll)
    memory = detector.get_memory()
    without = AirfieldIndex([AIRFIELDS.find_airfield("EDNX")])  # type: ignore[list-item]
    kept = load_memory(dump_memory(FeedMemory(memory)), without).detector.tracks

    def is_there(track: Track) -> bool:
        """Return True if a track names no airfield but the one that is left."""
        places = [track.airfield, *(each.airfield for each in (track.approach, track.last_approach) if each)]
        return all(place is None or place.icao == "EDNX" for place in places)

    assert set(kept) == {icao24 for icao24, track in memory.tracks.items() if is_there(track)}
    assert 0 < len(kept) < len(memory.tracks)
