"""Sentences that say how fresh an alert is: seen live, or from the night's record."""

from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import Final

from chassis.texts import Texts
from domain.alerts import Alert
from domain.live_record import Provenance

_LONGEST_DELAY: Final = timedelta(minutes=30)
"""Longer delays are not said: then the alert may follow from an interest that was set later, or the flights are not of
today (a demo), and the delay is not that of seeing them."""

_MINUTE: Final = timedelta(minutes=1)


def describe_freshness(texts: Texts, alert: Alert, cause_published_at: datetime) -> str:
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
            return texts.get("fresh.settled")
        case Provenance.RECENT:
            return texts.get("fresh.recent")
        case Provenance.LIVE:
            end = alert.window_end
            if alert.window_start <= cause_published_at < end:
                return texts.get(f"fresh.live.before.{alert.window}")
            delay = cause_published_at - end
            if not timedelta(0) <= delay <= _LONGEST_DELAY:
                return texts.get("fresh.live")
            return texts.get(f"fresh.live.after.{alert.window}", count=max(round(delay / _MINUTE), 1))


def describe_sources(texts: Texts, alerts: Iterable[Alert]) -> str:
    """Return a sentence about where all of some alerts come from; empty if not from one source, or not recorded."""
    sources = {each.provenance for each in alerts}
    if sources == {Provenance.LIVE}:
        return texts.get("fresh.all.live")
    if sources == {Provenance.RECENT}:
        return texts.get("fresh.all.recent")
    return texts.get("fresh.all.settled") if sources == {Provenance.SETTLED} else ""


def describe_source(texts: Texts, alerts: Iterable[Alert]) -> str:
    """Return a note of where some alerts come from: "seen live", "from the night's record", or several; or nothing."""
    sources = {each.provenance for each in alerts}
    notes = {
        Provenance.LIVE: "fresh.note.live",
        Provenance.RECENT: "fresh.note.recent",
        Provenance.SETTLED: "fresh.note.settled",
    }
    note = ""
    for source, key in notes.items():
        if source in sources:
            note = texts.get("and", one=note, other=texts.get(key)) if note else texts.get(key)
    return note
