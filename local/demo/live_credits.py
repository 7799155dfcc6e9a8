"""The credits for positions that the demo's account has: as many as one poll every LIVE_INTERVAL_S takes."""

from collections import Counter
from collections.abc import Iterable
from typing import Final

from collector.live.region_planner import LiveCredits, WantedAirport, plan_positions
from collector.live.wanted import ROOM_KM
from domain.interests import Interest
from local.demo.plan import LIVE_INTERVAL_S
from local.opensky.sky.airfields import find_airfield

_DAY_S: Final = 86_400
_ALL: Final = LiveCredits(per_day=1_000_000, left=1_000_000, seconds_left=_DAY_S)
"""Credits that pay for the cheapest regions of any airports."""


def compute_live_credits(interests: Iterable[Interest]) -> int:
    """Return the credits of a day with which the collector polls the airports of the interests every LIVE_INTERVAL_S.

    So the demo's account is like one that has more airports: with the 4,000 credits of OpenSky's, an account that
    watches one region polls it every 22 s, and the demo's clock would be too fast for that.
    """
    wanted = []
    for icao, number in sorted(Counter(each.airport for each in interests).items()):
        airfield = find_airfield(icao)
        if airfield is not None:
            wanted.append(WantedAirport(icao, airfield.centre.latitude, airfield.centre.longitude, number))
    price = plan_positions(wanted, _ALL, ROOM_KM).price
    return price * _DAY_S // LIVE_INTERVAL_S
