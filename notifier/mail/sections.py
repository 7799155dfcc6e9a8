"""The sections of a mail about several alerts: by airport and by threshold, each written once for all who are told.

Many people have the same threshold, and many more the same run of windows. Sections are cached by the content of their
alerts (`AlertsContent`) and by the reader's time zone and language; whose alerts they are does not matter.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from typing import Final
from zoneinfo import ZoneInfo

from markupsafe import Markup

from chassis.texts import Texts
from domain.alerts import Alert
from notifier.mail import wording
from notifier.mail.content import AlertsContent
from notifier.mail.freshness import describe_source
from notifier.mail.own_windows import format_own_range
from notifier.mail.parts import InlineImage, render_page_fragment, render_text_fragment
from notifier.mail.runs import describe_run
from notifier.mail.summary import BreachRun, ThresholdSummary
from notifier.mail.times import ReaderTimes

_MAX_LINES: Final = 12
"""Lines about one threshold, the latest runs; half a day of hours in which every other hour is a breach."""


@dataclass(frozen=True, slots=True)
class RunLine:
    """A line of a mail about several alerts: one run (a breach, or corrections) and its time range."""

    utc_range: str
    local_range: str
    """The time range in the reader's time zone; empty where it is UTC."""
    description: str


@dataclass(frozen=True, slots=True)
class SectionWords:
    """The words about one threshold in a mail: the threshold, its status, and a line for each run of windows."""

    threshold: str
    """In words: "Departures in an hour: more than 20"."""
    status: str
    tone: str
    """The CSS class of the status."""
    lines: tuple[RunLine, ...]
    omitted_runs: int
    """How many earlier runs have no line."""


@dataclass(frozen=True, slots=True)
class ThresholdSection:
    """The section of a mail about one threshold, as text and as HTML before and after the chart."""

    text: str
    page_begin: Markup
    page_end: Markup
    chart: InlineImage | None = None


@dataclass(frozen=True, slots=True)
class AirportSection:
    """The section of a mail about one airport: its names, and a section for each threshold."""

    icao: str
    name: str
    city: str
    thresholds: tuple[ThresholdSection, ...]


def build_threshold_section(
    summary: ThresholdSummary, times: ReaderTimes, chart: InlineImage | None, has_sources: bool
) -> ThresholdSection:
    """Return the section about one threshold: its latest state, a line for each of its latest 12 runs, and the chart.

    The lines are ordered by time; earlier runs are only counted. `has_sources`: the lines say where the alerts come
    from.
    """
    # Only the year of `now` is used, and in every time zone of today a date begins at a full quarter of an hour.
    quarter = times.now.replace(minute=times.now.minute // 15 * 15, second=0, microsecond=0)
    content = AlertsContent.of(summary.alerts)
    section = _write_threshold_section(content, times.zone, quarter, times.texts, has_sources)
    return render_section(times.texts, section, chart)


@lru_cache(maxsize=4096)
def _write_threshold_section(
    content: AlertsContent, zone: ZoneInfo | None, quarter: datetime, texts: Texts, has_sources: bool
) -> SectionWords:
    """Return what a section says; cached. `quarter`: the time of writing, rounded down to a quarter of an hour."""
    summary, times = ThresholdSummary(content.alerts), ReaderTimes(zone, quarter, texts)
    runs = summary.split_into_runs()
    shown = runs[-_MAX_LINES:]
    lines = tuple(_build_run_line(run, times, has_sources) for run in shown)
    return describe_section(summary.latest, texts, lines, len(runs) - len(shown))


def describe_section(latest: Alert, texts: Texts, lines: tuple[RunLine, ...], omitted_runs: int) -> SectionWords:
    """Return what the section of a threshold says: the threshold and state of its latest alert, and the lines."""
    return SectionWords(
        threshold=wording.describe_threshold(texts, latest),
        status=wording.format_status(texts, latest),
        tone=wording.choose_tone(latest),
        lines=lines,
        omitted_runs=omitted_runs,
    )


def render_section(texts: Texts, section: SectionWords, chart: InlineImage | None = None) -> ThresholdSection:
    """Return a section as text and as HTML, with its chart."""
    return ThresholdSection(*_render_section(texts, section), chart)


@lru_cache(maxsize=4096)
def _render_section(texts: Texts, section: SectionWords) -> tuple[str, Markup, Markup]:
    """Return a section as text, and as HTML before and after the chart; cached."""
    values = {"section": section}
    return (
        render_text_fragment("section", texts, values),
        render_page_fragment("section_begin", texts, values),
        render_page_fragment("section_end", texts, values),
    )


def group_by_airport(
    summaries: Sequence[ThresholdSummary], sections: Sequence[ThresholdSection]
) -> list[AirportSection]:
    """Return the sections of thresholds, one for each summary, as sections by airport, in their order."""
    by_airport: dict[str, list[ThresholdSection]] = {}
    for summary, section in zip(summaries, sections, strict=True):
        by_airport.setdefault(summary.latest.airport, []).append(section)
    return [AirportSection(icao, *wording.find_airport_names(icao), tuple(each)) for icao, each in by_airport.items()]


def _build_run_line(run: BreachRun, times: ReaderTimes, has_source: bool) -> RunLine:
    """Return the line about one run: its time range in UTC and in the reader's time zone, and its description.

    `has_source`: the description ends with where the run's alerts come from, if that is recorded.
    """
    zone = times.local_zone(run.begin, run.end)
    source = describe_source(times.texts, run.alerts) if has_source else ""
    description = describe_run(times.texts, run)
    return RunLine(
        utc_range=format_own_range(run.alerts[0], run.begin, run.end, times),
        local_range=times.format_local_range(run.begin, run.end, zone) if zone is not None else "",
        description=f"{description} ({source})" if source else description,
    )
