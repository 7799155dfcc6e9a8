"""Runs the replay: `python -m local.opensky --port 8090`, with the time from CLOCK_START and its companions."""

import argparse
import errno
import gc
import os
import signal
import sys
from collections.abc import Mapping
from datetime import UTC, datetime

from aiohttp import web

from chassis.clock import Clock, build_clock
from local.opensky import faults, nycflights
from local.opensky.access import Access, Credentials
from local.opensky.flights import Timetable
from local.opensky.server import make_app


def main() -> int:
    """Serve until SIGTERM or SIGINT, then return 0. A fault of the caller is one sentence and 2, a taken port 1."""
    environment = os.environ
    options = _options(environment)
    try:
        clock = _clock(environment)
        credentials = _credentials(options.client_id, options.client_secret)
    except ValueError as error:
        return _complain(str(error), 2)
    # Until aiohttp handles them, too, they end the program in silence.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: sys.exit(0))
    # 328,000 flights are made and none thrown away: collecting garbage meanwhile would take a third of the start.
    gc.disable()
    timetable = Timetable(nycflights.load(nycflights.cache_directory(environment)))
    gc.freeze()
    gc.enable()
    app = make_app(timetable, clock, Access(credentials, options.credits_per_day), options.faults)
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
            return _complain(f"port {options.port} of {options.host} is in use", 1)
        return _complain(f"cannot listen on {options.host}:{options.port}: {error.strerror}", 1)
    return 0


def _options(environment: Mapping[str, str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m local.opensky", description=__doc__)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=_port, required=True)
    parser.add_argument(
        "--credits-per-day", type=_credits, metavar="N", help="for every caller, instead of 400 (anonymous) and 4000"
    )
    parser.add_argument("--client-id", default=environment.get("OPENSKY_CLIENT_ID"), help="or OPENSKY_CLIENT_ID")
    parser.add_argument(
        "--client-secret", default=environment.get("OPENSKY_CLIENT_SECRET"), help="or OPENSKY_CLIENT_SECRET"
    )
    parser.add_argument(
        "--faults",
        type=_faults,
        metavar="SEED[:RATE]",
        help=f"let requests fail as OpenSky's may, drawn from SEED with probability RATE (default {faults.RATE}); "
        f'or a script, one entry for each request for flights: ["{faults.Fault.UNAVAILABLE}", null, …]',
    )
    return parser.parse_args()


def _port(text: str) -> int:
    if not text.isdecimal() or not 1 <= int(text) <= 65_535:
        raise argparse.ArgumentTypeError(f"{text!r} is not a port, a number from 1 to 65535")
    return int(text)


def _credits(text: str) -> int:
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of credits")
    return int(text)


def _faults(text: str) -> faults.Faults:
    try:
        return faults.parse(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def _clock(environment: Mapping[str, str]) -> Clock:
    start = _instant(environment, "CLOCK_START")
    if start is None or start.astimezone(UTC).year != 2013:
        raise ValueError("CLOCK_START must be an instant of 2013, the year of the flights, like 2013-02-13T00:00:00Z")
    rate = environment.get("CLOCK_RATE") or "1"
    try:
        rate_number = float(rate)
    except ValueError:
        raise ValueError(f"CLOCK_RATE must be a number, not {rate!r}") from None
    return build_clock(start, rate_number, _instant(environment, "CLOCK_ANCHOR"), _instant(environment, "CLOCK_STOP"))


def _instant(environment: Mapping[str, str], name: str) -> datetime | None:
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


def _credentials(client_id: str | None, client_secret: str | None) -> Credentials | None:
    if client_id and client_secret:
        return Credentials(client_id, client_secret)
    if client_id or client_secret:
        raise ValueError("OPENSKY_CLIENT_ID and OPENSKY_CLIENT_SECRET are needed together, or neither")
    return None


def _complain(sentence: str, status: int) -> int:
    print(f"local.opensky: {sentence}.", file=sys.stderr)
    return status


if __name__ == "__main__":
    sys.exit(main())
