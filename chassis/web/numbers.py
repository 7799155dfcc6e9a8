"""Whole numbers in JSON bodies and in queries: what JSON Schema calls an integer is accepted, in every spelling.

20, 20.0 and 2e1 are one integer (JSON Schema 2020-12, Core, 4.2.3), and the OpenAPI document says "integer". Texts,
booleans, fractions and -0.0 are refused. No number costs more memory than its own digits, whatever its exponent.
"""

import json
import math
import re
from decimal import Decimal, InvalidOperation
from typing import Any, Final, NoReturn

from pydantic import BeforeValidator

_MOST_DIGITS: Final = 1000
"""Digits of the largest integer that is read as one; a larger one is only known to be too large."""

_EXACT_BELOW: Final = 2.0**53
"""Below this, a float that is whole may have lost a fraction of the number that was written."""

_NUMBER: Final = re.compile(r"-?[0-9]+(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?")
"""A number of JSON (RFC 8259, 6), also with zeros in front, as people type into a URL."""

WHOLE_NUMBERS: Final = "Whole numbers may be spelled as 20, 20.0 or 2e1, but not as a text in JSON, nor as -0.0."
"""What the description of a service's OpenAPI document says about whole numbers."""


def load_json(data: bytes) -> Any:
    """Return the value of a JSON text, in which each number is as exact as `parse_whole_number` needs it.

    Raises ValueError for what is no JSON, also for NaN and Infinity, and RecursionError for too deep a nesting.
    """
    return json.loads(data, parse_int=_parse_integer, parse_float=_parse_number, parse_constant=_refuse_constant)


def _refuse_constant(name: str) -> NoReturn:
    """Raise ValueError: `json` would read NaN and Infinity, which are no JSON."""
    raise ValueError(f"{name} is no JSON")


def _parse_integer(text: str) -> int | float:
    """Return an integer; one of more than 1,000 digits is returned as infinity."""
    return int(text) if len(text) <= _MOST_DIGITS else float(text)


def _parse_number(text: str) -> float | Decimal:
    """Return a number of JSON with a fraction or an exponent: infinity if it is too large for a float.

    A number that a float would round to a whole one is returned as a Decimal, or as NaN if that cannot hold it either.
    """
    value = float(text)
    if not value.is_integer() or abs(value) >= _EXACT_BELOW:
        return value
    try:
        exact = Decimal(text)
    except InvalidOperation:
        return math.nan
    return value if exact == value else exact


def parse_whole_number(value: object) -> int:
    """Return a value of JSON as an integer. Raises ValueError, which says what to send, unless it is a whole number."""
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    if isinstance(value, float):
        if math.isinf(value):
            raise ValueError("is too large a number" if value > 0 else "is too small a number")
        if value.is_integer() and not (value == 0 and math.copysign(1, value) < 0):
            return int(value)
    if isinstance(value, str):
        raise ValueError("must be a whole number such as 20, without quotation marks")
    raise ValueError("must be a whole number such as 20")


def parse_query_number(value: object) -> int:
    """Return the text of a query parameter as an integer. Raises ValueError unless it spells a whole number."""
    if not isinstance(value, str) or not _NUMBER.fullmatch(value):
        raise ValueError("must be a whole number such as 20")
    return parse_whole_number(_parse_integer(value) if value.isdecimal() else _parse_number(value))


FROM_JSON: Final = BeforeValidator(parse_whole_number)
"""Makes an `Annotated` int take every spelling of JSON. It stands last, or the schema loses the bounds before it."""

FROM_QUERY: Final = BeforeValidator(parse_query_number)
"""The same for the text of a query parameter."""
