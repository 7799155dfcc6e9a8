"""Alerts of one user, grouped by threshold, and each group split into runs of alerts about one breach."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from domain.alerts import Alert, AlertState
from notifier.mail.levels import WindowFacts, is_breached, is_skipped, list_earlier_windows

MAX_CHART_WINDOWS: Final = 36
"""The number of windows that a chart shows at most: the latest ones."""

_STATE_ORDER: Final = {AlertState.RESOLVED: 0, AlertState.FIRING: 1, AlertState.STILL: 2, AlertState.WITHDRAWN: 3}
"""The order of alerts of one kind (breaches, or their ends) about one window: what is withdrawn was said before."""


@dataclass(frozen=True, slots=True)
class BreachRun:
    """Alerts of one threshold that a mail shows as one line: one breach, with its end if it has ended; or corrections.

    A breach whose beginning was in an earlier mail may have its end alone here.
    """

    alerts: tuple[Alert, ...]
    """At least one, ordered by window."""

    @property
    def is_correction(self) -> bool:
        """True if the run consists of corrections (WITHDRAWN), False if it is a breach, or the end of one."""
        return self.alerts[0].state is AlertState.WITHDRAWN

    @property
    def resolving_alert(self) -> Alert | None:
        """The alert that reports the end of the breach; None: no such alert in this run."""
        return self.alerts[-1] if self.alerts[-1].state is AlertState.RESOLVED else None

    @property
    def breach_alerts(self) -> tuple[Alert, ...]:
        """The alerts that report a breach (FIRING, STILL); empty where the run reports its end alone."""
        return tuple(each for each in self.alerts if each.state in (AlertState.FIRING, AlertState.STILL))

    @property
    def begin(self) -> datetime:
        """The start of the first alert's window."""
        return self.alerts[0].window_start

    @property
    def end(self) -> datetime:
        """The end of the breach if the run has both a breach and its end, else the end of the last alert's window."""
        if self.resolving_alert is not None and self.breach_alerts:
            return self.resolving_alert.window_start
        return _window_end(self.alerts[-1])

    def list_breach_windows(self) -> list[WindowFacts]:
        """Return the breach's windows, as far as the run's own alerts know their counts, in any order.

        They are the windows in breach alone: what another alert says of the same window may be before a correction or
        after it. Empty without an alert that reports a breach.
        """
        if not self.breach_alerts:
            return []
        first = self.alerts[0]
        known = {each.window_start: WindowFacts(each.count, each.doubled_usual) for each in self.breach_alerts}
        usual = collect_usual(self.alerts)
        for start, count in _collect_last_counts(self.alerts).items():
            window = WindowFacts(count, usual.get(start))
            if self.begin <= start < self.end and is_breached(first, window):
                known[start] = window
        return list(known.values())

    def has_skipped_windows(self) -> bool | None:
        """Return True if windows between its begin and end are not judged by its threshold; False: none is.

        None: it is not known of all of them. Always False with a threshold in flights.
        """
        first, usual = self.alerts[0], collect_usual(self.alerts)
        if first.percent is None:
            return False
        starts = [first.find_earlier_start(-at) for at in range(self.count_windows())]
        if any(is_skipped(first, WindowFacts(None, usual.get(each))) for each in starts):
            return True
        return None if any(usual.get(each) is None for each in starts) else False

    def count_windows(self) -> int:
        """Return the number of windows between its begin and end, of any kind."""
        return self.alerts[0].count_windows(self.begin, self.end)


@dataclass(frozen=True, slots=True)
class ThresholdSummary:
    """The alerts of one mail about one threshold of one interest, ordered by window."""

    alerts: tuple[Alert, ...]

    def __hash__(self) -> int:
        """Return the hash of the last alert's id: summaries are keys, and hashing all members of alerts is slow."""
        return hash(self.latest.alert_id)

    @property
    def latest(self) -> Alert:
        """The alert about the latest window."""
        return self.alerts[-1]

    def split_into_runs(self) -> tuple[BreachRun, ...]:
        """Split the alerts into runs, in order: a breach with its end, or corrections of windows in a row.

        A FIRING alert always begins a run; for the others see `_continues_run`.
        """
        found: list[list[Alert]] = []
        for alert in self.alerts:
            if found and _continues_run(found[-1][-1], alert):
                found[-1].append(alert)
            else:
                found.append([alert])
        return tuple(BreachRun(tuple(each)) for each in found)

    def collect_counts(self) -> dict[datetime, int]:
        """Return the last count that the alerts say of each window, by window start in any order.

        See `_collect_last_counts`.
        """
        return _collect_last_counts(self.alerts)

    def collect_chart_counts(self) -> tuple[datetime, list[int | None]]:
        """Return the start of the first window of the chart, and the counts from there to the last known window.

        One count for each window, in order; None: not known. At most MAX_CHART_WINDOWS counts, the latest.
        """
        known, latest = self.collect_counts(), self.latest  # no window is known after the latest alert's
        back = min(latest.count_windows(min(known), latest.window_start), MAX_CHART_WINDOWS - 1)
        starts = [latest.find_earlier_start(each) for each in range(back, -1, -1)]
        return starts[0], [known.get(start) for start in starts]


