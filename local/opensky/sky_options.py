"""The command-line options of the replay's sky: its seed, who is heard, and the faults of its positions."""

import argparse
import re
from collections.abc import Mapping
from typing import Final

from domain.airports import find_airport
from local.arguments import parse_whole_number
from local.opensky.sky.airfields import FOOT_M
from local.opensky.sky.geometry import Point
from local.opensky.sky.receiver import DEFAULT_RANGE_NM, Receiver
from local.opensky.sky.settings import SkySettings
from local.opensky.state_faults import StateFault, StateFaultPlan, parse_state_faults

_HIGHEST_FLOOR_FT: Final = 10_000
_FARTHEST_NM: Final = 250.0
STATE_FAULTS_FORM: Final = "SEED[:RATE]|KIND@START+MINUTES[,…]"
STATE_FAULTS_HELP: Final = (
    f"let requests for states fail for some minutes: {', '.join(StateFault)}; of each hour with probability "
    "RATE, or at given times, like outage@2013-02-08T14:00Z+15"
)


def add_sky_options(parser: argparse.ArgumentParser) -> None:
    """Add the options to a parser, with types that validate their values."""
    parser.add_argument(
        "--sky-seed", type=parse_whole_number, default=1, metavar="SEED", help="of the positions (%(default)s)"
    )
    parser.add_argument(
        "--heard-from",
        type=_parse_floor,
        action="append",
        default=[],
        metavar="AIRPORT=FEET",
        help="repeatable: aircraft are heard from this height above the airport on; 0: on the ground, too",
    )
    parser.add_argument(
        "--receiver",
        type=_parse_receiver,
        metavar="LAT,LON[,NM]",
        help=f"the account has a receiver there, which hears so far ({DEFAULT_RANGE_NM:g} nm) as the horizon allows; "
        "its aircraft.json is at /data/aircraft.json",
    )
    parser.add_argument(
        "--state-faults",
        type=_parse_faults,
        default=StateFaultPlan(),
        metavar=STATE_FAULTS_FORM,
        help=STATE_FAULTS_HELP,
    )
    parser.add_argument(
        "--sky-goes-on",
        action="store_true",
        help="aircraft fly on all days, also on those before --first-day and after --last-day",
    )
    parser.add_argument(
        "--receiver-faults",
        type=_parse_faults,
        default=StateFaultPlan(),
        metavar="…",
        help="the same for the receiver's aircraft.json",
    )


def build_sky_settings(options: argparse.Namespace) -> SkySettings:
    """Build the settings of the sky from the parsed options of `add_sky_options`."""
    floors: Mapping[str, float] = dict(options.heard_from)
    return SkySettings(seed=options.sky_seed, floors_m=floors)


def check_state_faults(text: str) -> str:
    """Return the text of an option --state-faults unchanged. Raises ArgumentTypeError if it is invalid."""
    _parse_faults(text)
    return text


def _parse_floor(text: str) -> tuple[str, float]:
    """Parse an airport and a height in feet; return its ICAO code and the height in metres.

    Raises ArgumentTypeError.
    """
    airport, _, feet = text.upper().partition("=")
    if find_airport(airport) is None:
        raise argparse.ArgumentTypeError(f"{text!r} names no airport; write it as KJFK=500")
    if not re.fullmatch(r"[0-9]{1,5}", feet, re.ASCII) or int(feet) > _HIGHEST_FLOOR_FT:
        raise argparse.ArgumentTypeError(f"{text!r}: the height is from 0 to {_HIGHEST_FLOOR_FT} ft, as in KJFK=500")
    return airport, int(feet) * FOOT_M


def _parse_receiver(text: str) -> Receiver:
    """Parse the position of a receiver, and its range. Raises ArgumentTypeError."""
    try:
        latitude, longitude, range_nm, *more = (*map(float, text.split(",")), DEFAULT_RANGE_NM)
    except ValueError:
        raise argparse.ArgumentTypeError(
            f"{text!r} is no position; write it as 40.68,-73.94 or 40.68,-73.94,100"
        ) from None
    if len(more) > 1 or not (-90 <= latitude <= 90 and -180 <= longitude <= 180):
        raise argparse.ArgumentTypeError(f"{text!r} is no position: latitude, longitude and perhaps a range in nm")
    if not 0 < range_nm <= _FARTHEST_NM:
        raise argparse.ArgumentTypeError(f"{text!r}: a receiver hears no farther than {_FARTHEST_NM:g} nm")
    return Receiver(Point(latitude, longitude), range_nm)


def _parse_faults(text: str) -> StateFaultPlan:
    """Make the plan of faults. Raises ArgumentTypeError."""
    try:
        return parse_state_faults(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None
