"""After a pause, missed polls are asked for as far as the source gives them, and what they show is published once."""

import asyncio
from collections import Counter
from datetime import timedelta
from itertools import pairwise

import pytest
from hypothesis import given, strategies as st

from collector.errors import SourceLimitedError, SourceRefusedError, SourceUnavailableError
from collector.live.feeds import OutdatedAnswerError, RoundPlan, RoundResult
from collector.live.missed_polls import LOOK_BACK_S, list_missed_times, merge_missed_poll
from collector.live.movements import BRIDGED_PAUSE_S
from collector.live.region_planner import LONGEST_INTERVAL_S, SHORTEST_INTERVAL_S
from local.opensky.state_faults import FaultSpell, StateFault, StateFaultPlan
from tests.collector.conftest import ON_SQLITE
from tests.collector.live.live_world import BEGIN, LiveWorld, detect_in, running_world
from tests.collector.live.test_feeds import DOWN, poll
from tests.collector.live.test_opensky_feeds import (
    NOON,
    PER_DAY,
    FeedUnderTest,
    tested as tested,
)

T0 = int(BEGIN.timestamp())
MINUTE = 60


@given(
    st.integers(0, 20_000),
    st.integers(0, 10_000_000).map(lambda tenths: T0 + tenths / 10),
    st.integers(SHORTEST_INTERVAL_S, LONGEST_INTERVAL_S),
)
def test_no_pause_is_left_that_the_detector_does_not_bridge(pause_s: int, until: float, interval_s: int) -> None:
    """From the last poll, or from where the source still knows, to the next one; and no instant is asked for in vain.

    No more of them than the polls that were missed, or one a minute.
    """
    heard_until = until - pause_s
    times = list_missed_times(heard_until, until, interval_s)
    if pause_s <= BRIDGED_PAUSE_S:
        assert times == []
        return
    begin = max(heard_until, until - LOOK_BACK_S)
    assert all(begin <= at < until for at in times)
    row = [*([heard_until] if heard_until >= until - LOOK_BACK_S else []), *times, until]
    assert all(0 < other - one <= BRIDGED_PAUSE_S for one, other in pairwise(row))
    assert len(times) <= min(pause_s, LOOK_BACK_S) / max(min(interval_s, LONGEST_INTERVAL_S), MINUTE) + 1
    assert until - times[0] >= min(pause_s - BRIDGED_PAUSE_S, LOOK_BACK_S - 10)


def test_an_answer_about_another_time_does_not_count() -> None:
    """Neither does one of now, if the source ignores the time, nor one with old positions or none, nor a failure."""
    fresh = RoundResult({"opensky": {"box": poll(600, "aaaaaa"), "other": poll(595, "bbbbbb")}}, {})
    at = int(poll(600).time)
    assert {each.icao24 for each in merge_missed_poll(fresh, at).states} == {"aaaaaa", "bbbbbb"}
    for polls in (
        {"box": poll(660, "aaaaaa")},
        {"box": poll(600, "aaaaaa"), "other": poll(540, "bbbbbb")},
        {"box": poll(600, "aaaaaa", age=300.0)},
        {"box": poll(600)},
        {},
    ):
        with pytest.raises(OutdatedAnswerError):
            merge_missed_poll(RoundResult({"opensky": polls}, {}), at)
    with pytest.raises(SourceUnavailableError):
        merge_missed_poll(RoundResult({}, {"opensky": DOWN}), at)


def list_holes(world: LiveWorld) -> list[int]:
    """Return the seconds of all holes in what is covered, after a check that all four targets are."""
    covered = world.list_covered()
    assert len(covered) == 4
    return [other[0] - one[1] for each in covered.values() for one, other in pairwise(each) if other[0] != one[1]]


@pytest.mark.parametrize("pause_min", [3, 15, 55])
def test_a_pause_of_less_than_an_hour_leaves_no_hole(database_url: str, pause_min: int) -> None:
    """Nobody leads for a while: then each movement is there, once, and all is covered."""
    hours = 1.0 + pause_min / 60
    with running_world(database_url, hours + 0.7) as world:
        world.lead(BEGIN + timedelta(minutes=40))
        world.clock.advance(timedelta(minutes=pause_min))
        world.lead(BEGIN + timedelta(hours=hours + 0.7))
        assert list_holes(world) == []
        published = world.list_published()
        assert set(Counter(each[:3] for each in published).values()) == {1}
        in_order = sorted(world.polls, key=lambda each: each.time)
        assert all(other.time - one.time <= BRIDGED_PAUSE_S for one, other in pairwise(in_order))
        assert {each[:3] for each in published} == {each[:3] for each in detect_in(in_order)}


