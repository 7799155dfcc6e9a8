"""No mail of the demo contradicts the timetable, whatever the nightly record is like, and whatever is watched."""

import os
import subprocess
from collections import Counter
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from random import Random
from typing import Final

import pytest

from domain.alerts import AlertState, Bound
from domain.interests import Direction
from domain.windows import Window
from local.mailbox.reading import read_mails
from local.opensky import nycflights
from local.opensky.flights import Timetable
from notifier.mail.alert_header import ALERT_HEADER, AlertHeaderFields, parse_alert_header
from tests.e2e.demo_process import PORTS, read_output, run_demo
from tests.ports import free_ports
from tests.waiting import eventually

DAY: Final = timedelta(days=1)
DEPARTURES: Final = ("KJFK", "KEWR", "KLGA")
ARRIVALS: Final = ("KATL", "KORD", "KLAX", "KBOS", "KMCO", "KFLL", "KCLT", "KSFO", "KDCA", "PHNL", "TJSJ")
RARE: Final = ("KEYW", "PANC", "KLEX", "KHDN", "KMTJ", "KPSP", "KCHO", "KSBN", "KCAE", "KEGE", "KJAC", "KBZN")
"""Airports with a flight from New York on some days only."""
SEED: Final = os.environ.get("DEMO_SEED", "2013")
"""What is watched, and when, is drawn from it; any text."""


@pytest.fixture(scope="module")
def timetable(flights_cache: Path) -> Timetable:
    """The timetable of the real flights."""
    return Timetable(nycflights.load(flights_cache))


@dataclass(frozen=True)
class Draw:
    """A demo to run: its first day, the day after its last one, and its interests as the option --interest has them."""

    begin: datetime
    end: datetime
    interests: tuple[str, ...]

    def list_arguments(self) -> list[str]:
        """Return the options of the demo, without those about the record."""
        days = ["--from", f"{self.begin:%F}", "--to", f"{self.end:%F}"]
        return [*days, *(word for each in self.interests for word in ("--interest", each))]


