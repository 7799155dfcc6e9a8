"""An interest in words, and as the request that sets it again."""

import json
from typing import Final

from domain.airports import find_airport
from domain.interests import Direction, Interest
from domain.windows import AlignedTo, Window

_FLIGHTS: Final = {
    Direction.ARRIVALS: "arrivals at",
    Direction.DEPARTURES: "departures from",
    Direction.BOTH: "arrivals and departures at",
}
_IN_A_WINDOW: Final = {Window.ONE_HOUR: "in an hour", Window.SIX_HOURS: "in six hours", Window.ONE_DAY: "in a day"}


def describe_interest(interest: Interest) -> str:
    """Return what an interest watches: "departures from KJFK (John F Kennedy …, New York), fewer than 5 in an hour".

    With two thresholds "more than 30 or fewer than 5 in an hour"; in percent "less than 50 % of what is usual".
    Several windows in a row, and windows by the airport's clock, are added.
    """
    levels = [
        f"{words} {number:,}{unit}"
        for words, number, unit in (
            ("more than", interest.high, ""),
            ("more than", interest.high_percent, " % of what is usual"),
            ("fewer than", interest.low, ""),
            ("less than", interest.low_percent, " % of what is usual"),
        )
        if number is not None
    ]
    clock = " by the airport's clock" if interest.aligned_to is AlignedTo.AIRPORT else ""
    run = f", {interest.for_windows} times in a row" if interest.for_windows > 1 else ""
    level = f"{' or '.join(levels)} {_IN_A_WINDOW[interest.window]}"
    return f"{_FLIGHTS[interest.direction]} {_format_airport(interest.airport)}, {level}{clock}{run}"


def format_request(interest: Interest) -> str:
    """Return the JSON body of POST /interests that sets the same interest again; it holds no id of a person."""
    body = {
        "airport_icao": interest.airport,
        "direction": interest.direction.value,
        "window": interest.window.value,
        "aligned_to": interest.aligned_to.value if interest.aligned_to is not AlignedTo.UTC else None,
        "high_value": interest.high,
        "low_value": interest.low,
        "high_percent": interest.high_percent,
        "low_percent": interest.low_percent,
        "for_windows": interest.for_windows if interest.for_windows > 1 else None,
        "repeat": interest.repeat or None,
    }
    return json.dumps({name: value for name, value in body.items() if value is not None})


def _format_airport(icao: str) -> str:
    """Return an airport's code, with its name and city if they are known: "KJFK (John F Kennedy …, New York)"."""
    known = find_airport(icao)
    if known is None:
        return icao
    return f"{icao} ({', '.join(filter(None, (known.name, known.city)))})"
