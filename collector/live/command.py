"""`python -m collector movements`: what the detector finds in a recording, or in a receiver's answers, as CSV."""

import argparse
import csv
import math
import os
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import BinaryIO, Final, cast

import httpx

from collector.live.airfields import load_airfields
from collector.live.movements import Movement, MovementDetector
from collector.live.recordings import MAX_BYTES, UnreadableRecordingError, parse_poll, read_recording, resample
from collector.sources.state_vector import Poll, UnreadablePollError
from domain.airports import describe_unknown_code, find_airport
from domain.interests import Direction

COLUMNS: Final = ("direction", "icao24", "airport", "time", "evidence")

_DEFAULT_STEP_S: Final = 10.0
_TIMEOUT_S: Final = 20.0
_PROGRESS_EVERY_S: Final = 10.0
_DIRECTIONS: Final = {Direction.DEPARTURES: "dep", Direction.ARRIVALS: "arr"}


class _UnreachableError(Exception):
    """An address gives no poll; the text says in a few words why."""


class _Summary:
    """Counts of what was read and found, for the lines on standard error."""

    def __init__(self) -> None:
        self.polls = self.skipped = self.undecided = 0
        self.begin = self.end = 0.0
        self.aircraft: set[str] = set()
        self.dropped: Counter[str] = Counter()
        self.found: Counter[str] = Counter()
        self.airports: set[str] = set()

    def add_poll(self, poll: Poll) -> None:
        """Count a poll; one that is not later than those before is skipped by the detector."""
        if self.polls and poll.time <= self.end:
            self.skipped += 1
        else:
            self.begin, self.end = self.begin if self.polls else poll.time, poll.time
        self.polls += 1
        self.aircraft.update(state.icao24 for state in poll.states)
        self.dropped.update(poll.dropped)

    def describe(self) -> str:
        """Return one sentence with the counts."""
        if not self.polls:
            return "no poll was read: it takes polls of /states/all or aircraft.json, one in a line"
        sentence = (
            f"{self.polls:,} polls from {_format_time(self.begin)} to {_format_time(self.end)}, "
            f"{len(self.aircraft):,} aircraft: {self.found['dep']:,} departures and {self.found['arr']:,} arrivals "
            f"at {len(self.airports):,} airports"
        )
        if self.undecided:
            are = "approach is" if self.undecided == 1 else "approaches are"
            sentence += f"; {self.undecided:,} {are} not decided: nobody can see yet whether the aircraft went around"
        if self.skipped:
            sentence += f"; {self.skipped:,} polls were not later than the one before, and were skipped"
        if self.dropped:
            fields = ", ".join(f"{name} {count:,}" for name, count in sorted(self.dropped.items()))
            sentence += f"; unreadable or absurd, and dropped: {fields}"
        return sentence


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the movements as CSV, and return the exit status; invalid arguments end the program as argparse does."""
    chosen = _build_parser().parse_args(arguments)
    summary = _Summary()
    try:
        _detect_and_print_movements(chosen, summary)
        sys.stdout.flush()
    except (UnreadableRecordingError, _UnreachableError) as error:
        sys.stdout.flush()
        return _print_line(f"{_name_source(chosen.source)} {error}", status=2)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # so that nothing is flushed there at the end
        return 0
    except KeyboardInterrupt:
        _print_line(summary.describe())
        return 130
    return _print_line(summary.describe(), status=0 if summary.polls else 2)


def _detect_and_print_movements(chosen: argparse.Namespace, summary: _Summary) -> None:
    """Read the polls, detect movements, and print those of the chosen airport as rows of CSV at once.

    Counts polls and movements in `summary`, and prints the summary now and then.
    """
    rows = csv.writer(sys.stdout, lineterminator="\n")
    rows.writerow(COLUMNS)
    sys.stdout.flush()
    detector = MovementDetector(load_airfields())
    told = time.monotonic()
    for poll in _open_polls(chosen):
        summary.add_poll(poll)
        for movement in detector.observe(poll):
            if chosen.airport in (None, movement.airport):
                rows.writerow(_build_row(movement))
                summary.found[_DIRECTIONS[movement.direction]] += 1
                summary.airports.add(movement.airport)
        summary.undecided = detector.count_undecided(chosen.airport)
        sys.stdout.flush()
        if time.monotonic() - told >= _PROGRESS_EVERY_S:
            told = time.monotonic()
            _print_line(f"{summary.describe()}, so far")


def _build_row(movement: Movement) -> tuple[str, str, str, int, str]:
    """Return a movement as a row of the output: dep or arr, icao24, airport, seconds since 1970, and its evidence."""
    return (
        _DIRECTIONS[movement.direction],
        movement.icao24,
        movement.airport,
        int(movement.event_time.timestamp()),
        movement.evidence.value,
    )


def _open_polls(chosen: argparse.Namespace) -> Iterator[Poll]:
    """Yield the polls of the chosen source. Raises UnreadableRecordingError or _UnreachableError."""
    if _is_url(chosen.source):
        yield from _poll_url(chosen.source, chosen.step or _DEFAULT_STEP_S, time.sleep)
        return
    if chosen.source == "-":
        polls = read_recording(sys.stdin.buffer)
        yield from resample(polls, chosen.step) if chosen.step else polls
        return
    try:
        stream = Path(chosen.source).open("rb")  # noqa: SIM115 - closed below, and its opening has an error of its own
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is no file's name"
        raise UnreadableRecordingError(f"cannot be read: {reason}") from error
    with stream:
        polls = read_recording(cast(BinaryIO, stream))
        yield from resample(polls, chosen.step) if chosen.step else polls


def _poll_url(url: str, step_s: float, sleep: Callable[[float], None]) -> Iterator[Poll]:
    """Yield the answers of an address, one a step, for ever.

    Raises _UnreachableError if the first answer is no poll; later ones that are none are reported and left out.
    """
    is_first = True
    with httpx.Client(timeout=_TIMEOUT_S, headers={"User-Agent": "towerwatch"}, follow_redirects=False) as client:
        while True:
            begun = time.monotonic()
            try:
                yield _fetch_poll(client, url)
                is_first = False
            except _UnreachableError as error:
                if is_first:
                    raise
                _print_line(f"the address {error}; it is asked again")
            sleep(max(step_s - (time.monotonic() - begun), 0.0))


def _fetch_poll(client: httpx.Client, url: str) -> Poll:
    """Return the poll that an address gives. Raises _UnreachableError, whose text does not show the address."""
    try:
        with client.stream("GET", url) as answer:
            if answer.status_code != httpx.codes.OK:
                raise _UnreachableError(f"answers with the status {answer.status_code}, not with a poll")
            body = bytearray()
            for part in answer.iter_bytes():
                body += part
                if len(body) > MAX_BYTES:
                    raise _UnreachableError(f"gives more than {MAX_BYTES:,} bytes, which is no poll")
        return parse_poll(httpx.Response(200, content=bytes(body)).json())
    except UnreadablePollError as error:
        raise _UnreachableError(f"gives no poll: {error}") from error
    except (ValueError, RecursionError) as error:
        raise _UnreachableError("gives no JSON") from error
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        raise _UnreachableError("cannot be reached, or breaks off") from error


def _is_url(source: str) -> bool:
    """Return True if the source is an address of the web and not a file."""
    return source.lower().startswith(("http://", "https://"))


def _name_source(source: str) -> str:
    """Return how a sentence names the source: an address may hold a password, and is not shown."""
    return "the address" if _is_url(source) else "the standard input:" if source == "-" else f"{source}:"


def _format_time(seconds: float) -> str:
    """Return an instant as `2021-10-07 12:00:00Z`."""
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%d %H:%M:%S}Z"


def _print_line(text: str, status: int = 0) -> int:
    """Print a line on standard error, after the command's name, and return the status."""
    print(f"movements: {text}", file=sys.stderr, flush=True)
    return status


