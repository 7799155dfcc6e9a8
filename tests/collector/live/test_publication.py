"""What is published of coverage and movements, by example, and against the stream's own fold second by second."""

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import Final

import pytest
from hypothesis import example, given, settings, strategies as st

from collector.live.feed_state import FeedState, build_rules
from collector.live.poll_summaries import AirportGrid
from collector.live.publication import (
    OLDEST_WATERMARK_S,
    add_stretch,
    cut_before,
    find_batch_interval,
    plan_coverage,
)
from collector.live.snapshots import Stretch
from collector.sources.state_vector import Poll, Position, PositionSource, StateVector
from domain.interests import Direction
from domain.traffic import Coverage, DirectionTraffic, Observation
from tests.collector.live.test_movements import AIRFIELDS, LARGE

ARRIVALS: Final = Direction.ARRIVALS
TARGET: Final = ("EDLA", ARRIVALS)
HOUR: Final = 1_700_002_800
"""Unix seconds of a full hour."""
GRID: Final = AirportGrid([LARGE])


@pytest.mark.parametrize(
    ("stretches", "told", "expected", "due"),
    [
        ([(100, 250)], 100, None, []),  # goes on, but is short and passes no quarter
        ([(100, 400)], 100, None, [(100, 400)]),  # five minutes long
        ([(880, 901)], 880, None, [(880, 901)]),  # passes a quarter
        ([(880, 899.9)], 880, None, []),
        ([(100.2, 189)], 50, None, []),  # behind a hole, and shorter than 90 s
        ([(100.2, 191.8)], 50, None, [(101, 191)]),
        ([(100, 300)], 50, 70.0, []),  # another feed will cover a part of the hole
        ([(100, 300)], 50, 100.0, [(100, 300)]),
        ([(100, 300)], None, 70.0, []),
        ([(100, 300)], None, None, [(100, 300)]),
        ([(100, 130), (200, 300)], 90, None, [(100, 130), (200, 300)]),  # what precedes is published, too
        ([(100, 130), (200, 220)], 100, None, []),
        ([(100, 600)], 450, None, []),
        ([(100, 750)], 450, None, [(450, 750)]),
        ([(100.5, 100.9)], 10, None, []),  # no whole second
    ],
)
def test_coverage_is_published_in_order_and_not_at_each_poll(
    stretches: list[Stretch], told: int | None, expected: float | None, due: list[tuple[int, int]]
) -> None:
    """As the docstring of the function says."""
    assert plan_coverage(stretches, told, expected) == due


def test_coverage_goes_with_movements() -> None:
    """What goes on is published with them at once; what lies behind a hole waits as before."""
    assert plan_coverage([(100, 130)], 100, with_movements=True) == [(100, 130)]
    assert plan_coverage([(110, 130)], 100, with_movements=True) == []


def test_time_that_was_stored_unpublished_is_not_published_later() -> None:
    """An airport that agreed badly is trusted again: its coverage begins there, behind a hole."""
    assert plan_coverage([(100, 500)], 100, stored_until=350) == [(350, 500)]
    assert plan_coverage([(100, 420)], 100, stored_until=350) == []


@given(st.lists(st.tuples(st.integers(0, 90), st.integers(1, 20)), max_size=12), st.integers(0, 110))
def test_stretches_are_the_union_of_what_was_added(parts: list[tuple[int, int]], cut: int) -> None:
    """In order, without overlaps, and cut where asked."""
    stretches: tuple[Stretch, ...] = ()
    for begin, length in parts:
        stretches = add_stretch(stretches, begin, begin + length)
    seconds = {at for begin, length in parts for at in range(begin, begin + length)}
    assert list_seconds(stretches) == seconds
    assert all(one[1] < other[0] for one, other in pairwise(stretches))
    assert list_seconds(cut_before(stretches, cut)) == {at for at in seconds if at >= cut}
    assert cut_before(stretches, None) == stretches


