"""Tests that a crash between the write of the history and that of the airports' entries changes nothing."""

import asyncio
from collections.abc import Iterator
from dataclasses import replace
from random import Random
from uuid import UUID

from hypothesis import given, settings, strategies as st

from domain.hourly_counts import DAY_HOURS
from domain.interests import Direction
from domain.traffic import Coverage, Observation, Traffic
from domain.windows import HOUR_S, Window, seconds
from streams.join_state import JoinState
from tests.domain.filled_logs import LONG_SLOT_S, generate_filled_log
from tests.domain.logs import BASE, an_interest
from tests.domain.test_rule import seen
from tests.fakes.stream import FakeTable
from tests.streams.events import Event, interest_set, observed
from tests.streams.join_with_fakes import JoinWithFakes, run_pending_tasks

DAY_S = DAY_HOURS * HOUR_S
INTERESTS = [
    interest_set(an_interest(interest_id=UUID(int=number), window=window, high=high, low=low, for_windows=1), number)
    for number, (window, high, low) in enumerate(
        [(Window.ONE_DAY, 2, 1), (Window.ONE_DAY, 3, None), (Window.ONE_HOUR, 1, None)], start=1
    )
]


def generate_days(chance: Random) -> list[Observation]:
    """Generate a log of some days of departures, with late and retracted flights of all days before, and with jumps.

    A message covers up to three days, is a part of what follows, or is about an interval that was covered. Its flights
    have the fingerprints by which they can be retracted.
    """
    watermark, known, log = seconds(BASE), list[tuple[int, int]](), list[Observation]()
    for _ in range(chance.randint(5, 14)):
        begin, coverage = watermark, Coverage.COMPLETE
        end = begin + chance.choice((6, 24, 24, 24, 30, 72)) * HOUR_S
        kind = chance.random()
        if kind < 0.3 and log:
            begin, end = log[0].begin, log[0].end  # a correction of an interval that was covered
        elif kind < 0.4:
            coverage = Coverage.PARTIAL
        elif kind < 0.5:
            jump = chance.choice((2, 30, 60)) * DAY_S
            begin, end = begin + jump, end + jump
        watermark = max(watermark, begin if coverage is Coverage.PARTIAL else end)
        times = [chance.randrange(begin, end) // HOUR_S * HOUR_S for _ in range(chance.randint(0, 3))]
        if chance.random() < 0.5:
            earliest = max(seconds(BASE), begin - 10 * DAY_S)
            times += [chance.randrange(earliest, begin + 1) for _ in range(chance.randint(0, 2))]
        flights = [(at, 1 + len(known) + number) for number, at in enumerate(times)]
        retracted = chance.sample(known, min(len(known), chance.choice((0, 0, 1, 2))))
        known += flights
        fingerprints = tuple(each for _, each in flights)
        log.append(
            Observation(Direction.DEPARTURES, begin, end, tuple(times), coverage, fingerprints, tuple(retracted))
        )
    return log


def is_waiting(table: FakeTable) -> bool:
    """Return True if the changelog does not have the table's last write yet."""
    write = table.last_write(0)
    return write is not None and not write.done()


async def read_together(join: JoinWithFakes, events: list[Event], crashes: Iterator[bool]) -> bool:
    """Let the agent read events that wait together, and return True if it did all their effects.

    `crashes`: for each write of the history, True if the partition is lost once the changelog has it.
    """
    lost = False
    running = asyncio.create_task(join.run(*events))
    while not running.done() or is_waiting(join.airports) or is_waiting(join.interests):
        await run_pending_tasks()
        if is_waiting(join.airports):
            join.airports.keep()
        elif is_waiting(join.interests):
            join.interests.keep()
        elif is_waiting(join.history):
            if next(crashes):
                lost = True
                join.is_still_owned = lambda _event: False
            join.history.keep()
    await running
    if lost:
        join.state.discard_indexes()
        join.is_still_owned = lambda _event: True
    return not lost


def fold_log(log: list[Observation], chance: Random | None) -> tuple[set[bytes], Traffic]:
    """Return the alerts of a log and the traffic that the tables have at its end.

    `chance`: chooses how many events wait together, and up to five crashes. None: each event is read alone.
    """

    async def scenario() -> tuple[set[bytes], Traffic]:
        join = JoinWithFakes()
        await read_together(join, INTERESTS, iter(()))
        events = [observed("KJFK", number, each) for number, each in enumerate(log, start=1)]
        read, crashes_left = 0, 5 if chance else 0
        while read < len(events):
            together = chance.randint(1, 6) if chance else 1
            is_crash = bool(chance and crashes_left and chance.random() < 0.6)
            skipped = chance.randint(0, 2) if chance and is_crash else 0
            crashes = iter([False] * skipped + [is_crash] + [False] * len(events))
            if await read_together(join, events[read : read + together], crashes):
                read += together
            else:
                crashes_left -= 1
        fresh = JoinState(join.airports, join.interests, join.history).read_traffic("KJFK")
        assert fresh == join.state.read_traffic("KJFK")
        return {value for name, value in join.actions if name == "alert"}, fresh[1]

    return asyncio.run(scenario())


@settings(max_examples=50, deadline=None)
@given(seed=st.integers(0, 2**32))
def test_a_crash_after_the_history_was_written_changes_neither_alerts_nor_traffic(seed):
    """However events waited together before the crash and after it: flights count once, and alerts are the same."""
    chance = Random(seed)
    log = generate_days(chance)
    assert fold_log(log, chance) == fold_log(log, None)


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 2**32))
def test_a_crash_changes_nothing_where_gaps_are_filled(seed):
    """A fill opens closed days again, and moves the start of coverage: both are in the tables, or neither."""
    log = generate_filled_log(Random(seed), LONG_SLOT_S)
    assert fold_log(log, Random(seed)) == fold_log(log, None)


def test_a_day_that_the_closing_message_corrects_moves_when_days_close_the_next_time():
    """The history gets no flight that the airport's entry before lacks, and the entry becomes small again."""

    async def scenario() -> None:
        join = JoinWithFakes()
        correction = replace(seen(24 * 5, 24 * 6, (1.5,)), fingerprints=(1,))
        days = [seen(24 * day, 24 * (day + 1), (24 * day + 1,)) for day in range(5)]
        log = [observed("KJFK", number, each) for number, each in enumerate([*days, correction], start=1)]
        for event in log:
            assert await read_together(join, [event], iter([False] * 9))
        first = f"KJFK/departures/{seconds(BASE) // DAY_S}".encode()
        before = join.history[first]
        assert JoinState(join.airports, {}, join.history).read_traffic("KJFK")[1].departures.counts.total(0, 10**7) == 6
        assert await read_together(join, [observed("KJFK", 7, seen(24 * 6, 24 * 7))], iter([False] * 9))
        assert join.history[first] != before
        assert len(join.airports[b"KJFK"]) < 150

    asyncio.run(scenario())


def test_the_history_is_written_when_the_changelog_has_the_airports_entry_before():
    """A recovery from the changelogs would otherwise find the moved day without the entry that takes precedence."""

    async def scenario() -> None:
        join = JoinWithFakes()
        await join.run(observed("KJFK", 1, seen(0, 24, (1,))))
        running = asyncio.create_task(join.run(observed("KJFK", 2, seen(24, 72))))
        await run_pending_tasks()
        assert join.action_names == ["written"]
        join.airports.keep()
        await run_pending_tasks()
        assert join.action_names == ["written", "kept", "acknowledged", "past written"]
        join.history.keep()
        await running

    asyncio.run(scenario())