def group_by_threshold(alerts: Iterable[Alert]) -> tuple[ThresholdSummary, ...]:
    """Return the alerts grouped by threshold, the groups and the alerts in each group in order.

    A group has one airport, direction, window length, bound, threshold, number of windows and interest; the groups are
    ordered by these. Alerts in a group are ordered by window start; alerts about one window are in the order in which
    they were said.
    """
    given = tuple(alerts)
    withdrawn_breaches = {
        (each.interest_id, each.bound, each.window_start)
        for each in given
        if each.state is AlertState.WITHDRAWN and not each.reports_breach
    }
    ordered = sorted(
        given,
        key=lambda each: (
            each.airport,
            each.direction,
            each.window.hours,
            each.bound,
            *_get_level(each),
            each.for_windows,
            each.interest_id,
            each.window_start,
            *_get_order_in_window(each, (each.interest_id, each.bound, each.window_start) in withdrawn_breaches),
            each.alert_id,
        ),
    )
    found: dict[tuple[object, ...], list[Alert]] = {}
    for alert in ordered:
        group = (
            alert.airport, alert.direction, alert.window, alert.bound, _get_level(alert), alert.for_windows,
            alert.interest_id,
        )  # fmt: skip
        found.setdefault(group, []).append(alert)
    return tuple(ThresholdSummary(tuple(each)) for each in found.values())


def select_latest(summaries: Sequence[ThresholdSummary], how_many: int) -> tuple[ThresholdSummary, ...]:
    """Return at most `how_many` of the summaries, in their order.

    Those whose latest alert reports a breach have precedence, then those of the latest windows.
    """
    urgent = sorted(
        summaries,
        key=lambda each: (
            each.latest.reports_breach,
            each.latest.window_start,
        ),
        reverse=True,
    )[:how_many]
    return tuple(each for each in summaries if each in urgent)


def _get_level(alert: Alert) -> tuple[bool, int]:
    """Return what an alert's threshold is, the same in all windows: whether it is in percent, and its number."""
    return (False, alert.threshold) if alert.percent is None else (True, alert.percent)


def _get_order_in_window(alert: Alert, is_breach_withdrawn: bool) -> tuple[int, bool, int]:
    """Return a sort key that puts the alerts about one window in the order in which they were raised.

    An alert that is repeated after a withdrawal has a higher revision. If the mail withdraws a breach
    (`is_breach_withdrawn`), that breach was reported before the end of another, else after it.
    """
    return alert.revision, alert.is_about_end is is_breach_withdrawn, _STATE_ORDER[alert.state]


def find_time_range(alerts: Sequence[Alert]) -> tuple[datetime, datetime]:
    """Return the earliest start and the latest end of the windows of some alerts, at least one, in any order."""
    return min(each.window_start for each in alerts), max(_window_end(each) for each in alerts)


def _continues_run(before: Alert, alert: Alert) -> bool:
    """Return True if an alert belongs to the run of the alert before it, False if it begins a new run.

    FIRING begins a run. STILL continues a breach, WITHDRAWN corrections of the same kind, in the next window only.
    RESOLVED continues a breach of the same episode, however many windows later; without episodes only in the next
    window. So does STILL of a threshold in percent, which skips windows.
    """
    follows = alert.window_start == before.find_earlier_start(-1)
    match alert.state:
        case AlertState.FIRING:
            return False
        case AlertState.WITHDRAWN:
            is_same_kind = before.reports_breach == alert.reports_breach
            return before.state is AlertState.WITHDRAWN and is_same_kind and follows
        case AlertState.STILL if alert.percent is None:
            return before.state in (AlertState.FIRING, AlertState.STILL) and follows
        case AlertState.STILL | AlertState.RESOLVED:
            in_breach = before.state.is_breach and before.window_start < alert.window_start
            same = alert.episode_id == before.episode_id if alert.episode_id and before.episode_id else follows
            return in_breach and same


def _collect_last_counts(alerts: Sequence[Alert]) -> dict[datetime, int]:
    """Return the last count that some alerts say of each window, by window start in any order.

    `alerts`: of one threshold, ordered by window, and of one window in the order in which they were said. Counts go
    down, too: the last count of a window is not its largest, but that of the last alert about it. Two kinds of windows
    have the count that an alert about a later window has for them (`Alert.earlier`): those with no alert of their own,
    and those whose last count was said early and grew (`_may_have_grown`).
    """
    last = {each.window_start: each for each in alerts}
    known = {start: each.count for start, each in last.items()}
    for alert in alerts:
        for start, (count, _) in list_earlier_windows(alert):
            own = last.get(start)
            if count is not None and (own is None or (_may_have_grown(own, alert) and count > known[start])):
                known[start] = count
    return known


def collect_usual(alerts: Sequence[Alert]) -> dict[datetime, int]:
    """Return twice what is usual in each window of which some alerts of one threshold say it, by window start."""
    usual = {
        start: window.doubled_usual
        for alert in alerts
        if alert.earlier_usual
        for start, window in list_earlier_windows(alert)
        if window.doubled_usual is not None
    }
    return usual | {each.window_start: each.doubled_usual for each in alerts if each.doubled_usual is not None}


def collect_live_starts(alerts: Sequence[Alert]) -> frozenset[datetime]:
    """Return the starts of the windows that alerts of one threshold know from positions alone, at least in part.

    `alerts`: ordered by window; if several name a window, the last one counts.
    """
    is_live = {
        alert.find_earlier_start(back): bool(alert.live_windows >> back & 1)
        for alert in alerts
        for back in range(len(alert.earlier), -1, -1)
    }
    return frozenset(start for start, live in is_live.items() if live)


def _may_have_grown(alert: Alert, later: Alert) -> bool:
    """Return True if an alert's count may be that of an open window, and an alert about a later window has its growth.

    Only the first count in breach is said early. What the later alert has is newer if the window was never corrected
    before, or if the later alert is about the breach that began with this one.
    """
    is_early = alert.state.is_breach and alert.bound.can_breach_while_open and alert.count == alert.threshold + 1
    return is_early and (alert.revision == 0 or later.episode_id == alert.alert_id)


def _window_end(alert: Alert) -> datetime:
    return alert.window_end
