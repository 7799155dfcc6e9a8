"""Parsers of OpenSky's answers and of its authorization server's: the token, the JSON rows, the pause after a 429."""

import math
from typing import Final

import httpx
from pydantic import BaseModel, Field

from collector.errors import SourceUnavailableError

_DEFAULT_PAUSE_S: Final = 60.0
"""Pause after a 429 without a valid `X-Rate-Limit-Retry-After-Seconds`."""
_LONGEST_PAUSE_S: Final = 86_400.0
"""One day: the source grants new credits each day."""


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


def parse_pause(header: str | None) -> float:
    """Return the seconds to pause after a 429, from one second to one day; one minute if the header is invalid."""
    try:
        seconds = float(header or "")
    except ValueError:
        return _DEFAULT_PAUSE_S
    return min(max(seconds, 1.0), _LONGEST_PAUSE_S) if math.isfinite(seconds) else _DEFAULT_PAUSE_S
