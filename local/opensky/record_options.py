"""The command-line options of the nightly record: all are the replay's, and some the demo has, too, and passes on."""

import argparse
import re
from collections.abc import Iterable
from datetime import date, timedelta
from typing import Final

from domain.airports import find_airport
from local.opensky.nightly_record import DEFAULT_RECORD_AFTER, DEFAULT_SECOND_PART_AFTER, RecordSchedule

FIRST_DAY: Final = date(2013, 1, 1)
LAST_DAY: Final = date(2014, 1, 1)
"""The UTC day on which the last flights of New York's 2013 left and arrived."""


def add_record_options(parser: argparse.ArgumentParser) -> None:
    """Add all options of the nightly record to a parser; `parse_record_options` validates what they are given."""
    at, after = encode_time(DEFAULT_RECORD_AFTER), encode_time(DEFAULT_SECOND_PART_AFTER)
    parser.add_argument(
        "--record-at", default=at, metavar="HH:MM", help="UTC time at which yesterday's record appears (%(default)s)"
    )
    add_shared_options(parser)
    parser.add_argument(
        "--second-part-after", metavar="HH:MM", help=f"how much later the second of two parts appears ({after})"
    )
    parser.add_argument("--first-day", metavar="DAY", help="there are no flights before this day")
    parser.add_argument("--last-day", metavar="DAY", help="there are no flights after this day")


def add_shared_options(parser: argparse.ArgumentParser) -> None:
    """Add the options that the demo has, too, and give the others the values that they have when they are not given."""
    parser.set_defaults(
        record_at=encode_time(DEFAULT_RECORD_AFTER), second_part_after=None, first_day=None, last_day=None
    )
    parser.add_argument(
        "--record-parts", default="1", metavar="1|2", help="2: about half of each record's flights appear later"
    )
    parser.add_argument(
        "--record-late", action="append", default=[], metavar="DAY", help="repeatable: its record appears a day later"
    )
    parser.add_argument(
        "--record-missing", action="append", default=[], metavar="DAY", help="repeatable: its record never appears"
    )
    parser.add_argument(
        "--without", action="append", default=[], metavar="AIRPORT", help="repeatable: nobody listens there, no flights"
    )
    parser.add_argument(
        "--departures-live",
        action="store_true",
        help="departures of today are given at once, until the record is there",
    )


def parse_record_options(options: argparse.Namespace) -> RecordSchedule:
    """Make the schedule that the options of `add_record_options` ask for.

    Raises ValueError, whose text is a sentence without its full stop, for the first invalid option.
    """
    record_after = _parse_time("--record-at", options.record_at)
    if record_after >= timedelta(days=1):
        raise ValueError(f"--record-at {options.record_at}: a time of day is from 00:00 to 23:59")
    if options.record_parts not in ("1", "2"):
        raise ValueError(f"--record-parts {options.record_parts}: the record comes in 1 part or in 2")
    second_part_after = None
    if options.record_parts == "2":
        second_part_after = DEFAULT_SECOND_PART_AFTER
        if options.second_part_after is not None:
            second_part_after = _parse_time("--second-part-after", options.second_part_after)
        if not second_part_after:
            raise ValueError("--second-part-after 00:00: the second part must appear later than the first")
    elif options.second_part_after is not None:
        raise ValueError("--second-part-after needs --record-parts 2")
    late_days = frozenset(_parse_day("--record-late", text) for text in options.record_late)
    missing_days = frozenset(_parse_day("--record-missing", text) for text in options.record_missing)
    for day in sorted(late_days & missing_days):
        raise ValueError(f"the record of {day} cannot be both late (--record-late) and missing (--record-missing)")
    first_day = None if options.first_day is None else _parse_day("--first-day", options.first_day)
    last_day = None if options.last_day is None else _parse_day("--last-day", options.last_day)
    if first_day is not None and last_day is not None and last_day < first_day:
        raise ValueError(f"--last-day {last_day} must not be before --first-day {first_day}")
    return RecordSchedule(
        record_after=record_after,
        second_part_after=second_part_after,
        late_days=late_days,
        missing_days=missing_days,
        unheard_airports=frozenset(map(_parse_airport, options.without)),
        departures_live=options.departures_live,
        first_day=first_day,
        last_day=last_day,
    )


def encode_record_options(schedule: RecordSchedule) -> list[str]:
    """Return the command-line options from which `parse_record_options` makes this schedule; no option has a space."""
    options = [f"--record-at={encode_time(schedule.record_after)}"]
    if schedule.second_part_after is not None:
        options += ["--record-parts=2", f"--second-part-after={encode_time(schedule.second_part_after)}"]
    options += _encode_each("--record-late", (day.isoformat() for day in schedule.late_days))
    options += _encode_each("--record-missing", (day.isoformat() for day in schedule.missing_days))
    options += _encode_each("--without", schedule.unheard_airports)
    options += [f"--first-day={schedule.first_day}"] if schedule.first_day is not None else []
    options += [f"--last-day={schedule.last_day}"] if schedule.last_day is not None else []
    return [*options, "--departures-live"] if schedule.departures_live else options


def encode_time(duration: timedelta) -> str:
    """Encode a duration of whole minutes as HH:MM."""
    return "{:02}:{:02}".format(*divmod(duration // timedelta(minutes=1), 60))


def _encode_each(option: str, values: Iterable[str]) -> list[str]:
    return [f"{option}={value}" for value in sorted(values)]


def _parse_time(option: str, text: str) -> timedelta:
    """Parse a duration of the form HH:MM, below 100 hours. Raises ValueError, which names the option."""
    match = re.fullmatch(r"([0-9]{2}):([0-5][0-9])", text)
    if match is None:
        raise ValueError(f"{option} {text}: is no time; write it as 02:40")
    return timedelta(hours=int(match[1]), minutes=int(match[2]))


def _parse_day(option: str, text: str) -> date:
    """Parse a day on which the replay has flights. Raises ValueError, which names the option."""
    if not re.fullmatch(r"[0-9]{4}-[0-9]{2}-[0-9]{2}", text):
        raise ValueError(f"{option} {text}: is no day; write it as 2013-02-09")
    try:
        day = date.fromisoformat(text)
    except ValueError:
        raise ValueError(f"{option} {text}: there is no such day") from None
    if not FIRST_DAY <= day <= LAST_DAY:
        raise ValueError(f"{option} {text}: the flights are of the UTC days from {FIRST_DAY} to {LAST_DAY}")
    return day


def _parse_airport(text: str) -> str:
    """Parse an airport's code, in lower case, too. Raises ValueError for a code that no airport has."""
    if find_airport(text.upper()) is None:
        raise ValueError(f"--without {text}: is no airport's ICAO code (four characters, as KBOS)")
    return text.upper()
