"""Sentences that say how fresh an alert is: seen live, or from the night's record."""

from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import Final

from domain.alerts import Alert
from domain.live_record import Provenance
from domain.windows import Window

_LONGEST_DELAY: Final = timedelta(minutes=30)
"""Longer delays are not said: then the alert may follow from an interest that was set later, or the flights are not of
today (a demo), and the delay is not that of seeing them."""

_WINDOW_NOUN: Final = {Window.ONE_HOUR: "hour", Window.SIX_HOURS: "six hours", Window.ONE_DAY: "day"}

_MINUTE: Final = timedelta(minutes=1)


def describe_freshness(alert: Alert, cause_published_at: datetime) -> str:
    """Return a sentence about where an alert comes from: "Seen live, 3 minutes after the hour ended."

    "Seen live, before the hour ended." if it was raised before that; "Seen live." if the delay is not known to be that
    of seeing the flights; "From the night's record."; "From the source's flights of the day, before the night's
    record."; empty if it is not recorded. `cause_published_at`: when the event
    was published that caused the alert, by the broker's clock.
    """
    match alert.provenance:
        case None:
            return ""
        case Provenance.SETTLED:
            return "From the night's record."
        case Provenance.RECENT:
            return "From the source's flights of the day, before the night's record."
        case Provenance.LIVE:
            end = alert.window_end
            ended = f"the {_WINDOW_NOUN[alert.window]} ended"
            if alert.window_start <= cause_published_at < end:
                return f"Seen live, before {ended}."
            delay = cause_published_at - end
            if not timedelta(0) <= delay <= _LONGEST_DELAY:
                return "Seen live."
            minutes = max(round(delay / _MINUTE), 1)
            return f"Seen live, {minutes} minute{'' if minutes == 1 else 's'} after {ended}."


def describe_sources(alerts: Iterable[Alert]) -> str:
    """Return a sentence about where all of some alerts come from; empty if not from one source, or not recorded."""
    sources = {each.provenance for each in alerts}
    if sources == {Provenance.LIVE}:
        return "All of it was seen live."
    if sources == {Provenance.RECENT}:
        return "All of it is from the source's flights of the day, before the night's record."
    return "All of it is from the night's record." if sources == {Provenance.SETTLED} else ""


def describe_source(alerts: Iterable[Alert]) -> str:
    """Return a note of where some alerts come from: "seen live", "from the night's record", or several; or nothing."""
    sources = {each.provenance for each in alerts}
    notes = {
        Provenance.LIVE: "seen live",
        Provenance.RECENT: "from the source before the night's record",
        Provenance.SETTLED: "from the night's record",
    }
    return " and ".join(note for source, note in notes.items() if source in sources)