def _parse_step(text: str) -> float:
    """Return a number of seconds from 1 to 3,600. Raises ArgumentTypeError for another text."""
    try:
        seconds = float(text)
    except ValueError:
        seconds = math.nan
    if not 1.0 <= seconds <= 3_600.0:
        raise argparse.ArgumentTypeError(f"{text!r} is no number of seconds from 1 to 3600")
    return seconds


def _parse_airport(text: str) -> str:
    """Return an ICAO code in upper case. Raises ArgumentTypeError if no airport has it."""
    code = text.strip().upper()
    if find_airport(code) is None:
        raise argparse.ArgumentTypeError(f"{text!r}: {describe_unknown_code(code)}")
    return code


def _build_parser() -> argparse.ArgumentParser:
    """Build the parser of the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m collector movements",
        description="Prints the take-offs and landings that the detector finds in polls of positions, as CSV: "
        "direction (dep or arr), icao24, airport, time (Unix seconds) and evidence. Needs no database and no Kafka.",
        epilog="Exit status: 0 when done, 2 when the polls cannot be read, with one sentence on standard error; 130 "
        "when interrupted.",
        allow_abbrev=False,
    )
    parser.add_argument(
        "source",
        metavar="FILE|URL",
        help="polls in the form of OpenSky's /states/all or of readsb's aircraft.json: one in a line, or one document; "
        "also compressed (.gz); - is the standard input; an address is asked again and again, until interrupted",
    )
    parser.add_argument(
        "--step",
        type=_parse_step,
        metavar="SECONDS",
        help="take one poll in so many seconds (of a file: default all; of an address: default 10)",
    )
    parser.add_argument("--airport", type=_parse_airport, metavar="ICAO", help="print movements at this airport alone")
    return parser
