"""The clocks: the machine's, and one that runs at another speed from another time."""

import time
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given, strategies as st

from chassis.clock import HeldClock, ScaledClock, SteadyClock, SystemClock, build_clock
from tests.fakes.clock import FakeClock

START = datetime(2013, 2, 8, tzinfo=UTC)
ANCHOR = datetime(2026, 7, 1, 12, tzinfo=UTC)

rates = st.floats(min_value=0.001, max_value=100_000)
durations = st.timedeltas(min_value=timedelta(0), max_value=timedelta(days=2))


def test_the_system_clock_shows_aware_utc() -> None:
    """Every instant inside the program is aware and in UTC."""
    before = datetime.now(UTC)
    now = SystemClock().now()
    assert now.tzinfo is UTC
    assert before <= now <= datetime.now(UTC)


@given(rate=rates, passed=durations)
def test_a_scaled_clock_runs_rate_times_real_time(rate: float, passed: timedelta) -> None:
    """At the anchor it shows its start; after a real duration it has moved by rate times that."""
    real = FakeClock(ANCHOR)
    clock = ScaledClock(START, rate, ANCHOR, real=real)
    assert clock.now() == START
    real.advance(passed)
    assert clock.now() == START + passed * rate


@given(rate=rates, steps=st.lists(durations, max_size=20), stop=st.none() | durations)
def test_a_scaled_clock_never_runs_backwards(rate: float, steps: list[timedelta], stop: timedelta | None) -> None:
    """Later in reality is never earlier on the clock, nor later than its stop."""
    real = FakeClock(ANCHOR)
    clock = ScaledClock(START, rate, ANCHOR, None if stop is None else START + stop, real)
    shown = [clock.now()]
    for step in steps:
        real.advance(step)
        shown.append(clock.now())
    assert shown == sorted(shown)
    assert stop is None or shown[-1] <= START + stop


@given(rate=rates, duration=durations)
def test_real_seconds_are_what_the_duration_takes(rate: float, duration: timedelta) -> None:
    """After real_seconds(d) of real time the clock has moved by d, to a timer's precision."""
    real = FakeClock(ANCHOR)
    clock = ScaledClock(START, rate, ANCHOR, real=real)
    real.advance(timedelta(seconds=clock.real_seconds(duration)))
    assert abs(clock.now() - START - duration) <= timedelta(microseconds=2) * max(rate, 1)


def test_a_timer_is_never_asked_to_wait_a_negative_time() -> None:
    """An instant that has passed is due at once."""
    assert SystemClock().real_seconds(timedelta(seconds=-5)) == 0.0
    assert ScaledClock(START, 10, ANCHOR).real_seconds(timedelta(seconds=-5)) == 0.0


def test_a_halted_clock_still_has_running_timers() -> None:
    """After its stop the clock always shows the stop, but waits take as long as before."""
    real = FakeClock(ANCHOR)
    clock = ScaledClock(START, 3600, ANCHOR, stop=START + timedelta(hours=1), real=real)
    real.advance(timedelta(days=1))
    assert clock.now() == START + timedelta(hours=1)
    assert clock.real_seconds(timedelta(hours=2)) == 2.0


def test_the_system_clocks_elapsed_time_is_that_of_a_monotonic_clock() -> None:
    """It passes as fast as real time, and the process begins near zero, whatever the wall clock shows."""
    clock = SystemClock()
    began, elapsed = time.monotonic(), clock.elapsed()
    assert timedelta(0) <= elapsed < timedelta(days=1)
    while time.monotonic() < began + 0.02:
        assert elapsed <= (elapsed := clock.elapsed())
    assert abs((clock.elapsed() - elapsed).total_seconds()) < 1


@given(
    rate=rates,
    steps=st.lists(st.tuples(durations, st.timedeltas(timedelta(days=-400), timedelta(days=400))), max_size=20),
    stop=st.none() | durations,
)
def test_elapsed_time_does_not_depend_on_the_wall_clock_nor_on_the_stop(
    rate: float, steps: list[tuple[timedelta, timedelta]], stop: timedelta | None
) -> None:
    """It is the real time that passed, times the rate, however often the wall clock is set in between."""
    real = FakeClock(ANCHOR)
    clock = ScaledClock(START, rate, ANCHOR, None if stop is None else START + stop, real)
    began, passed = clock.elapsed(), timedelta(0)
    for step, jump in steps:
        before = clock.elapsed()
        real.set_wall_clock(real.now() + jump)
        assert clock.elapsed() == before
        real.advance(step)
        passed += step
        assert clock.elapsed() >= before
    assert clock.elapsed() - began == passed * rate