def draw_demo(timetable: Timetable, seed: str) -> Draw:
    """Draw three days, airports, and levels that about a fifth of the windows cross in either direction.

    One of the airports has its first flight in these days, where there is such an airport.
    """
    chance = Random(seed)
    begin = datetime(2013, 1, 3, tzinfo=UTC) + chance.randrange(350) * DAY
    end = begin + 3 * DAY
    one, two = chance.sample(DEPARTURES, 2)
    chosen = [(one, Direction.DEPARTURES), (two, Direction.BOTH)]
    chosen += [(each, Direction.ARRIVALS) for each in chance.sample(ARRIVALS, 2)]
    windows = chance.sample(list(Window) * 2, len(chosen))
    interests = []
    for (airport, direction), window in zip(chosen, windows, strict=True):
        starts = [begin + number * window.length for number in range((end - begin) // window.length)]
        counts = sorted(count_flights(timetable, airport, direction, at, at + window.length) for at in starts)
        fifth = max(len(counts) // 5, 1)
        high, low = counts[-fifth] - 1, counts[fifth - 1] + 1
        levels = f"high={high}:low={low}" if high > low else f"low={low}"
        repeat = chance.choice([":repeat", ":for=2", ""])
        interests.append(f"{airport}:{direction.value}:{window.value}:{levels}{repeat}")
    for airport in chance.sample(RARE, len(RARE)):
        before, during = (
            count_flights(timetable, airport, Direction.ARRIVALS, *days)
            for days in ((begin - DAY, begin), (begin, end))
        )
        if during and not before:
            interests.append(f"{airport}:arrivals:1h:low=1")
            break
    return Draw(begin, end, tuple(interests))


def count_flights(timetable: Timetable, airport: str, direction: Direction, begin: datetime, end: datetime) -> int:
    """Count the flights of an airport in [begin, end) as the timetable has them."""
    first, last = int(begin.timestamp()), int(end.timestamp()) - 1
    found = 0
    if direction is not Direction.ARRIVALS:
        found += len(timetable.find_departures(airport, first, last))
    if direction is not Direction.DEPARTURES:
        found += len(timetable.find_arrivals(airport, first, last))
    return found


def find_contradiction(timetable: Timetable, alert: AlertHeaderFields) -> str | None:
    """Return what the timetable has against an alert; None if it is true.

    A low alert and a return to normal count all flights of the window; an early high may count fewer, but is past its
    level. Nothing is ever withdrawn, because nothing false is said.
    """
    length = alert.window.length
    true = count_flights(timetable, alert.airport, alert.direction, alert.window_start, alert.window_start + length)
    is_early_high = alert.bound is Bound.HIGH and alert.state in (AlertState.FIRING, AlertState.STILL)
    if alert.state is AlertState.WITHDRAWN:
        return f"withdrawn: {alert}"
    if alert.count > true or (alert.count < true and not is_early_high):
        return f"{true} in truth: {alert}"
    if (alert.state is AlertState.RESOLVED) is alert.bound.is_breached(alert.count, alert.threshold):
        return f"not so by its own count: {alert}"
    return None


def watch_demo(process: subprocess.Popen[str], data: Path, timetable: Timetable) -> Counter[AlertState]:
    """Check each mail as it comes, until the demo has ended; return how many alerts were mailed of each state."""
    seen: set[str] = set()
    states: Counter[AlertState] = Counter()

    def check_new_mails() -> bool:
        """Fail if a new mail contradicts the timetable; return True once the demo has ended and all mails are read."""
        has_ended = process.poll() is not None
        for mail in read_mails(data / "mail", seen):
            seen.add(mail.key)
            for value in mail.message.get_all(ALERT_HEADER, []):
                alert = parse_alert_header(str(value))
                assert find_contradiction(timetable, alert) is None, find_contradiction(timetable, alert)
                states[alert.state] += 1
        return has_ended

    eventually(check_new_mails, "the end of the demo", 500)
    return states


def run_and_watch(tmp_path: Path, timetable: Timetable, draw: Draw, *arguments: str) -> str:
    """Run a demo and watch its mails: no alert is false at any time, and all expected ones come; return its output."""
    data = tmp_path / "demo"
    options = ["--settled", "--once", *draw.list_arguments(), *arguments]
    with run_demo(data, free_ports(PORTS), *options) as process:
        states = watch_demo(process, data, timetable)
        assert process.returncode == 0, f"{options}: {read_output(data)}"
    assert states[AlertState.FIRING], options
    return read_output(data)


def test_no_alert_is_false_with_a_record_in_parts_and_a_late_day(tmp_path: Path, timetable: Timetable) -> None:
    """Of each night's record half comes an hour later than the other, and that of the second day a day late."""
    draw = draw_demo(timetable, SEED)
    late = f"{draw.begin + DAY:%F}"
    run_and_watch(tmp_path, timetable, draw, "--record-parts", "2", "--record-late", late)


@pytest.mark.faults
@pytest.mark.parametrize("number", range(2))
def test_no_alert_is_false_with_a_whole_record(tmp_path: Path, timetable: Timetable, number: int) -> None:
    """Airports, days and levels are others than the demo's own."""
    run_and_watch(tmp_path, timetable, draw_demo(timetable, f"{SEED} whole {number}"))


@pytest.mark.faults
@pytest.mark.parametrize("live_credits", ["0", "1000000"])
def test_no_alert_is_false_with_live_departures(
    tmp_path: Path, timetable: Timetable, monkeypatch: pytest.MonkeyPatch, live_credits: str
) -> None:
    """Departures of today prove nothing about the night's record, which replaces them, whether they are polled or not.

    The record comes in two parts; while only the first is there, half of the departures are unknown again.
    """
    monkeypatch.setenv("LIVE_DEPARTURES_CREDITS", live_credits)
    draw = draw_demo(timetable, f"{SEED} live {live_credits}")
    run_and_watch(tmp_path, timetable, draw, "--departures-live", "--record-parts", "2")


@pytest.mark.faults
def test_a_day_without_a_record_is_no_day_without_flights(tmp_path: Path, timetable: Timetable) -> None:
    """Nothing is said about the second day, and the third is judged once the second is given up."""
    draw = draw_demo(timetable, f"{SEED} missing")
    missing = f"{draw.begin + DAY:%F}"
    output = run_and_watch(tmp_path, timetable, draw, "--record-missing", missing)
    assert "never comes" in output


@pytest.mark.faults
def test_an_airport_where_nobody_listens_is_no_airport_without_flights(tmp_path: Path, timetable: Timetable) -> None:
    """Its people get one mail that says so, and no alert; those of the other airports come as always."""
    draw = draw_demo(timetable, f"{SEED} unheard")
    unheard = draw.interests[3].partition(":")[0]
    output = run_and_watch(tmp_path, timetable, draw, "--without", unheard)
    assert f"No flight of {unheard} is ever recorded" in output
    assert output.count(f"{unheard}: no flight reported since") == 1
    assert f"{unheard}: back to normal" not in output
