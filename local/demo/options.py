"""The demo's command line: its options, their validation, and the errors for invalid ones."""

import argparse
import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final
from uuid import UUID

from domain.airports import find_airport
from domain.interests import Direction, Interest, InterestError, check_alignment, check_low, check_thresholds
from domain.windows import AlignedTo, Window
from local.arguments import parse_whole_number
from local.errors import LocalError
from local.opensky.nightly_record import RecordSchedule
from local.opensky.record_options import add_shared_options, parse_record_options
from local.opensky.sky_options import STATE_FAULTS_FORM, STATE_FAULTS_HELP, check_state_faults
from local.ports import DEFAULT_BASE, Ports
from local.processes import ROOT
from towerwatch.topics import JOIN_PARTITIONS

FIRST_DAY: Final = datetime(2013, 1, 1, tzinfo=UTC)
DAY_AFTER_LAST: Final = datetime(2014, 1, 1, tzinfo=UTC)

DATA: Final = ROOT / ".towerwatch" / "demo"

DEFAULT_INTERESTS: Final = (
    "KJFK:departures:1h:high=20:low=1",
    "KBOS:arrivals:1d:low=10",
    "KLGA:both:6h:low=20",
)
_SETTLED_DAYS: Final = ("2013-02-08", "2013-02-11")
_LIVE_DAYS: Final = ("2013-02-09", "2013-02-10")
_LIVE_DAYS_OF_AIRPORTS: Final = ("2013-02-09", "2013-02-11")
"""The days of the blizzard that the story is about, and the days after them: live fewer, as the clock is slow.

A day by an airport's clock ends within the UTC day after it, which is then told, too.
"""
_DESCRIPTION: Final = "What can be asked of the demo, and clear words for what cannot."
_FORM: Final = "AIRPORT:DIRECTION:WINDOW[@airport][:high=N|N%][:low=N|N%][:for=N][:repeat]"
_NO_ID: Final = UUID(int=0)
"""The ids of an interest that is not stored anywhere yet."""


@dataclass(frozen=True, slots=True)
class Options:
    """The validated options of one demo run."""

    begin: datetime
    """The first day (UTC midnight)."""
    end: datetime
    """The day after the last one (UTC midnight)."""
    interests: tuple[Interest, ...]
    """The interests to set, each effective from `begin`; they have no ids yet."""
    once: bool
    """True: exit at the end of the scenario; False: keep the stack running until Ctrl-C."""
    json: Path | None
    """The file to write the mailed alerts to; None: no file."""
    ports: Ports
    reset_topics: bool
    streams_workers: int
    data: Path
    """The folder of this demo alone; what is in it is deleted."""
    schedule: RecordSchedule
    """When the replay's record of each day appears, and what it lacks."""
    is_live: bool
    """True: positions are polled, and mails come minutes after the movements; False: the night's record alone."""
    state_faults: str | None
    """The faults of the replay's positions, in the form of its option --state-faults; None: none."""

    @property
    def learning_targets(self) -> int:
        """The number of airports and directions, each alone, with thresholds in percent: they need the weeks before."""
        return len(
            {
                (each.airport, part)
                for each in self.interests
                if each.high_percent is not None or each.low_percent is not None
                for part in each.direction.parts
            }
        )