def test_a_pause_that_began_on_a_halted_clock_ends() -> None:
    """A timer of real_seconds(d) fires when d has elapsed, before the stop and after it."""
    real = FakeClock(ANCHOR)
    clock = ScaledClock(START, 3600, ANCHOR, stop=START, real=real)
    began, pause = clock.elapsed(), timedelta(hours=2)
    real.advance(timedelta(seconds=clock.real_seconds(pause)))
    assert clock.elapsed() - began == pause
    assert clock.now() == START


@given(
    jump=st.timedeltas(timedelta(days=-4000), timedelta(days=4000)), passed=st.timedeltas(timedelta(0), timedelta(9))
)
def test_a_steady_clock_ignores_that_the_wall_clock_is_set(jump: timedelta, passed: timedelta) -> None:
    """It shows when it was made plus the elapsed time; the wall clock shows what it was set to."""
    wall = FakeClock()
    began = wall.now()
    steady = SteadyClock(wall)
    wall.set_wall_clock(began + jump)
    wall.advance(passed)
    assert (steady.now(), steady.elapsed(), steady.wall.now()) == (began + passed, passed, began + jump + passed)


def test_processes_with_the_same_values_agree_whenever_they_started() -> None:
    """A restarted process continues at the right time, because nothing depends on when the clock was created."""
    real = FakeClock(ANCHOR)
    first = ScaledClock(START, 60, ANCHOR, real=real)
    real.advance(timedelta(minutes=7))
    assert ScaledClock(START, 60, ANCHOR, real=real).now() == first.now() == START + timedelta(hours=7)


def test_instants_of_other_zones_are_shown_in_utc() -> None:
    """The start may name any offset; the clock shows UTC."""
    start = datetime(2013, 2, 7, 19, tzinfo=timezone(timedelta(hours=-5)))
    clock = ScaledClock(start, 1, ANCHOR, real=FakeClock(ANCHOR))
    assert clock.now() == START
    assert clock.now().tzinfo is UTC


@pytest.mark.parametrize("rate", [0.0, -1.0, float("nan"), float("inf")])
def test_a_rate_must_be_a_positive_number(rate: float) -> None:
    """An invalid rate raises ValueError, with or without a start."""
    with pytest.raises(ValueError, match="rate"):
        build_clock(START, rate, ANCHOR)
    with pytest.raises(ValueError, match="rate"):
        build_clock(None, rate)


@pytest.mark.parametrize("name", ["start", "anchor", "stop"])
def test_naive_instants_are_rejected_by_name(name: str) -> None:
    """An instant without an offset would mean another time on every machine."""
    values = {"start": START, "anchor": ANCHOR, "stop": START}
    values[name] = values[name].replace(tzinfo=None)
    with pytest.raises(ValueError, match=f"clock's {name} "):
        build_clock(values["start"], 1.0, values["anchor"], values["stop"])


def test_a_clock_cannot_stop_before_it_starts() -> None:
    """A stop before the start raises ValueError."""
    with pytest.raises(ValueError, match="before its start"):
        build_clock(START, 1.0, ANCHOR, START - timedelta(seconds=1))


def test_without_a_start_it_is_the_system_clock() -> None:
    """Without a start no other setting is allowed, because it would silently have no effect."""
    assert build_clock(None, 1.0, None, None) == SystemClock()
    for rate, anchor, stop in ((2.0, None, None), (1.0, ANCHOR, None), (1.0, None, START)):
        with pytest.raises(ValueError, match="needs a start"):
            build_clock(None, rate, anchor, stop)


def test_without_an_anchor_the_clock_starts_now() -> None:
    """One process alone needs no agreement with others."""
    clock = build_clock(START, 1.0)
    assert START <= clock.now() < START + timedelta(minutes=1)


@given(rate=rates, before=durations, steps=st.lists(durations, max_size=20), stop=st.none() | durations)
def test_a_held_clock_is_a_scaled_clock_from_its_release_on(
    rate: float, before: timedelta, steps: list[timedelta], stop: timedelta | None
) -> None:
    """Before its release the clock shows its start and no time elapses; afterwards both run."""
    real, ends = FakeClock(ANCHOR), None if stop is None else START + stop
    with TemporaryDirectory() as folder:
        clock = HeldClock(START, rate, Path(folder) / "anchor", ends, real)
        real.advance(before)
        assert (clock.now(), clock.elapsed(), clock.is_halted()) == (START, timedelta(0), False)
        model = ScaledClock(START, rate, real.now(), ends, real)
        assert clock.release() == model
        passed = timedelta(0)
        for step in steps:
            real.advance(step)
            passed += step
            assert (clock.now(), clock.elapsed(), clock.is_halted()) == (model.now(), passed * rate, model.is_halted())
            assert clock.real_seconds(step) == model.real_seconds(step)