@ON_SQLITE
def test_of_a_longer_pause_the_last_hour_is_covered(database_url: str) -> None:
    """The hole is shorter than the pause by nearly an hour."""
    with running_world(database_url, 3.3) as world:
        world.lead(BEGIN + timedelta(minutes=40))
        world.clock.advance(timedelta(minutes=90))
        world.lead(BEGIN + timedelta(hours=3.2))
        holes = list_holes(world)
        assert len(holes) == 4
        assert all(90 * MINUTE - LOOK_BACK_S <= each <= (90 - 58 + 16 + 5) * MINUTE for each in holes)


@ON_SQLITE
@pytest.mark.parametrize(
    ("fault", "is_known_later"), [(StateFault.OUTAGE, True), (StateFault.FROZEN, False), (StateFault.EMPTY, False)]
)
def test_of_an_outage_is_covered_what_the_source_knows_afterwards(
    database_url: str, fault: StateFault, is_known_later: bool
) -> None:
    """The whole outage, if the source was only unreachable; nothing, if it heard nothing or its time stood still."""
    begin = T0 + 40 * MINUTE
    spell = FaultSpell(fault, begin, begin + 12 * MINUTE)
    with running_world(database_url, 1.9, StateFaultPlan((spell,))) as world:
        world.lead(BEGIN + timedelta(hours=1.8))
        holes = list_holes(world)
        assert holes == [] if is_known_later else len(holes) == 4
        published = world.list_published()
        assert len(published) == len({each[:3] for each in published})


@ON_SQLITE
def test_a_source_that_ignores_the_time_costs_two_requests_and_live_goes_on(database_url: str) -> None:
    """Its answers about now do not count for then: a hole as long as the pause stays until the night's record."""
    with running_world(database_url, 1.9) as world:
        world.ignores_time = True
        world.lead(BEGIN + timedelta(minutes=40))
        world.clock.advance(timedelta(minutes=15))
        polls = len(world.polls)
        world.lead(BEGIN + timedelta(hours=1.8))
        holes = list_holes(world)
        assert len(holes) == 4
        assert min(holes) >= 15 * MINUTE
        repeats = [one.time for one, other in pairwise(world.polls[polls:]) if other.time - one.time < 5]
        assert len(repeats) <= 2
        published = world.list_published()
        assert len(published) == len({each[:3] for each in published})


def test_missed_polls_are_charged_and_only_if_the_day_lasts(tested: FeedUnderTest) -> None:
    """The credits that are left must still pay for the regions until midnight; a failure pauses no other request."""
    feed, now = tested.feed, NOON.timestamp()
    assert asyncio.run(feed.list_missed_times(now - 900, now)) == ()  # nothing was polled yet
    planned = tested.make_round("KJFK")
    tested.note(planned, RoundResult({"opensky": {"box": poll(0)}}, {}), left=PER_DAY - 1)
    times = asyncio.run(feed.list_missed_times(now - 900, now))
    assert len(times) == 14
    spent = tested.balance.spent
    result = asyncio.run(feed.fetch_missed_poll(tested.term, times[0]))
    assert list(result.polls) == ["opensky"]
    assert tested.states.asked[-1] == times[0]
    assert tested.balance.spent == spent + 1
    # 12 hours at a poll each 90 s after this one take 479 credits.
    tested.note(planned, RoundResult({"opensky": {"box": poll(0)}}, {}), left=492)
    assert asyncio.run(feed.list_missed_times(now - 900, now)) == ()
    tested.note(planned, RoundResult({"opensky": {"box": poll(0)}}, {}), left=493)
    assert len(asyncio.run(feed.list_missed_times(now - 900, now))) == 14


@ON_SQLITE
def test_a_refused_missed_poll_pauses_nothing_but_a_required_pause_is_kept(tested: FeedUnderTest) -> None:
    """An account that may not ask for the past still may for the present; a 429 is about both."""
    planned = tested.make_round("KJFK")
    tested.note(planned, RoundResult({"opensky": {"box": poll(0)}}, {}), left=PER_DAY - 1)
    tested.clock.advance(timedelta(minutes=2))
    tested.states.error = SourceRefusedError("not of then")
    assert asyncio.run(tested.feed.fetch_missed_poll(tested.term, 1)).failures
    assert isinstance(tested.plan("KJFK"), RoundPlan)
    spent = tested.balance.spent
    tested.states.error = SourceLimitedError(700.0)
    assert asyncio.run(tested.feed.fetch_missed_poll(tested.term, 1)).failures
    assert tested.balance.spent == spent
    assert asyncio.run(tested.feed.list_missed_times(1.0, 1_000.0)) == ()
