"""Runs the replay: `python -m local.opensky --port 8090`, with the time from CLOCK_START and its companions."""

import argparse
import errno
import gc
import os
import signal
import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path

from aiohttp import web

from chassis.clock import Clock, build_clock
from local.arguments import parse_port
from local.opensky import faults, nycflights
from local.opensky.access import AccessControl, Credentials
from local.opensky.fault_kinds import InjectedFault
from local.opensky.flights import Timetable
from local.opensky.record_options import add_record_options, parse_record_options
from local.opensky.server import make_app, make_sky
from local.opensky.sky_options import add_sky_options, build_sky_settings
from local.opensky.state_requests import StateRequests


def main() -> int:
    """Load the flights and serve until SIGTERM or SIGINT; then return exit status 0.

    Returns 2 for an invalid clock, incomplete credentials or an impossible nightly record, 1 if the port cannot be
    used; before both, one sentence on standard error gives the reason. Other invalid options end the program as
    argparse does. Prints the URL once it serves.
    """
    environment = os.environ
    options = _parse_options(environment)
    try:
        clock = _make_clock(environment)
        credentials = _read_credentials(options.client_id, options.client_secret)
        schedule = parse_record_options(options)
    except ValueError as error:
        return _print_error(str(error), 2)
    # Until aiohttp handles them, too, they end the program in silence.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: sys.exit(0))
    # 328,000 flights are made and none thrown away: collecting garbage meanwhile would take a third of the start.
    gc.disable()
    timetable = Timetable(nycflights.load(nycflights.find_cache_directory(environment)))
    gc.freeze()
    gc.enable()
    access = AccessControl(credentials, options.credits_per_day)
    sky = make_sky(timetable, schedule, build_sky_settings(options), goes_on=options.sky_goes_on)
    states = StateRequests(sky, options.receiver, options.state_faults, options.receiver_faults)
    app = make_app(timetable, clock, access, options.faults, schedule, states)
    try:
        web.run_app(
            app,
            host=options.host,
            port=options.port,
            access_log=None,
            shutdown_timeout=1.0,
            print=lambda _: print(f"OpenSky replay: http://{options.host}:{options.port}/api", flush=True),
        )
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            return _print_error(f"port {options.port} of {options.host} is in use", 1)
        return _print_error(f"cannot listen on {options.host}:{options.port}: {error.strerror}", 1)
    return 0


def _parse_options(environment: Mapping[str, str]) -> argparse.Namespace:
    """Parse the command line, with the client's credentials from the environment as defaults.

    `--help` and invalid options end the program.
    """
    parser = argparse.ArgumentParser(prog="python -m local.opensky", description=__doc__, allow_abbrev=False)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=parse_port, required=True)
    parser.add_argument(
        "--credits-per-day",
        type=_parse_credits,
        metavar="N",
        help="for every caller and bucket (states, tracks, flights), instead of 400 (anonymous) and 4000",
    )
    parser.add_argument("--client-id", default=environment.get("OPENSKY_CLIENT_ID"), help="or OPENSKY_CLIENT_ID")
    parser.add_argument(
        "--client-secret", default=environment.get("OPENSKY_CLIENT_SECRET"), help="or OPENSKY_CLIENT_SECRET"
    )
    parser.add_argument(
        "--faults",
        type=_parse_faults,
        metavar="SEED[:RATE]",
        help="let requests fail as OpenSky's may, drawn from SEED with probability RATE "
        f"(default {faults.DEFAULT_RATE}); or a script, one entry for each request for flights: "
        f'["{InjectedFault.UNAVAILABLE}", null, …]',
    )
    add_record_options(parser)
    add_sky_options(parser)
    return parser.parse_args()


def _parse_credits(text: str) -> int:
    """Parse a number of credits. Raises ArgumentTypeError."""
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of credits, a whole number from 0 on")
    return int(text)


def _parse_faults(text: str) -> faults.FaultInjector:
    """Make the fault injector of the option --faults. Raises ArgumentTypeError for an invalid text."""
    try:
        return faults.parse_faults(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def _make_clock(environment: Mapping[str, str]) -> Clock:
    """Make the replay's clock from CLOCK_START, CLOCK_RATE (default 1), CLOCK_ANCHOR or CLOCK_ANCHOR_PATH, CLOCK_STOP.

    Raises ValueError, whose text is a sentence, for an invalid variable or a start out of 2013.
    """
    start = _read_instant(environment, "CLOCK_START")
    if start is None or start.astimezone(UTC).year != 2013:
        raise ValueError("CLOCK_START must be an instant of 2013, the year of the flights, like 2013-02-13T00:00:00Z")
    rate = environment.get("CLOCK_RATE") or "1"
    try:
        rate_number = float(rate)
    except ValueError:
        raise ValueError(f"CLOCK_RATE must be a number, not {rate!r}") from None
    path = environment.get("CLOCK_ANCHOR_PATH")
    return build_clock(
        start,
        rate_number,
        _read_instant(environment, "CLOCK_ANCHOR"),
        _read_instant(environment, "CLOCK_STOP"),
        Path(path) if path else None,
    )


def _read_instant(environment: Mapping[str, str], name: str) -> datetime | None:
    """Return the instant in a variable; None if it is not set or empty.

    Raises ValueError, also for an instant without an offset from UTC.
    """
    text = environment.get(name)
    if not text:
        return None
    try:
        instant = datetime.fromisoformat(text)
    except ValueError:
        raise ValueError(f"{name} must be an instant like 2013-02-13T00:00:00Z, not {text!r}") from None
    if instant.utcoffset() is None:
        raise ValueError(f"{name} must end in Z or an offset from UTC, {text!r} does not")
    return instant


def _read_credentials(client_id: str | None, client_secret: str | None) -> Credentials | None:
    """Return the client's credentials; None if neither value is set. Raises ValueError if only one of them is."""
    if client_id and client_secret:
        return Credentials(client_id, client_secret)
    if client_id or client_secret:
        raise ValueError("OPENSKY_CLIENT_ID and OPENSKY_CLIENT_SECRET are needed together, or neither")
    return None


def _print_error(sentence: str, status: int) -> int:
    """Print the sentence on standard error, and return `status`, the exit status."""
    print(f"local.opensky: {sentence}.", file=sys.stderr)
    return status


if __name__ == "__main__":
    sys.exit(main())
