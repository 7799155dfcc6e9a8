"""Parsers of OpenSky's answers and of its authorization server's: token, JSON rows, pause after a 429, date. Pure."""

import math
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import Final

import httpx
from pydantic import BaseModel, Field, ValidationError

from collector.errors import ForeignAnswer
from collector.sources.flight import Flight

_DEFAULT_PAUSE_S: Final = 60.0
"""Pause after a 429 without a valid `X-Rate-Limit-Retry-After-Seconds`."""
_LONGEST_PAUSE_S: Final = 86_400.0
"""One day: the source grants new credits each day."""
_LONGEST_AGE_S: Final = 86_400.0
"""The largest `Age` that is believed: no cache keeps an answer of the source for longer than a day."""
_BYTES_OF_EMPTY_GZIP: Final = 20
"""Some proxies compress an empty body, too: a header of ten bytes, two of content and a trailer of eight (RFC 1952)."""
_OPTIONAL_FIELDS: Final = frozenset(("callsign", "estDepartureAirport", "estArrivalAirport"))
"""Fields of a row that may be missing or unreadable: the flight counts without them."""
_BEGINNING_BYTES: Final = 1024
"""Only this part of a body is searched for the beginning of a web page."""
_HTML_BEGINNINGS: Final = (b"<!doctype html", b"<html")
_PROBLEM_FIELDS: Final = frozenset(("error", "errors", "message", "status", "title", "detail"))
"""Members of a JSON object that show it to be an error: those of RFC 9457, and those of common web frameworks."""


class TokenResponse(BaseModel):
    """The authorization server's answer (RFC 6749, section 5.1); alphabet of the token: RFC 6750, section 2.1."""

    access_token: str = Field(pattern=r"^[A-Za-z0-9._~+/-]+=*$")
    expires_in: int = Field(ge=0, le=31_536_000)


def parse_rows(answer: httpx.Response) -> list[object] | None:
    """Return the JSON array of an answer; None if the body is anything else."""
    rows = _parse_json(answer)
    return rows if isinstance(rows, list) else None


def is_without_body(answer: httpx.Response) -> bool:
    """Return True if the body of an answer was empty on the wire, or is the compressed form of nothing.

    False for a body of which only nothing could be decompressed: the beginning of a compressed page.
    """
    return not answer.content and answer.num_bytes_downloaded in (0, _BYTES_OF_EMPTY_GZIP)


def classify_foreign_answer(answer: httpx.Response) -> ForeignAnswer:
    """Return the kind of an answer that is known not to be the source's, by its status, content type and body."""
    content_type = answer.headers.get("Content-Type", "").lower()
    if answer.is_redirect:
        return ForeignAnswer.REDIRECT
    beginning = answer.content[:_BEGINNING_BYTES].lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if "html" in content_type or beginning.startswith(_HTML_BEGINNINGS):
        return ForeignAnswer.HTML
    body = _parse_json(answer)
    if "problem+json" in content_type or (isinstance(body, dict) and not _PROBLEM_FIELDS.isdisjoint(body)):
        return ForeignAnswer.PROBLEM_JSON
    if answer.status_code == httpx.codes.NOT_FOUND and isinstance(body, _NotJson | list):
        return ForeignAnswer.NOT_FOUND_WITH_BODY
    return ForeignAnswer.UNREADABLE if isinstance(body, _NotJson) else ForeignAnswer.JSON


def parse_flight(row: object) -> tuple[Flight, frozenset[str]]:
    """Parse a row of an answer; return the flight, and the names of the fields that were dropped as unreadable.

    A flight needs icao24 and the two times. A callsign or an airport's code that is unreadable (real rows have codes
    like `US-0571`) becomes empty, and the flight counts without it. Raises ValidationError for a row without these
    three.
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
    (RFC 9110, section 10.2.3). A date is compared with the answer's own `Date`, because one clock has made both; only
    if there is none, it is compared with `now`, our wall clock.
    """
    sent_at = parse_date(headers)
    for seconds in (
        _parse_seconds(headers.get("X-Rate-Limit-Retry-After-Seconds")),
        _parse_seconds(headers.get("Retry-After")),
        _parse_seconds_until(headers.get("Retry-After"), now if sent_at is None else sent_at),
    ):
        if seconds is not None:
            return min(max(seconds, 1.0), _LONGEST_PAUSE_S)
    return _DEFAULT_PAUSE_S


def parse_age(headers: Mapping[str, str]) -> timedelta:
    """Return how long the answer has been in a cache (`Age`: RFC 9111, section 5.1), a day at most; 0 if unknown."""
    return timedelta(seconds=min(max(_parse_seconds(headers.get("Age")) or 0.0, 0.0), _LONGEST_AGE_S))


def parse_date(headers: Mapping[str, str]) -> datetime | None:
    """Return the sender's time when it sent the answer: its `Date` plus its `Age`. None without a readable `Date`.

    The resolution is one second (RFC 9110, section 6.6.1).
    """
    date = _parse_http_date(headers.get("Date"))
    try:
        return None if date is None else date + parse_age(headers)
    except OverflowError:  # the last day of the calendar
        return None


class _NotJson:
    """The type of a value that stands for a body that is no JSON: None would be JSON's null."""


def _parse_json(answer: httpx.Response) -> object:
    """Return the value of a JSON body, or a `_NotJson` if the body is anything else."""
    try:
        return answer.json()
    except (ValueError, RecursionError):  # the latter: nested deeper than Python's own limit
        return _NotJson()


def _parse_seconds(text: str | None) -> float | None:
    """Return a number of seconds; None if the text is missing or no finite number."""
    try:
        seconds = float(text or "")
    except ValueError:
        return None
    return seconds if math.isfinite(seconds) else None


def _parse_seconds_until(text: str | None, now: datetime) -> float | None:
    """Return the seconds from `now` to an HTTP date, negative if it is past; None if the text is no date."""
    date = _parse_http_date(text)
    return None if date is None else (date - now).total_seconds()


def _parse_http_date(text: str | None) -> datetime | None:
    """Return an HTTP date in UTC; None if the text is missing or no date."""
    try:
        date = parsedate_to_datetime(text or "")
        return date.astimezone(UTC) if date.tzinfo else date.replace(tzinfo=UTC)
    except (ValueError, OverflowError):
        return None
