"""An interest in words of the visitor's language, and as the request that sets it again."""

import json
from typing import Final

from chassis.texts import Texts
from domain.airports import find_airport
from domain.interests import Direction, Interest
from domain.windows import AlignedTo, Window

_FLIGHTS: Final = {
    Direction.ARRIVALS: "link.interest.arrivals",
    Direction.DEPARTURES: "link.interest.departures",
    Direction.BOTH: "link.interest.both",
}
_IN_A_WINDOW: Final = {
    Window.ONE_HOUR: "link.interest.hour",
    Window.SIX_HOURS: "link.interest.six_hours",
    Window.ONE_DAY: "link.interest.day",
}


def describe_interest(interest: Interest, texts: Texts) -> str:
    """Return what an interest watches, in the language of the texts.

    In English "departures from KJFK (John F Kennedy …, New York), fewer than 5 flights in an hour"; with two thresholds
    "more than 30 flights or fewer than 5 flights in an hour"; in percent "less than 50 % of what is usual". Several
    windows in a row, and windows by the airport's clock, are added. The airport's name is not translated.
    """
    levels = [
        texts.get(key, count=count)
        for key, count in (
            ("link.interest.high", interest.high),
            ("link.interest.high_percent", interest.high_percent),
            ("link.interest.low", interest.low),
            ("link.interest.low_percent", interest.low_percent),
        )
        if count is not None
    ]
    words = texts.get(
        _IN_A_WINDOW[interest.window],
        flights=texts.get(_FLIGHTS[interest.direction], airport=_format_airport(interest.airport)),
        levels=levels[0] if len(levels) == 1 else texts.get("link.interest.either", one=levels[0], other=levels[1]),
    )
    if interest.aligned_to is AlignedTo.AIRPORT:
        words = texts.get("link.interest.airport_clock", interest=words)
    return texts.get("link.interest.in_a_row", interest=words, count=interest.for_windows)


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
