"""The charts of the thresholds in a mail."""

from collections.abc import Sequence
from datetime import UTC, datetime, tzinfo
from functools import lru_cache
from typing import Final
from zoneinfo import ZoneInfo

from chassis.texts import Texts
from domain.alerts import Alert
from domain.local_times import format_time
from domain.usual import LEAST_DOUBLED_USUAL
from domain.windows import Window
from notifier.mail import wording
from notifier.mail.chart import MailChart, render_chart
from notifier.mail.content import AlertsContent
from notifier.mail.own_windows import find_own_zone
from notifier.mail.parts import InlineImage
from notifier.mail.summary import ThresholdSummary, collect_live_starts, collect_usual
from notifier.mail.times import ReaderTimes, find_local_zone

_MAX_CHARTS: Final = 6
"""Charts in one mail; thresholds that are in breach now have theirs first."""


def has_ended(summary: ThresholdSummary) -> bool:
    """Return True if the latest alert reports no breach: it resolves one, or withdraws an earlier one."""
    return not summary.latest.reports_breach


def render_charts(
    summaries: Sequence[ThresholdSummary], times: ReaderTimes, mail_id: str
) -> dict[ThresholdSummary, InlineImage]:
    """Return the charts of up to six thresholds that have at least two known counts, by threshold.

    Thresholds whose latest alert reports a breach come first, else the order of `summaries` is kept. The images are
    named chart1, chart2, …, with the mail's id.
    """
    contents = {summary: AlertsContent.of(summary.alerts) for summary in summaries}
    charted = [summary for summary, content in contents.items() if _has_chart(content)]
    first = sorted(charted, key=has_ended)[:_MAX_CHARTS]
    return {
        summary: InlineImage(f"chart{number}.{mail_id}", *_render_chart(contents[summary], times.zone, times.texts))
        for number, summary in enumerate(first, 1)
    }


@lru_cache(maxsize=4096)
def _has_chart(content: AlertsContent) -> bool:
    """Return True if at least two counts are known, which a chart needs; cached."""
    return len(ThresholdSummary(content.alerts).collect_counts()) > 1


@lru_cache(maxsize=2048)
def _render_chart(content: AlertsContent, zone: ZoneInfo | None, texts: Texts) -> tuple[bytes, str]:
    """Return the chart of one threshold as a PNG, and its content in words; cached. `zone`: the reader's time zone.

    It shows the latest windows, at most 36; local times below the bars only if they differ from UTC and the windows are
    shorter than a day.
    """
    summary = ThresholdSummary(content.alerts)
    latest = summary.latest
    _, counts = summary.collect_chart_counts()
    starts = tuple(latest.find_earlier_start(back) for back in range(len(counts) - 1, -1, -1))
    zone = None if latest.window is Window.ONE_DAY else find_local_zone(zone, latest.window_start)
    own_zone = find_own_zone(latest)
    labels = _build_time_labels(texts, starts, latest.window, own_zone or UTC, zone)
    local = texts.get("chart.local") if zone is not None else ""
    label_rows = ("UTC" if own_zone is None else latest.airport, local)
    usual: list[int | None] = []
    if latest.percent is not None:
        known = collect_usual(summary.alerts)
        usual = [known.get(start) for start in starts]
    live_starts = collect_live_starts(summary.alerts)
    live = tuple(start in live_starts and count is not None for start, count in zip(starts, counts, strict=True))
    chart = MailChart(
        tuple(counts),
        latest.threshold,
        latest.bound,
        labels,
        label_rows,
        latest.percent,
        tuple(usual),
        texts.language,
        live,
    )
    described = describe_chart(texts, latest, counts, usual)
    if any(live):
        shown = ", ".join(own for is_live, (own, _) in zip(live, labels, strict=True) if is_live)
        described = f"{described} {texts.get('chart.alt.live', windows=shown)}"
    return render_chart(chart), described


def describe_chart(texts: Texts, alert: Alert, counts: list[int | None], usual: list[int | None]) -> str:
    """Return the counts of a chart, oldest first, and its threshold in words, for readers who do not see the image.

    `counts`: in the order of the windows; None becomes "unknown". `usual`: with a threshold in percent as many, twice
    what is usual; a count with a usual is "4 (usually 27)".
    """
    shown = [texts.get("chart.alt.unknown") if each is None else texts.format_number(each) for each in counts]
    for at, doubled in enumerate(usual):
        if doubled is not None:
            usually = wording.format_doubled(texts, doubled)
            shown[at] = texts.get("chart.alt.usual", count=shown[at], usual=usually)
    number = alert.threshold if alert.percent is None else alert.percent
    within = texts.get(f"within.{alert.bound}.{wording.get_measure(alert)}", count=number)
    described = texts.get(
        f"chart.alt.{alert.direction}",
        airport=alert.airport,
        in_window=texts.get(f"in_window.{alert.window}"),
        counts=", ".join(shown),
        within=within,
    )
    if alert.percent is not None and any(each is not None and each < LEAST_DOUBLED_USUAL for each in usual):
        return f"{described} {texts.get(f'chart.alt.skipped.{alert.window}')}"
    return described


@lru_cache(maxsize=512)  # the alerts of one night are about the same windows
def _build_time_labels(
    texts: Texts, starts: tuple[datetime, ...], window: Window, own_zone: tzinfo, zone: ZoneInfo | None
) -> tuple[tuple[str, str], ...]:
    """Return for each bar of a chart its time by the windows' clock, and in the reader's time zone (empty without one).

    `own_zone`: the clock by which the windows begin. A local time that clocks show twice has its offset.
    """
    own = [_format_bar_time(texts, each.astimezone(own_zone), window) for each in starts]
    local = [format_time(each, zone) if zone is not None else "" for each in starts]
    return tuple(zip(own, local, strict=True))


def _format_bar_time(texts: Texts, start: datetime, window: Window) -> str:
    """Return the time at which a bar's window starts, "06:00"; at midnight, and for one-day windows, "8 Feb"."""
    day_begins = window is Window.ONE_DAY or start.hour == 0
    return texts.format_date(start, "date.short") if day_begins else f"{start:%H:%M}"
