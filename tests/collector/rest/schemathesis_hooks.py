"""Hooks that schemathesis loads (see schemathesis.toml): they make valid requests valid where a schema cannot."""

from datetime import datetime, timedelta
from typing import Any

import schemathesis
from hypothesis import strategies as st

from collector.windows import LONGEST_RANGE
from domain.airports import find_airport
from tests.collector.conftest import NOON
from tests.openapi.headers import is_valid_request

_CODES = ["KJFK", "LICC", "EGLL", "kjfk", " LIRF "]
assert all(find_airport(code.strip().upper()) for code in _CODES)

schemathesis.openapi.format("icao-airport", st.sampled_from(_CODES))
# Windows can begin from 30 days ago to a year ahead; flights are looked for in any stretch.
schemathesis.openapi.format(
    "date-time",
    st.integers(-30 * 48, 365 * 48).map(lambda half_hours: (NOON + half_hours * timedelta(minutes=30)).isoformat()),
)


@schemathesis.hook
def before_call(_context: schemathesis.HookContext, case: schemathesis.Case, **_kwargs: object) -> None:
    """Write whole numbers as integers, put the high threshold above the low one, and give each bound one measure.

    Windows by the airport's clock are no hours; a range of windows begins before it ends, and has at most 40 days;
    the whole range has no other begin.
    """
    if not is_valid_request(case):
        return
    if case.query:
        _correct_query(case.query)
    if isinstance(case.body, dict):
        _correct_body(case.body)


def _correct_query(query: dict[str, Any]) -> None:
    """Change parameters that do not go together; without `window` it is an hour. What is looked for has other names."""
    if query.get("aligned_to") == "airport" and query.get("window", "1h") == "1h":
        query["window"] = "6h"
    if str(query.get("whole")).lower() == "true":
        query.pop("begin", None)
    if "begin" in query and "end" in query:
        begin, end = sorted(datetime.fromisoformat(query[name]) for name in ("begin", "end"))
        end = min(max(end, begin + timedelta(minutes=30)), begin + LONGEST_RANGE)
        query |= {"begin": begin.isoformat(), "end": end.isoformat()}


def _correct_body(body: dict[str, Any]) -> None:
    """Change members that do not go together."""
    body |= {name: int(value) for name, value in body.items() if isinstance(value, float)}
    if body.get("aligned_to") == "airport":
        body |= {"window": "6h"} if body.get("window") == "1h" else {}
    high, low = (body.get(name) for name in ("high_value", "low_value"))
    if isinstance(high, int) and isinstance(low, int) and high <= low:
        body |= {"low_value": high, "high_value": low} if high < low else {"low_value": None}
    for flights, percent in (("high_value", "high_percent"), ("low_value", "low_percent")):
        if body.get(flights) is not None and body.get(percent) is not None:
            body[percent] = None
