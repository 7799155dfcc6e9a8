"""The report of a feed for operators: stored by the leader beside the feed's memory, shown by any replica."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from sqlalchemy import select
from sqlalchemy.orm import Session

from collector.live.live_store import REPORT_FORMAT, name_report
from collector.model import LiveStateRow

MOST_AIRPORTS: Final = 1_000
"""Airports that a report names, at most, of each kind."""


@dataclass(frozen=True, slots=True)
class FeedReport:
    """The state of a feed, as operators see it; times are Unix seconds."""

    feed: str
    last_poll_at: float | None = None
    """By our clock, when the last poll that counts was answered; None: there was none in this term."""
    stated_at: float | None = None
    """The time that the last poll itself states."""
    aircraft: int = 0
    """In the last poll."""
    interval_s: float = 0.0
    """Seconds from one poll to the next, as planned."""
    live: tuple[str, ...] = ()
    """ICAO codes of the airports that are heard without a pause."""
    settled: Mapping[str, str] = field(default_factory=dict)
    """By the ICAO code of another airport with interests: why it is not live, in a sentence."""
    error: str | None = None
    """Why the last poll failed, in a sentence; None: it did not."""
    heard_since: Mapping[str, float] = field(default_factory=dict)
    """From when on an airport of `live` is heard without a pause, by its ICAO code."""


def encode_report(report: FeedReport) -> bytes:
    """Encode a report as JSON, from which `decode_report` makes it again."""
    return json.dumps(
        {
            "last_poll_at": report.last_poll_at,
            "stated_at": report.stated_at,
            "aircraft": report.aircraft,
            "interval_s": report.interval_s,
            "live": report.live[:MOST_AIRPORTS],
            "settled": dict(sorted(report.settled.items())[:MOST_AIRPORTS]),
            "error": report.error,
            "heard_since": {
                icao: report.heard_since[icao] for icao in report.live[:MOST_AIRPORTS] if icao in report.heard_since
            },
        }
    ).encode()


def load_reports(session: Session, feeds: tuple[str, ...]) -> list[FeedReport]:
    """Return the stored reports of feeds, in this order; one of a feed that has stored none has no poll."""
    keys = {name_report(feed): feed for feed in feeds}
    rows = session.execute(
        select(LiveStateRow.feed, LiveStateRow.body).where(
            LiveStateRow.feed.in_(keys), LiveStateRow.format == REPORT_FORMAT
        )
    )
    found = {keys[key]: _decode_report(keys[key], body) for key, body in rows}
    return [found.get(feed, FeedReport(feed)) for feed in feeds]


def _decode_report(feed: str, body: bytes) -> FeedReport:
    """Return the report of a stored one; its format says that it can be read."""
    value = json.loads(body)
    return FeedReport(
        feed,
        value["last_poll_at"],
        value["stated_at"],
        value["aircraft"],
        value["interval_s"],
        tuple(value["live"]),
        value["settled"],
        value["error"],
        value.get("heard_since", {}),  # a report of an earlier version has none
    )
