"""The mail headers that programs read: X-Towerwatch-Alert with an alert's fields, X-Towerwatch-Cause with a time,
X-Towerwatch-Notice with a notice's fields.

X-Towerwatch-Alert: airport=KJFK; direction=departures; window=1h; bound=high; state=FIRING;
 window_start=2013-02-08T00:00:00Z; count=24; threshold=20
X-Towerwatch-Cause: 2026-11-23T04:53:00.123456Z
X-Towerwatch-Notice: airport=KXYZ; since=2026-11-27T00:00:00Z
"""

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from domain.alerts import Alert, AlertState, Bound
from domain.interests import Direction
from domain.notices import Notice, RetiredNotice
from domain.windows import Window
from notifier.errors import MalformedHeaderError

ALERT_HEADER: Final = "X-Towerwatch-Alert"
CAUSE_HEADER: Final = "X-Towerwatch-Cause"
NOTICE_HEADER: Final = "X-Towerwatch-Notice"

_FIELDS: Final = ("airport", "direction", "window", "bound", "state", "window_start", "count", "threshold")


@dataclass(frozen=True, slots=True)
class AlertHeaderFields:
    """The fields of an alert that the header X-Towerwatch-Alert of its mail holds."""

    airport: str
    direction: Direction
    window: Window
    bound: Bound
    state: AlertState
    window_start: datetime
    """UTC, to the second."""
    count: int
    threshold: int


def select_header_fields(alert: Alert) -> AlertHeaderFields:
    """Copy from an alert the eight fields that the header X-Towerwatch-Alert of its mail holds."""
    return AlertHeaderFields(**{field: getattr(alert, field) for field in _FIELDS})


def format_alert_header(alert: AlertHeaderFields) -> str:
    """Return the value of the header X-Towerwatch-Alert: "airport=KJFK; direction=departures; …".

    All fields in their fixed order, in one line (not folded); `window_start` in UTC, to the second.
    """
    values = {field: getattr(alert, field) for field in _FIELDS}
    values["window_start"] = _format_utc(alert.window_start, "seconds")
    return "; ".join(f"{field}={value}" for field, value in values.items())


def parse_alert_header(value: str) -> AlertHeaderFields:
    """Return the alert fields in a value of X-Towerwatch-Alert, folded or not.

    Raises MalformedHeaderError if a field is missing, added, out of order or invalid.
    """
    pairs = [part.strip().partition("=") for part in value.split(";")]
    if tuple(name for name, _, _ in pairs) != _FIELDS:
        raise MalformedHeaderError(f"{ALERT_HEADER} must hold {', '.join(_FIELDS)}, in this order")
    texts = {name: text for name, _, text in pairs}
    try:
        return AlertHeaderFields(
            airport=texts["airport"],
            direction=Direction(texts["direction"]),
            window=Window(texts["window"]),
            bound=Bound(texts["bound"]),
            state=AlertState(texts["state"]),
            window_start=_parse_instant(texts["window_start"]),
            count=int(texts["count"]),
            threshold=int(texts["threshold"]),
        )
    except ValueError as error:
        raise MalformedHeaderError(f"{ALERT_HEADER}: {error}") from None


def format_cause_header(published_at: datetime) -> str:
    """Return the value of X-Towerwatch-Cause, to the microsecond.

    `published_at`: when the event that caused the alert was published.
    """
    return _format_utc(published_at, "microseconds")


def parse_cause_header(value: str) -> datetime:
    """Return the instant, in UTC, in a value of X-Towerwatch-Cause. Raises MalformedHeaderError if it is invalid."""
    try:
        return _parse_instant(value.strip())
    except ValueError as error:
        raise MalformedHeaderError(f"{CAUSE_HEADER}: {error}") from None


def format_notice_header(notice: Notice) -> str:
    """Return the value of X-Towerwatch-Notice: "airport=KXYZ; since=2026-11-27T00:00:00Z", in UTC, to the second.

    Of a retired code: "airport=UAFM; retired; successor=UCFM", without the last part if no successor is known.
    """
    if isinstance(notice, RetiredNotice):
        return f"airport={notice.airport}; retired" + (f"; successor={notice.successor}" if notice.successor else "")
    return f"airport={notice.airport}; since={_format_utc(notice.since, 'seconds')}"


def _format_utc(moment: datetime, precision: str) -> str:
    """Return an instant in UTC as ISO 8601 with "Z". `precision`: a `timespec` of `datetime.isoformat`."""
    return moment.astimezone(UTC).replace(tzinfo=None).isoformat(timespec=precision) + "Z"


def _parse_instant(text: str) -> datetime:
    """Return the UTC instant in an ISO 8601 text. Raises ValueError, also for a text without an offset from UTC."""
    parsed = datetime.fromisoformat(text)
    if parsed.tzinfo is None:
        raise ValueError("an instant must name its offset from UTC")
    return parsed.astimezone(UTC)
