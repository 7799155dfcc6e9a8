"""The price of each API call, and the credits that every caller has left.

Source: "API Credits" of OpenSky's REST documentation. Days are days of UTC on the clock of the server.
"""

from enum import StrEnum

from local.opensky.errors import OutOfCredits

DAY = 86_400
ANONYMOUS_PER_DAY = 400
STANDARD_PER_DAY = 4_000
PRICE_OF_ALL_STATES = 4
_PRICES_OF_STATES = ((25.0, 1), (100.0, 2), (400.0, 3))
"""Square degrees of an area, at most, and the price of the states in it."""


class Bucket(StrEnum):
    """A part of the API with its own credits: spending them does not reduce the credits of other buckets."""

    STATES = "/states"
    TRACKS = "/tracks"
    FLIGHTS = "/flights"


def count_days(begin: int, end: int) -> int:
    """Return how many UTC days the interval [begin, end] touches; OpenSky stores flights in one partition per day."""
    return end // DAY - begin // DAY + 1


def compute_price(begin: int, end: int, now: int) -> int:
    """Return the price in credits of a request for flights or tracks of [begin, end], by its age and its UTC days.

    4 if the interval begins at most 24 hours before `now`, else 30 for one or two days, and 60 a day for more days.
    """
    if begin >= now - DAY:
        return 4
    days = count_days(begin, end)
    return 30 if days <= 2 else 60 * days


def compute_price_of_states(area: float | None) -> int:
    """Return the price in credits of a request for states in an area of square degrees; None: in the whole world."""
    if area is None:
        return PRICE_OF_ALL_STATES
    return next((price for largest, price in _PRICES_OF_STATES if area <= largest), PRICE_OF_ALL_STATES)


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