def parse_options(arguments: Sequence[str]) -> Options:
    """Parse and validate the command line. Raises LocalError, which names the invalid option.

    Invalid are: days out of 2013 or in the wrong order, a JSON file in a missing folder, a malformed interest, two
    interests of the same airport, direction and window length, faults of positions where there are none, a number of
    workers or a port out of range, an existing data folder that no demo has made, and a late or missing record of a day
    that the demo does not ask for. `--help` and unknown options end the program as argparse does.
    """
    parser = argparse.ArgumentParser(prog="make demo ARGS=…", description=_DESCRIPTION, allow_abbrev=False)
    parser.add_argument(
        "--once",
        action="store_true",
        help="exit when the story is over, with 0 if all was right; without it the pages stay up until Ctrl-C",
    )
    parser.add_argument(
        "--from",
        dest="begin",
        metavar="DAY",
        help=f"first UTC day ({_LIVE_DAYS[0]}; with --settled {_SETTLED_DAYS[0]})",
    )
    parser.add_argument(
        "--to",
        dest="end",
        metavar="DAY",
        help=f"the day after the last ({_LIVE_DAYS[1]}, or {_LIVE_DAYS_OF_AIRPORTS[1]} with a window of 1d@airport; "
        f"with --settled {_SETTLED_DAYS[1]})",
    )
    parser.add_argument(
        "--interest", action="append", metavar=_FORM, help="repeatable; replaces the demo's own interests"
    )
    parser.add_argument("--json", type=Path, metavar="PATH", help="write what was mailed")
    parser.add_argument(
        "--port-base", type=parse_whole_number, default=DEFAULT_BASE, metavar="N", help="first port (%(default)s)"
    )
    parser.add_argument(
        "--streams-workers",
        type=parse_whole_number,
        default=1,
        metavar="N",
        help="workers that share the airports (%(default)s); of several, one that ends is begun again",
    )
    parser.add_argument(
        "--reset-topics",
        action="store_true",
        help="with KAFKA_BOOTSTRAP_SERVERS set: first delete Towerwatch's topics there, with all that is in them",
    )
    parser.add_argument(
        "--data", type=Path, default=DATA, metavar="DIR", help="the demo's own folder, emptied at its start"
    )
    parser.add_argument(
        "--settled",
        action="store_true",
        help="without positions: every mail comes from the night's record, and the clock runs faster",
    )
    parser.add_argument("--state-faults", type=check_state_faults, metavar=STATE_FAULTS_FORM, help=STATE_FAULTS_HELP)
    add_shared_options(parser)
    given = parser.parse_args(arguments)
    days = _choose_days(given.settled, given.interest or ())
    given.begin, given.end = given.begin or days[0], given.end or days[1]
    begin, end = _parse_day("--from", given.begin), _parse_day("--to", given.end)
    if end <= begin:
        raise LocalError(f"--to {given.end} must be a day after --from {given.begin}")
    if given.json is not None and not given.json.absolute().parent.is_dir():
        raise LocalError(f"--json {given.json}: there is no such folder")
    if given.settled and given.state_faults is not None:
        raise LocalError("--state-faults: without positions (--settled) there are no faults of them")
    interests = tuple(parse_interest(text, begin) for text in given.interest or DEFAULT_INTERESTS)
    kinds = [(each.airport, each.direction, each.window) for each in interests]
    for kind in kinds:  # the headers of mails do not tell windows by UTC from those by the airport's clock
        if kinds.count(kind) > 1:
            raise LocalError(f"--interest {':'.join(kind)} is given twice; a story has one interest of each kind")
    if not 1 <= given.streams_workers <= JOIN_PARTITIONS:
        raise LocalError(
            f"--streams-workers {given.streams_workers}: take from 1 to {JOIN_PARTITIONS}; "
            "each works on partitions of its own, and there are no more"
        )
    if given.data != DATA and given.data.exists() and not (given.data / "logs").is_dir():
        raise LocalError(f"--data {given.data}: exists and is no demo's folder; it would be emptied")
    return Options(
        begin,
        end,
        interests,
        given.once,
        given.json,
        Ports.from_base(given.port_base),
        given.reset_topics,
        given.streams_workers,
        given.data.absolute(),
        _parse_schedule(given, begin, end),
        not given.settled,
        given.state_faults,
    )


def _parse_schedule(given: argparse.Namespace, begin: datetime, end: datetime) -> RecordSchedule:
    """Build the schedule from the options about the record. Raises LocalError, also for a day outside of the demo's."""
    try:
        schedule = parse_record_options(given)
    except ValueError as error:
        raise LocalError(str(error)) from None
    for day in sorted(schedule.late_days | schedule.missing_days):
        if not (begin - timedelta(days=1)).date() <= day < end.date():
            raise LocalError(f"the record of {day} can be neither late nor missing: it is no day from --from to --to")
    return schedule


