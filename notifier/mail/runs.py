"""One line for a run of alerts about one threshold: a breach with its end, or corrections."""

from collections.abc import Sequence

from domain.alerts import Alert, AlertState
from notifier.mail.levels import WindowFacts
from notifier.mail.summary import BreachRun
from notifier.mail.wording import (
    describe_breach,
    format_count,
    format_doubled,
    format_number,
    format_run,
    format_usual,
    format_windows,
    has_other_count,
    name_flights,
)


def describe_run(run: BreachRun) -> str:
    """Return one run (a breach, or corrections) in a line: "above 20 for 3 hours: 24 to 30 departures".

    Adds "still" to a breach from an earlier mail, "at least" to a count that may still grow, and ", then back to normal
    with 18" to a breach that has ended. Other runs: "back to normal: …" (its end alone), "correction: …". What is said
    again after a withdrawal has "again after a further correction", its own withdrawal is "another correction: …".
    In percent: "unusually quiet for 3 hours: 4 to 6 departures, usually 20 to 27, then no longer, with 18, usually 25".
    """
    first, last = run.alerts[0], run.alerts[-1]
    level = describe_breach(first)
    if run.is_correction:
        return _describe_corrections(run)
    is_again = any(each.revision for each in run.breach_alerts or run.alerts)
    again = " again after a further correction" if is_again else ""
    if not run.breach_alerts:
        ended = f"{format_count(last.direction, last.count)}{format_usual(last)}"
        if first.percent is not None:
            return f"no longer {level}{again}: {ended}"
        return f"back to normal{again}: {ended}, not {level}"
    still = "still " if first.state is AlertState.STILL else ""
    windows = run.list_breach_windows()
    counts = [each.flights for each in windows if each.flights is not None]
    open_end = first.bound.can_breach_while_open and counts == [first.threshold + 1] and run.resolving_alert is None
    least = "at least " if open_end else ""
    counted = f"{least}{_format_count_range(counts, first)}{_format_usual_range(windows, first)}"
    breach = f"{still}{level}{_format_duration(run)}{again}: {counted}"
    if run.resolving_alert is None:
        return breach
    if first.percent is not None:
        return f"{breach}, then no longer, with {format_number(last.count)}{format_usual(last)}"
    return f"{breach}, then back to normal with {format_number(last.count)}"


def _describe_corrections(run: BreachRun) -> str:
    """Return a run of corrections in a line: "correction: 24 departures, not 19; not above 20"."""
    last, level = run.alerts[-1], describe_breach(run.alerts[-1])
    is_single = len(run.alerts) == 1 and has_other_count(last)
    instead = f", not {format_number(last.withdrawn_count or 0)}" if is_single else ""
    verdict = f"still {level}" if last.reports_breach else f"not {level}{format_run(last)}"
    correction = "another correction" if any(each.revision for each in run.alerts) else "correction"
    usual = _format_usual_range([WindowFacts(each.count, each.doubled_usual) for each in run.alerts], last)
    counts = _format_count_range([each.count for each in run.alerts], last)
    return f"{correction}: {counts}{instead}{usual}; {verdict}"


def _format_duration(run: BreachRun) -> str:
    """Return how long a breach has lasted: " for 3 hours"; empty for one window.

    Empty also unless it is known that no window between was skipped: then its time range alone says it.
    """
    how_many = run.count_windows()
    if how_many <= 1 or run.has_skipped_windows() is not False:
        return ""
    return f" for {format_windows(run.alerts[0].window, how_many)}"


def _format_count_range(counts: Sequence[int], alert: Alert) -> str:
    """Return the least and the most of some counts with their noun: "24 to 30 departures"; if equal, "24 departures".

    `alert`: for its direction.
    """
    low, high = min(counts), max(counts)
    if low == high:
        return format_count(alert.direction, low)
    return f"{format_number(low)} to {format_number(high)} {name_flights(alert.direction)}"


def _format_usual_range(windows: Sequence[WindowFacts], alert: Alert) -> str:
    """Return ", usually 20 to 27" for the least and the most usual of some windows; empty if in flights or unknown."""
    usual = [each.doubled_usual for each in windows if each.doubled_usual is not None]
    if alert.percent is None or not usual:
        return ""
    low, high = format_doubled(min(usual)), format_doubled(max(usual))
    return f", usually {low if low == high else f'{low} to {high}'}"
