"""One line for a run of alerts about one threshold: a breach with its end, or corrections."""

from collections.abc import Sequence

from chassis.texts import Texts
from domain.alerts import Alert, AlertState
from notifier.mail.levels import WindowFacts
from notifier.mail.summary import BreachRun
from notifier.mail.wording import (
    describe_breach,
    format_count,
    format_doubled,
    format_run,
    format_usual,
    format_windows,
    get_measure,
    has_other_count,
)


def describe_run(texts: Texts, run: BreachRun) -> str:
    """Return one run (a breach, or corrections) in a line: "above 20 for 3 hours: 24 to 30 departures".

    Adds "still" to a breach from an earlier mail, "at least" to a count that may still grow, and ", then back to normal
    with 18" to a breach that has ended. Other runs: "back to normal: …" (its end alone), "correction: …". What is said
    again after a withdrawal has "again after a further correction", its own withdrawal is "another correction: …".
    In percent: "unusually quiet for 3 hours: 4 to 6 departures, usually 20 to 27, then no longer, with 18, usually 25".
    """
    first, last = run.alerts[0], run.alerts[-1]
    level = describe_breach(texts, first)
    if run.is_correction:
        return _describe_corrections(texts, run)
    is_again = any(each.revision for each in run.breach_alerts or run.alerts)
    again = texts.get("run.again") if is_again else ""
    if not run.breach_alerts:
        ended = f"{format_count(texts, last.direction, last.count)}{format_usual(texts, last)}"
        return texts.get(f"run.end.{get_measure(first)}", level=level, again=again, count=ended)
    windows = run.list_breach_windows()
    counts = [each.flights for each in windows if each.flights is not None]
    counted = _format_count_range(texts, counts, first)
    if first.bound.can_breach_while_open and counts == [first.threshold + 1] and run.resolving_alert is None:
        counted = texts.get("run.at_least", counted=counted)
    counted += _format_usual_range(texts, windows, first)
    duration = _format_duration(texts, run)
    breach = texts.get("run.breach", level=level, duration=duration, again=again, counted=counted)
    if first.state is AlertState.STILL:
        breach = texts.get("still", what=breach)
    if run.resolving_alert is None:
        return breach
    key = f"run.ended.{get_measure(first)}"
    return texts.get(key, breach=breach, count=last.count, usual=format_usual(texts, last))


def _describe_corrections(texts: Texts, run: BreachRun) -> str:
    """Return a run of corrections in a line: "correction: 24 departures, not 19; not above 20"."""
    last, level = run.alerts[-1], describe_breach(texts, run.alerts[-1])
    counts = _format_count_range(texts, [each.count for each in run.alerts], last)
    if len(run.alerts) == 1 and has_other_count(last):
        counts = texts.get("corrections.instead", count=counts, before=last.withdrawn_count or 0)
    not_any_more = f"{level}{format_run(texts, last)}"
    verdict = texts.get("still", what=level) if last.reports_breach else texts.get("not", what=not_any_more)
    correction = texts.get("correction.another" if any(each.revision for each in run.alerts) else "correction")
    usual = _format_usual_range(texts, [WindowFacts(each.count, each.doubled_usual) for each in run.alerts], last)
    return texts.get("run.correction", correction=correction, counts=counts, usual=usual, verdict=verdict)


def _format_duration(texts: Texts, run: BreachRun) -> str:
    """Return how long a breach has lasted: " for 3 hours"; empty for one window.

    Empty also unless it is known that no window between was skipped: then its time range alone says it.
    """
    how_many = run.count_windows()
    if how_many <= 1 or run.has_skipped_windows() is not False:
        return ""
    return texts.get("run.duration", windows=format_windows(texts, run.alerts[0].window, how_many))


def _format_count_range(texts: Texts, counts: Sequence[int], alert: Alert) -> str:
    """Return the least and the most of some counts with their noun: "24 to 30 departures"; if equal, "24 departures".

    `alert`: for its direction.
    """
    low, high = min(counts), max(counts)
    if low == high:
        return format_count(texts, alert.direction, low)
    return texts.get(f"flights.range.{alert.direction}", low=low, high=high)


def _format_usual_range(texts: Texts, windows: Sequence[WindowFacts], alert: Alert) -> str:
    """Return ", usually 20 to 27" for the least and the most usual of some windows; empty if in flights or unknown."""
    usual = [each.doubled_usual for each in windows if each.doubled_usual is not None]
    if alert.percent is None or not usual:
        return ""
    low, high = format_doubled(texts, min(usual)), format_doubled(texts, max(usual))
    return texts.get("usual.after", usual=low) if low == high else texts.get("usual.after.range", low=low, high=high)