@given(before=durations, unnoticed=durations, late=durations)
def test_processes_with_one_file_agree_whenever_they_started_or_looked(
    before: timedelta, unnoticed: timedelta, late: timedelta
) -> None:
    """One that looks at the time only later, or starts later, shows the same; both have one offset of elapsed time."""
    real = FakeClock(ANCHOR)
    with TemporaryDirectory() as folder:
        path = Path(folder) / "anchor"
        first, idle = (HeldClock(START, 60, path, real=real) for _ in range(2))
        real.advance(before)
        first.release()
        real.advance(unnoticed)
        assert idle.now() == first.now() == START + unnoticed * 60
        assert idle.now() - idle.elapsed() == START
        restarted = HeldClock(START, 60, path, real=real)
        real.advance(late)
        assert restarted.now() == first.now() == START + (unnoticed + late) * 60
        assert restarted.elapsed() == first.elapsed()


@given(jump=st.timedeltas(timedelta(days=-400), timedelta(days=400)), passed=durations)
def test_a_running_held_clock_elapses_whatever_the_wall_clock_is_set_to(jump: timedelta, passed: timedelta) -> None:
    """After the release the elapsed time is that of the monotonic clock; the time never falls below the start."""
    real = FakeClock(ANCHOR)
    with TemporaryDirectory() as folder:
        clock = HeldClock(START, 60, Path(folder) / "anchor", real=real)
        clock.release()
        real.set_wall_clock(ANCHOR + jump)
        real.advance(passed)
        assert clock.elapsed() == passed * 60
        assert clock.now() == max(START, START + (jump + passed) * 60)


def test_a_clock_is_released_once(tmp_path: Path) -> None:
    """A second release changes nothing, also by another process, and no part of a file remains."""
    real = FakeClock(ANCHOR)
    clocks = [HeldClock(START, 60, tmp_path / "anchor", real=real) for _ in range(2)]
    released = clocks[0].release()
    real.advance(timedelta(seconds=1))
    assert clocks[0].release() == clocks[1].release() == released
    assert [each.name for each in tmp_path.iterdir()] == ["anchor"]


def test_a_held_clock_shows_utc_and_checks_its_values_before_the_release(tmp_path: Path) -> None:
    """What a scaled clock rejects is rejected when the held clock is made, not when it is released."""
    start = datetime(2013, 2, 7, 19, tzinfo=timezone(timedelta(hours=-5)))
    held = build_clock(start, 60.0, anchor_path=tmp_path / "anchor")
    assert held.now() == START
    assert held.now().tzinfo is UTC
    with pytest.raises(ValueError, match="rate"):
        build_clock(START, 0.0, anchor_path=tmp_path / "anchor")
    with pytest.raises(ValueError, match="before its start"):
        build_clock(START, 1.0, None, START - timedelta(seconds=1), tmp_path / "anchor")
    with pytest.raises(ValueError, match=r"CLOCK_ANCHOR_PATH.*unset one"):
        build_clock(START, 1.0, ANCHOR, None, tmp_path / "anchor")
    with pytest.raises(ValueError, match="needs a start"):
        build_clock(None, anchor_path=tmp_path / "anchor")
    with pytest.raises(ValueError, match=r"CLOCK_ANCHOR_PATH.*make the folder first"):
        build_clock(START, 1.0, anchor_path=tmp_path / "missing" / "anchor")


@pytest.mark.parametrize("content", [b"", b"soon", b"2026-07-01", b"2026-07-01T12:00:00", b"\xff"])
def test_a_file_without_an_instant_is_an_error_that_names_the_variable(tmp_path: Path, content: bytes) -> None:
    """It is never taken for a file that is not there yet: the clock would be held for ever."""
    path = tmp_path / "anchor"
    clock = HeldClock(START, 1.0, path, real=FakeClock(ANCHOR))
    path.write_bytes(content)
    for read in (clock.now, clock.elapsed, lambda: HeldClock(START, 1.0, path)):
        with pytest.raises(ValueError, match=r"^CLOCK_ANCHOR_PATH: "):
            read()
    path.unlink()
    path.mkdir()
    with pytest.raises(ValueError, match=r"^CLOCK_ANCHOR_PATH: names a file that cannot be read \("):
        clock.now()
