"""The lights of the overview: for each source of flights and positions whether it works, and why not, in a sentence.

Pure functions of what the collector tells. All ages are by the collector's clock, at the time of its answer.
"""

from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from typing import Final

from domain.reasons import format_number, pluralize
from streams.pages.wording import format_duration, format_full_time
from streams.source_client import Unknown
from towerwatch.collection.v1.source_service_pb2 import Credits, FeedSource, GetSourcesResponse, RecordSource

SILENT_AFTER_S: Final = 150
"""Age of the last poll at which a feed is silent: live coverage bridges 120 s, and reports are at most 30 s old."""

_LATE_REPORT_S: Final = 60
"""Seconds by which the last poll of a feed that is asked seldom may be older than its interval."""

RECORD_LATE_S: Final = 36 * 3600
"""Lag of the record that needs attention, as the alert CoverageLags has it."""

RECORD_MISSING_S: Final = 72 * 3600
"""Lag after which two nights' records are missing."""

FEWEST_CREDITS: Final = 4
"""The price of the cheapest question; with less nothing can be asked."""

_NEARLY_OUT_SHARE: Final = 0.05
"""Share of the day's credits below which they are nearly out."""

MOST_REASONS: Final = 20
"""Airports that are not live whose reasons are listed."""

_NAMES: Final = {
    "opensky": "Positions from OpenSky",
    "own": "The account's own receivers",
    "receivers": "Receivers (aircraft.json)",
    "services": "Services of positions (/v2/point)",
}
_RECORD_NAME: Final = "The night's record from OpenSky"


class Light(StrEnum):
    """The state of a source, as its light shows it."""

    GREEN = "green"
    """It works."""
    AMBER = "amber"
    """It works, but not all of it, or not for long."""
    RED = "red"
    """It gives nothing."""
    OFF = "off"
    """Nothing is asked of it."""
    UNKNOWN = "unknown"
    """Nothing is known of it."""


LIGHT_WORDS: Final = {
    Light.GREEN: "works",
    Light.AMBER: "needs a look",
    Light.RED: "gives nothing",
    Light.OFF: "not in use",
    Light.UNKNOWN: "not known",
}
"""The lights in a word or two, for those who do not tell colours apart."""


@dataclass(frozen=True, slots=True)
class SourceShown:
    """A source of flights or positions as the lights show it: its light with the reason, and what it last told."""

    name: str
    light: Light
    sentence: str
    last_poll_at: datetime | None = None
    """When the last poll that counts was answered; of feeds only."""
    aircraft: int | None = None
    """Aircraft in that poll; of feeds only."""
    live_airports: int | None = None
    """Airports that it hears without a pause; of feeds only."""
    credits_left: int | None = None
    """Credits that are left today (UTC). None: it costs none."""
    credits_budget: int | None = None
    """Credits of the day. None: it costs none."""
    not_live: tuple[tuple[str, str], ...] = ()
    """Airports with interests that it does not hear, at most MOST_REASONS, each with the reason."""


@dataclass(frozen=True, slots=True)
class SourcesShown:
    """The lights of all sources."""

    at: datetime | None
    """The time of the collector's answer, by its clock. None: there is no answer."""
    sources: tuple[SourceShown, ...]


def build_lights(answer: GetSourcesResponse | Unknown) -> SourcesShown:
    """Build the lights from the collector's answer; without an answer a single one, UNKNOWN, that says why."""
    if isinstance(answer, Unknown):
        sentence = f"Not known: {answer.reason}. What is on this page below does not depend on it."
        return SourcesShown(None, (SourceShown("All sources", Light.UNKNOWN, sentence),))
    at = answer.at.ToDatetime(UTC)
    credits_ = answer.position_credits if answer.HasField("position_credits") else None
    feeds = (_judge_feed(each, at, credits_ if each.name == "opensky" else None) for each in answer.feeds)
    return SourcesShown(at, (_judge_record(answer.record), *feeds))


def _judge_record(record: RecordSource) -> SourceShown:
    """Build the light of the source of the night's record: its colour, and the reason in words."""
    left = record.credits.left
    behind = f"Known up to {format_duration(record.lag_seconds)} ago at the airport that is farthest behind"
    light, sentence = Light.GREEN, f"{behind}; a day comes in the morning after it."
    if not record.lag_seconds:
        light, sentence = Light.OFF, "Nobody has an interest in an airport."
    elif record.lag_seconds > RECORD_MISSING_S:
        light, sentence = Light.RED, f"{behind}: records of more than one night are missing."
    elif record.HasField("paused_until"):
        until = format_full_time(record.paused_until.ToDatetime(UTC))
        light, sentence = Light.AMBER, f"The source wants no call until {until}."
    elif record.error:
        light, sentence = Light.AMBER, f"{record.error[:1].upper()}{record.error[1:]}."
    elif left < FEWEST_CREDITS:
        light, sentence = Light.AMBER, "The credits of today are used up; it goes on at midnight (UTC)."
    elif record.lag_seconds > RECORD_LATE_S:
        light, sentence = Light.AMBER, f"{behind}: the last night's record is late."
    return SourceShown(_RECORD_NAME, light, sentence, credits_left=left, credits_budget=record.credits.budget)


def _judge_feed(feed: FeedSource, at: datetime, credits_: Credits | None) -> SourceShown:
    """Return the light of a feed at the time of the answer; `credits_`: those that it costs, None if it costs none."""
    last = feed.last_poll_at.ToDatetime(UTC) if feed.HasField("last_poll_at") else None
    light, sentence = _describe_feed(feed, None if last is None else (at - last).total_seconds(), credits_)
    return SourceShown(
        name=_NAMES.get(feed.name, feed.name),
        light=light,
        sentence=sentence,
        last_poll_at=last,
        aircraft=feed.aircraft,
        live_airports=len(feed.live_airports),
        credits_left=None if credits_ is None else credits_.left,
        credits_budget=None if credits_ is None else credits_.budget,
        not_live=tuple(sorted(feed.settled_airports.items())[:MOST_REASONS]),
    )


def _describe_feed(feed: FeedSource, age_s: float | None, credits_: Credits | None) -> tuple[Light, str]:
    """Return light and sentence of a feed whose last poll has an age; None: there was no poll."""
    if age_s is None:
        if not feed.error:
            return Light.OFF, "No poll yet: there is none while nobody has an interest in an airport."
        # An account may have no receivers of its own, which is no fault.
        light = Light.OFF if feed.name == "own" else Light.RED
        return light, f"No poll yet: {feed.error}."
    ago = f"{format_duration(age_s)} ago"
    if age_s > max(SILENT_AFTER_S, feed.interval_seconds + _LATE_REPORT_S):
        return Light.RED, f"Silent: the last poll that counts was {ago}{f'; {feed.error}' if feed.error else ''}."
    heard = f"{pluralize(feed.aircraft, 'aircraft', 'aircraft')} in the poll of {ago}"
    if feed.error:
        return Light.AMBER, f"{heard}, but: {feed.error}."
    if not feed.live_airports:
        return Light.AMBER, f"{heard}, but no airport is live."
    live = f"{heard}; {pluralize(len(feed.live_airports), 'airport is', 'airports are')} live."
    if credits_ is not None and credits_.left < credits_.budget * _NEARLY_OUT_SHARE:
        return Light.AMBER, f"{live} The credits of today are nearly used up."
    return Light.GREEN, live


def describe_credits(source: SourceShown) -> str:
    """Return the credits of a source in words; empty if it costs none."""
    if source.credits_left is None or source.credits_budget is None:
        return ""
    return f"{format_number(source.credits_left)} of {format_number(source.credits_budget)} credits left today"