@given(st.lists(st.integers(HOUR, HOUR + 3_600), min_size=1), st.none() | st.integers(HOUR - 10**6, HOUR + 10**4))
def test_a_message_of_movements_makes_no_gap(times: list[int], told: int | None) -> None:
    """Unless nothing was told for six days; and the stream accepts it and counts all of them."""
    begin, end = find_batch_interval(times, told)
    stream = DirectionTraffic() if told is None else DirectionTraffic(covered_from=told - 3_600, watermark=told)
    after = stream.fold(Observation(ARRIVALS, begin, end, tuple(times), Coverage.PARTIAL))
    assert 0 < end - begin <= 7 * 86_400
    assert sum(after.counts.total(hour, 1) for hour in range(HOUR // 3_600 - 1, HOUR // 3_600 + 3)) == len(times)
    if told is None or told > max(times) - OLDEST_WATERMARK_S:
        assert after.gaps == ()
        assert after.watermark == told


def list_seconds(stretches: Sequence[Stretch]) -> set[int]:
    """Return the whole seconds in stretches."""
    return {at for begin, end in stretches for at in range(math.ceil(begin), math.floor(end))}


class ModelFeed:
    """A feed that polls an airport where an aircraft stands, except in its outages."""

    def __init__(self, step: int, longest: float, lag: int, outages: Sequence[tuple[int, int]]) -> None:
        self.state = FeedState(AIRFIELDS, build_rules(longest))
        self.step, self.lag, self.outages = step, lag, outages
        self.covered: set[int] = set()
        """Seconds that the rule has said to be covered, ever."""

    def poll(self, now: int) -> None:
        """Poll if it is time, and there is no outage."""
        if now % self.step or any(begin <= now - HOUR < begin + length for begin, length in self.outages):
            return
        stated = float(now - self.lag)
        state = StateVector(
            "abcdef", "", stated, Position(stated, LARGE.latitude, LARGE.longitude), True, 100.0, None, 0.0, None, None,
            None, PositionSource.ADS_B,
        )  # fmt: skip
        self.state.fold(Poll(stated, [state]), float(now), GRID, {"EDLA"}, {TARGET})
        self.covered |= list_seconds(self.state.stretches.get(TARGET, ()))


OUTAGES = st.lists(st.tuples(st.integers(0, 7_200), st.integers(20, 1_500)), max_size=4)


@settings(max_examples=40)
@example([], [(1_000, 300)], 10, 1, 90, 1, 60)
@example([(2_000, 400)], [(3_000, 200)], 10, 0, 30, 5, 10)
@given(
    OUTAGES,
    OUTAGES,
    st.sampled_from([10, 20]),
    st.integers(0, 5),
    st.sampled_from([30, 60, 90]),
    st.integers(0, 60),
    st.integers(10, 60),
)
def test_no_gap_is_made_over_time_that_a_feed_covers(
    fast_outages: list[tuple[int, int]],
    slow_outages: list[tuple[int, int]],
    fast_step: int,
    fast_lag: int,
    slow_step: int,
    slow_lag: int,
    store_every: int,
) -> None:
    """Two feeds with any outages: no second that either has covered, or will cover, becomes a gap in the stream.

    And no second is published as covered that neither has covered, each once, in order; what is not published in the
    end is younger than the five minutes for which it may wait, or lies behind a hole that may still be covered.
    """
    fast, slow = ModelFeed(fast_step, 10.0, fast_lag, fast_outages), ModelFeed(slow_step, 90.0, slow_lag, slow_outages)
    told: int | None = None
    published: set[int] = set()
    stream = DirectionTraffic()
    for now in range(HOUR, HOUR + 9_600):
        fast.poll(now)
        slow.poll(now)
        if now % store_every:
            continue
        stretches: tuple[Stretch, ...] = ()
        expected: list[float] = []
        for feed in (fast, slow):
            for stretch in feed.state.stretches.get(TARGET, ()):
                stretches = add_stretch(stretches, *stretch)
            if (begin := feed.state.find_expected(float(now)).get(TARGET)) is not None:
                expected.append(begin)
        due = plan_coverage(cut_before(stretches, told), told, min(expected, default=None))
        for each in due:
            seconds = set(range(each.begin, each.end))
            assert seconds <= fast.covered | slow.covered
            assert not seconds & published
            published |= seconds
            stream = stream.fold(Observation(ARRIVALS, each.begin, each.end, (), Coverage.COMPLETE))
            assert stream.watermark == each.end
        if due:
            told = due[-1].end
            for feed in (fast, slow):
                feed.state.drop_published(0, {TARGET: float(told)})
    covered = fast.covered | slow.covered
    gaps = {at for begin, end in stream.gaps for at in range(begin, end)}
    assert not gaps & covered
    if not fast_outages or not slow_outages:
        assert covered
        assert max(covered) - (told or 0) <= 300 + store_every
    assert all(at >= (told or 0) for at in covered - published)
