"""The clock of a storm's story: it never runs so far ahead that a collector gives a day up, whatever else is slow."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given, strategies as st

from collector.settled.evidence import GIVE_UP_AFTER
from tests.faults.storm import clocks
from tests.faults.storm.clocks import SPEEDS, STANDS_AHEAD, StoryClock, Stretch, read_stretches

BEGIN = datetime(2013, 11, 10, tzinfo=UTC)
NOW_S = 1_700_000_000.0

SPEED_LISTS = st.lists(st.tuples(st.floats(0.01, 300), st.floats(0.01, 1)), max_size=4).map(sorted)
"""Speeds, each with the reading until which it holds, in seconds after the first reading."""


def test_a_story_stands_while_its_driver_is_busy_before_a_day_is_given_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A restart of the broker took the driver a minute: meanwhile the story ran on for six days, and a day was lost.

    The first day that is not covered is given up GIVE_UP_AFTER its end.
    """
    now_s = NOW_S
    monkeypatch.setattr(clocks, "_real_time", lambda: now_s)
    story = StoryClock(tmp_path / "story", BEGIN + timedelta(hours=6))
    story.go_on(BEGIN, BEGIN)
    now_s += 100  # the driver is busy: its broker starts
    assert timedelta(days=3) < story.now() - BEGIN < timedelta(days=4)
    now_s += 36_000
    given_up_at = BEGIN + timedelta(days=1) + GIVE_UP_AFTER
    assert story.now() - BEGIN == pytest.approx(STANDS_AHEAD, abs=timedelta(seconds=1))
    assert story.now() < given_up_at - timedelta(hours=11)
    story.go_on(BEGIN + timedelta(days=4), BEGIN)  # covered, but asked for again by somebody who comes
    now_s += 36_000
    assert story.now() < given_up_at - timedelta(hours=11)
    story.go_on(BEGIN + timedelta(days=4), BEGIN + timedelta(days=4))
    now_s += 36_000
    assert story.now() > given_up_at


def test_a_story_stands_when_it_is_stopped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It then goes on from where it stood, and what is covered by then may be the same as before."""
    now_s = NOW_S
    monkeypatch.setattr(clocks, "_real_time", lambda: now_s)
    story = StoryClock(tmp_path / "story", BEGIN)
    story.go_on(BEGIN, BEGIN)
    now_s += 10
    story.stop()
    stood_at = story.now()
    now_s += 1_000
    assert story.now() == stood_at
    story.go_on(BEGIN, BEGIN)
    now_s += 1
    assert timedelta(hours=2) < story.now() - stood_at < timedelta(hours=3)


@given(st.lists(st.tuples(st.floats(0, 1_000), SPEED_LISTS), min_size=1, max_size=5), st.floats(-10, 10_000))
def test_a_story_never_jumps_and_what_it_showed_stays(
    added: list[tuple[float, list[tuple[float, float]]]], at: float
) -> None:
    """A clock that is stopped reads an earlier time, and must stand: a later stretch never changes what was shown.

    At no time does the story run faster than its highest speed, go back, or exceed the reading where it is to stand.
    """
    stretches: list[Stretch] = [(0.0, 0.0, [])]
    for pause, speeds in added:
        since = stretches[-1][0] + pause
        before = read_stretches(stretches, at)
        stretches.append((since, read_stretches(stretches, since), speeds))
        if at < since:
            assert read_stretches(stretches, at) == before
        farthest = max([stretches[-1][1], *(until for until, _ in speeds)])
        assert read_stretches(stretches, since + 10**9) == pytest.approx(farthest)
    reading = read_stretches(stretches, at)
    assert -1e-6 <= read_stretches(stretches, at + 1) - reading <= 1 + 1e-6


def test_speeds_fall_the_farther_the_story_is_ahead() -> None:
    """A day that is not covered is asked for often as long as it is young, and the story is slow before it is old."""
    leads, speeds = zip(*SPEEDS, strict=True)
    assert list(leads) == sorted(leads)
    assert list(speeds) == sorted(speeds, reverse=True)
    assert leads[-1] < STANDS_AHEAD < timedelta(days=1) + GIVE_UP_AFTER
