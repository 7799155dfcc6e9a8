"""What a mail says to machines: one structured header for the alert, one for the moment of its cause.

X-Towerwatch-Alert: airport=KJFK; direction=departures; window=1h; bound=high; state=FIRING;
 window_start=2013-02-08T00:00:00Z; count=24; threshold=20
X-Towerwatch-Cause: 2026-11-23T04:53:00.123456Z
"""

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from domain.alerts import Alert, AlertState, Bound
from domain.interests import Direction
from domain.windows import Window
from notifier.errors import MalformedHeaderError

ALERT_HEADER: Final = "X-Towerwatch-Alert"
CAUSE_HEADER: Final = "X-Towerwatch-Cause"

_FIELDS: Final = ("airport", "direction", "window", "bound", "state", "window_start", "count", "threshold")


@dataclass(frozen=True, slots=True)
class ToldAlert:
    """An alert as far as its mail's header tells it."""

    airport: str
    direction: Direction
    window: Window
    bound: Bound
    state: AlertState
    window_start: datetime
    """UTC, to the second."""
    count: int
    threshold: int


def told(alert: Alert) -> ToldAlert:
    """The part of an alert that its mail's header tells."""
    return ToldAlert(**{field: getattr(alert, field) for field in _FIELDS})


def alert_header(alert: ToldAlert) -> str:
    """The value of X-Towerwatch-Alert, not folded."""
    values = {field: getattr(alert, field) for field in _FIELDS}
    values["window_start"] = _iso(alert.window_start, "seconds")
    return "; ".join(f"{field}={value}" for field, value in values.items())


def parse_alert_header(value: str) -> ToldAlert:
    """The alert in a value of X-Towerwatch-Alert, folded or not. Raises MalformedHeaderError."""
    pairs = [part.strip().partition("=") for part in value.split(";")]
    if tuple(name for name, _, _ in pairs) != _FIELDS:
        raise MalformedHeaderError(f"{ALERT_HEADER} must hold {', '.join(_FIELDS)}, in this order")
    told_as = {name: text for name, _, text in pairs}
    try:
        return ToldAlert(
            airport=told_as["airport"],
            direction=Direction(told_as["direction"]),
            window=Window(told_as["window"]),
            bound=Bound(told_as["bound"]),
            state=AlertState(told_as["state"]),
            window_start=_instant(told_as["window_start"]),
            count=int(told_as["count"]),
            threshold=int(told_as["threshold"]),
        )
    except ValueError as error:
        raise MalformedHeaderError(f"{ALERT_HEADER}: {error}") from None


def cause_header(published_at: datetime) -> str:
    """The value of X-Towerwatch-Cause: when the fact that caused the alert was published, to the microsecond."""
    return _iso(published_at, "microseconds")


def parse_cause_header(value: str) -> datetime:
    """The instant in a value of X-Towerwatch-Cause. Raises MalformedHeaderError."""
    try:
        return _instant(value.strip())
    except ValueError as error:
        raise MalformedHeaderError(f"{CAUSE_HEADER}: {error}") from None


def _iso(moment: datetime, precision: str) -> str:
    return moment.astimezone(UTC).replace(tzinfo=None).isoformat(timespec=precision) + "Z"


def _instant(text: str) -> datetime:
    parsed = datetime.fromisoformat(text)
    if parsed.tzinfo is None:
        raise ValueError("an instant must name its offset from UTC")
    return parsed.astimezone(UTC)
