"""The price of each API call, and the credits that every caller has left.

Source: "API Credits" of OpenSky's REST documentation. Days are days of UTC on the clock of the server.
"""

from enum import StrEnum

from local.opensky.errors import OutOfCredits

DAY = 86_400
ANONYMOUS_PER_DAY = 400
STANDARD_PER_DAY = 4_000
PRICE_OF_STATES = 4


class Bucket(StrEnum):
    """A part of the API with credits of its own: what is spent in one bucket is not missing in the others."""

    STATES = "/states"
    TRACKS = "/tracks"
    FLIGHTS = "/flights"


def count_days(begin: int, end: int) -> int:
    """Return how many UTC days the interval [begin, end] touches; OpenSky stores flights in one partition per day."""
    return end // DAY - begin // DAY + 1


def compute_price(begin: int, end: int, now: int) -> int:
    """Return the price in credits of a request for flights, or tracks, of [begin, end]: by age and touched UTC days.

    4 if the interval begins at most 24 hours before `now`, else 30 for one or two days, and 60 a day for more days.
    """
    if begin >= now - DAY:
        return 4
    days = count_days(begin, end)
    return 30 if days <= 2 else 60 * days


class CreditAccounts:
    """The credits that every caller has spent today, in each bucket; reset at midnight (UTC, the server's clock)."""

    def __init__(self) -> None:
        self._day = 0
        self._spent: dict[tuple[str, Bucket], int] = {}

    def charge(self, caller: str, bucket: Bucket, allowance: int, cost: int, now: int) -> int:
        """Charge `cost` to the caller's bucket, and return the credits that remain in it today.

        The first charge of a new day resets all accounts. Raises OutOfCredits, and charges nothing, if less than `cost`
        remains. `allowance`: the caller's credits of a day in each bucket; `now`: Unix seconds.
        """
        if now // DAY != self._day:
            self._day, self._spent = now // DAY, {}
        spent = self._spent.get((caller, bucket), 0) + cost
        if spent > allowance:
            raise OutOfCredits(retry_after=DAY - now % DAY)
        self._spent[caller, bucket] = spent
        return allowance - spent