def _parse_day(option: str, text: str) -> datetime:
    """Parse a day of 2013 (UTC midnight); for `--to`, 1 January 2014 as well. Raises LocalError for any other text."""
    try:
        day = datetime.strptime(text, "%Y-%m-%d").replace(tzinfo=UTC)
    except ValueError:
        raise LocalError(f"{option} {text}: is no day; write it as 2013-02-08") from None
    last = DAY_AFTER_LAST if option == "--to" else DAY_AFTER_LAST - timedelta(days=1)
    if not FIRST_DAY <= day <= last:
        raise LocalError(f"{option} {text}: the real flights of the demo are of 2013; take a day of that year")
    return day


def _choose_days(is_settled: bool, interests: Sequence[str]) -> tuple[str, str]:
    """Return the first day of the story and the day after its last one, for who names none."""
    if is_settled:
        return _SETTLED_DAYS
    return _LIVE_DAYS_OF_AIRPORTS if any("1d@airport" in each for each in interests) else _LIVE_DAYS


def parse_interest(text: str, effective_from: datetime) -> Interest:
    """Parse an --interest option of the form `_FORM` to an interest at version 1; its ids are placeholders.

    N% is a percent of what is usual, N a number of flights. The airport's code may be in lower case. `for` is 1 and
    `repeat` off if not given. Raises LocalError that names the invalid part, also for an unknown airport or thresholds
    that an interest may not have.
    """

    def wrong(what: str) -> LocalError:
        return LocalError(f"--interest {text}: {what}; the form is {_FORM}")

    parts = text.strip().split(":")
    if len(parts) < 3:
        raise wrong("airport, direction and window are needed")
    icao = parts[0].upper()
    if find_airport(icao) is None:
        raise wrong(f"{parts[0]} is no airport's ICAO code (four characters, as KJFK)")
    try:
        direction = Direction(parts[1])
    except ValueError:
        raise wrong(f"{parts[1]!r} is no direction: arrivals, departures or both") from None
    try:
        length, at, clock = parts[2].partition("@")
        window, aligned_to = Window(length), AlignedTo(clock) if at else AlignedTo.UTC
    except ValueError:
        raise wrong(f"{parts[2]!r} is no window: 1h, 6h or 1d, and 6h@airport or 1d@airport") from None
    numbers: dict[str, int] = {}
    given: set[str] = set()
    repeat = False
    for part in parts[3:]:
        match = re.fullmatch(r"(high|low|for)=([0-9]{1,9})|(high|low)=([0-9]{1,9})%", part)
        name = None if match is None else match[1] or match[3]
        if part == "repeat" and not repeat:
            repeat = True
        elif match is None or name is None or name in given:
            raise wrong(f"{part!r} is none of high=N, low=N, high=N%, low=N%, for=N, repeat (each once)")
        else:
            given.add(name)
            numbers[name if match[1] else f"{name}_percent"] = int(match[2] or match[4])
    high, low, for_windows = numbers.get("high"), numbers.get("low"), numbers.get("for", 1)
    high_percent, low_percent = numbers.get("high_percent"), numbers.get("low_percent")
    try:
        check_thresholds(high, low, for_windows, high_percent, low_percent)
        check_low(low)
        check_alignment(aligned_to, window)
    except InterestError as error:
        raise wrong(str(error)) from None
    return Interest(
        interest_id=_NO_ID,
        user_id=_NO_ID,
        airport=icao,
        direction=direction,
        window=window,
        high=high,
        low=low,
        for_windows=for_windows,
        repeat=repeat,
        effective_from=effective_from,
        version=1,
        high_percent=high_percent,
        low_percent=low_percent,
        aligned_to=aligned_to,
    )
