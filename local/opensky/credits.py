"""What a question costs, and who has how much left.

Source: "API credit usage" of OpenSky's REST documentation. Days are days of UTC on the clock of the server.
"""

from local.opensky.errors import OutOfCredits

DAY = 86_400
ANONYMOUS_PER_DAY = 400
STANDARD_PER_DAY = 4_000
PRICE_OF_STATES = 4


def partitions(begin: int, end: int) -> int:
    """How many days the interval [begin, end] touches. OpenSky stores flights by day."""
    return end // DAY - begin // DAY + 1


def price(begin: int, end: int, now: int) -> int:
    """The credits that flights of [begin, end] cost: recent ones little, older ones by the days that are touched."""
    if begin >= now - DAY:
        return 4
    days = partitions(begin, end)
    return 30 if days <= 2 else 60 * days


class Ledger:
    """What every caller has spent today. Forgets everything at midnight."""

    def __init__(self) -> None:
        self._day = 0
        self._spent: dict[str, int] = {}

    def charge(self, caller: str, allowance: int, cost: int, now: int) -> int:
        """Take `cost` from what is left of the caller's daily `allowance` and return the rest.

        Raises OutOfCredits, and takes nothing, when less than `cost` is left.
        """
        if now // DAY != self._day:
            self._day, self._spent = now // DAY, {}
        spent = self._spent.get(caller, 0) + cost
        if spent > allowance:
            raise OutOfCredits(retry_after=DAY - now % DAY)
        self._spent[caller] = spent
        return allowance - spent
