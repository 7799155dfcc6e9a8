"""Parsers of OpenSky's answers and of its authorization server's: the token, the JSON rows, the pause after a 429."""

import math
from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Final

import httpx
from pydantic import BaseModel, Field, ValidationError

from collector.errors import SourceUnavailableError
from collector.sources.flight import Flight

_DEFAULT_PAUSE_S: Final = 60.0
"""Pause after a 429 without a valid `X-Rate-Limit-Retry-After-Seconds`."""
_LONGEST_PAUSE_S: Final = 86_400.0
"""One day: the source grants new credits each day."""
_OPTIONAL_FIELDS: Final = frozenset(("callsign", "estDepartureAirport", "estArrivalAirport"))
"""Fields of a row without which a flight counts as well."""


class TokenResponse(BaseModel):
    """The authorization server's answer (RFC 6749, section 5.1); alphabet of the token: RFC 6750, section 2.1."""

    access_token: str = Field(pattern=r"^[A-Za-z0-9._~+/-]+=*$")
    expires_in: int = Field(ge=0, le=31_536_000)


def parse_rows(answer: httpx.Response) -> list[object]:
    """Return the JSON array of an answer. Raises SourceUnavailableError if the body is anything else."""
    try:
        rows = answer.json()
    except (ValueError, RecursionError):  # the latter: nested deeper than Python's own limit
        rows = None
    if not isinstance(rows, list):
        raise SourceUnavailableError("the source's answer is no list of flights")
    return rows


def parse_flight(row: object) -> tuple[Flight, frozenset[str]]:
    """Parse a row of an answer; return the flight, and the names of the fields that were dropped as unreadable.

    icao24 and the two times make a flight. A callsign or an airport's code that is not understood (real rows have codes
    like `US-0571`) is left empty: the flight counts all the same. Raises ValidationError for a row without identity.
    """
    try:
        return Flight.model_validate(row), frozenset()
    except ValidationError as error:
        unreadable = frozenset(str(fault["loc"][0]) for fault in error.errors() if fault["loc"])
        if not isinstance(row, dict) or not unreadable or not unreadable <= _OPTIONAL_FIELDS:
            raise
        return Flight.model_validate({name: value for name, value in row.items() if name not in unreadable}), unreadable


def parse_pause(headers: Mapping[str, str], now: datetime) -> float:
    """Return the seconds to pause after a 429, from one second to one day; one minute if no header is valid.

    OpenSky's own header comes first. A proxy or a load balancer before it sends `Retry-After`, in seconds or as a date
    (RFC 9110, section 10.2.3); `now` is the time to which a date is compared.
    """
    for seconds in (
        _parse_seconds(headers.get("X-Rate-Limit-Retry-After-Seconds")),
        _parse_seconds(headers.get("Retry-After")),
        _parse_seconds_until(headers.get("Retry-After"), now),
    ):
        if seconds is not None:
            return min(max(seconds, 1.0), _LONGEST_PAUSE_S)
    return _DEFAULT_PAUSE_S


def _parse_seconds(text: str | None) -> float | None:
    """Return a number of seconds; None if the text is missing or no finite number."""
    try:
        seconds = float(text or "")
    except ValueError:
        return None
    return seconds if math.isfinite(seconds) else None


def _parse_seconds_until(text: str | None, now: datetime) -> float | None:
    """Return the seconds from `now` to an HTTP date, negative if it is past; None if the text is no date."""
    try:
        date = parsedate_to_datetime(text or "")
    except (ValueError, OverflowError):
        return None
    return ((date if date.tzinfo else date.replace(tzinfo=UTC)) - now).total_seconds()
