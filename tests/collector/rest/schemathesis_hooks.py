"""Hooks that schemathesis loads (see schemathesis.toml): they make valid requests valid where a schema cannot."""

from datetime import timedelta

import schemathesis
from hypothesis import strategies as st

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

    Windows by the airport's clock are no hours.
    """
    if not is_valid_request(case) or not isinstance(case.body, dict):
        return
    case.body |= {name: int(value) for name, value in case.body.items() if isinstance(value, float)}
    if case.body.get("aligned_to") == "airport":
        case.body |= {"window": "6h"} if case.body.get("window") == "1h" else {}
    high, low = (case.body.get(name) for name in ("high_value", "low_value"))
    if isinstance(high, int) and isinstance(low, int) and high <= low:
        case.body |= {"low_value": high, "high_value": low} if high < low else {"low_value": None}
    for flights, percent in (("high_value", "high_percent"), ("low_value", "low_percent")):
        if case.body.get(flights) is not None and case.body.get(percent) is not None:
            case.body |= {percent: None}
