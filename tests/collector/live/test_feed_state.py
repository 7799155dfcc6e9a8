"""The state of a feed: what it covers of a direction that somebody begins to want while movements happen."""

import pytest

from collector.live.feed_state import FeedState, build_rules
from collector.live.poll_summaries import AirportGrid
from collector.live.snapshots import dump_memory, load_memory
from domain.interests import Direction
from tests.collector.live.skies import BEGIN, fly, hear, landing
from tests.collector.live.test_movements import AIRFIELDS, CLEAR, LARGE

ARRIVALS, DEPARTURES = ("EDLA", Direction.ARRIVALS), ("EDLA", Direction.DEPARTURES)


@pytest.mark.parametrize("hands_over", [False, True])
def test_what_was_dropped_while_nobody_wanted_a_direction_is_not_covered(hands_over: bool) -> None:
    """An interest in arrivals comes five minutes after a landing, where only departures were wanted before.

    The landing was revealed, and dropped: the time of it must not be told as covered, also by the next leader. A
    landing after that is published, and its time covered; departures are covered all the time.
    """
    flights = [
        fly(f"a0000{number}", BEGIN + 120.0 + number * 2_000.0, LARGE, LARGE.ends[0], landing(stands=3_000.0), "arr")
        for number in range(2)
    ]
    landed = [int(each.expected[0].time) for each in flights]
    joined = landed[0] + 300.0
    state = FeedState(AIRFIELDS, build_rules(10.0))
    grid, has_joined = AirportGrid([LARGE]), False
    for poll in hear(flights, 10, CLEAR, 1):
        if poll.time >= joined and not has_joined:
            has_joined = True
            if hands_over:
                body = dump_memory(state.get_memory({}))
                state = FeedState(AIRFIELDS, build_rules(10.0), load_memory(body, AIRFIELDS))
        targets = {ARRIVALS, DEPARTURES} if has_joined else {DEPARTURES}
        state.fold(poll, poll.time, grid, {"EDLA"}, targets)
    published = [int(each.movement.event_time.timestamp()) for each in state.unpublished if each.target == ARRIVALS]
    assert [abs(at - landed[1]) < 30 for at in published] == [True]
    ((begin, end),) = state.stretches[ARRIVALS]
    assert landed[0] < begin <= joined < published[0] < end
    ((other_begin, other_end),) = state.stretches[DEPARTURES]
    assert other_begin < landed[0] < end == other_end


def test_the_time_of_movements_that_are_given_up_is_not_covered() -> None:
    """The database was away for too long: with its movements, what was covered is forgotten; later time is covered."""
    flight = fly("a00001", BEGIN + 120.0, LARGE, LARGE.ends[0], landing(stands=3_000.0), "arr")
    landed, given_up_at = flight.expected[0].time, BEGIN + 2_000.0
    state = FeedState(AIRFIELDS, build_rules(10.0))
    has_given_up = False
    for poll in hear([flight], 10, CLEAR, 1):
        if poll.time >= given_up_at and not has_given_up:
            has_given_up = True
            ((begin, end),) = state.stretches[ARRIVALS]
            assert begin < landed < end
            state.give_up()
        state.fold(poll, poll.time, AirportGrid([LARGE]), {"EDLA"}, {ARRIVALS})
    assert state.unpublished == []
    ((begin, end),) = state.stretches[ARRIVALS]
    assert given_up_at < begin < end


@pytest.mark.parametrize("hands_over", [False, True])
def test_a_clock_that_was_ahead_and_is_set_back_stops_nothing(hands_over: bool) -> None:
    """A receiver on the same machine states the machine's time: an hour ahead at first, then right.

    What was found ahead of time is dropped; a landing after that is found, and its time covered, also by a leader that
    goes on from the memory of the time ahead.
    """
    early = fly("a00001", BEGIN + 3_720.0, LARGE, LARGE.ends[0], landing(), "arr")
    flight = fly("a00002", BEGIN + 120.0, LARGE, LARGE.ends[0], landing(stands=3_000.0), "arr")
    state = FeedState(AIRFIELDS, build_rules(10.0))
    for poll in hear([early], 10, CLEAR, 1):
        if poll.time >= BEGIN + 3_600.0:
            state.fold(poll, poll.time, AirportGrid([LARGE]), {"EDLA"}, {ARRIVALS})
    assert state.unpublished
    if hands_over:
        body = dump_memory(state.get_memory({}))
        state = FeedState(AIRFIELDS, build_rules(10.0), load_memory(body, AIRFIELDS))
    for poll in hear([flight], 10, CLEAR, 1):
        if poll.time < BEGIN + 3_000.0:
            state.fold(poll, poll.time, AirportGrid([LARGE]), {"EDLA"}, {ARRIVALS})
    (found,) = state.unpublished
    assert abs(found.movement.event_time.timestamp() - flight.expected[0].time) < 30
    ((begin, end),) = state.stretches[ARRIVALS]
    assert begin < flight.expected[0].time < end < BEGIN + 3_000.0
