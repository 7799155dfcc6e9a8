"""Catch-up mails: one mail lists a user's alerts that became too old to be mailed singly. Pure.

An alert becomes too old at the end of its lifetime: the notifier, the mail server or all of Towerwatch was
unavailable. It is then not mailed singly, but in one mail with all others of its user that became too old. The clock
that tells its age may be wrong, so no alert is given up by age alone: a catch-up mail is given up after as many
attempts as a lifetime has.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Final
from uuid import UUID

from domain.alerts import Alert, AlertState, Bound
from notifier.delivery.alert_batch import AlertBatch
from notifier.delivery.policy import MailPolicy
from notifier.delivery.retries import compute_lifetime_start, compute_max_attempts

CATCH_UP_WAIT: Final = timedelta(seconds=15)
"""How long a user's first alert that became too old waits for others: after a long absence they are read one by one."""

MAX_ALERTS_PER_CATCH_UP: Final = 500
"""The maximal number of alerts in one catch-up mail; further ones go into the next."""

_Threshold = tuple[UUID, int, Bound]
"""A threshold: the interest, its version and the bound."""

_ThresholdWindow = tuple[_Threshold, datetime]
"""A threshold and the start of a window."""

_Statement = tuple[_Threshold, datetime, bool, int]
"""What an alert says or withdraws: threshold, window start, True for a breach's end, revision; FIRING is as STILL."""


def is_lifetime_over(batch: AlertBatch, policy: MailPolicy, now: datetime, wall_now: datetime) -> bool:
    """Return True if the lifetime of a batch is over, by the clock or by its number of attempts; else False.

    If the batch became too old already, only the number of attempts since then counts. `now`, `wall_now`: as in
    `compute_lifetime_start`.
    """
    if batch.attempt >= compute_max_attempts(policy.retry_base, policy.lifetime):
        return True
    if batch.catch_up:
        return False
    return now - compute_lifetime_start(batch.lifetime_start, now, wall_now) >= policy.lifetime


def convert_to_catch_up(batch: AlertBatch, now: datetime) -> AlertBatch:
    """Return a batch whose lifetime is over as one of a catch-up mail, which has not been tried yet."""
    return replace(batch, catch_up=True, attempt=0, lifetime_start=now)


def select_catch_up_batches(batches: Sequence[AlertBatch]) -> tuple[AlertBatch, ...]:
    """Return the first batches of a user that one catch-up mail contains; empty if none of them became too old.

    `batches`: unsealed, in the order of their alerts. The mail contains them up to the last that became too old, so
    that no alert is mailed before an earlier one. It also contains those up to the last that withdraws one of its
    alerts, is withdrawn by one, reports the end of a breach whose beginning is withdrawn, or reports an end again, so
    that they cancel each other. At most MAX_ALERTS_PER_CATCH_UP alerts, but at least one batch.
    """
    end = max((number for number, each in enumerate(batches, 1) if each.catch_up), default=0)
    contents = _CatchUpContents()
    number = alert_count = 0
    while number < end:
        batch = batches[number]
        alert_count += len(batch.alerts)
        if number and alert_count > MAX_ALERTS_PER_CATCH_UP:
            break
        contents.add(batch)
        number += 1
        if number == end:
            later = range(end, len(batches))
            end = max((each + 1 for each in later if contents.has_counterpart_in(batches[each])), default=end)
    return tuple(batches[:number])


class _CatchUpContents:
    """The alerts selected for a catch-up mail so far: those that report something, and those that are withdrawals."""

    def __init__(self) -> None:
        self._reported: dict[_Statement, set[UUID]] = {}
        """The ids of the alerts that are no withdrawals, by their statement."""
        self._withdrawn: set[_Statement] = set()
        self._end_revisions: dict[_ThresholdWindow, int] = {}
        """The highest revision of the reported ends of breaches, by threshold and window."""

    def add(self, batch: AlertBatch) -> None:
        """Record the statements of a batch's alerts, so that `has_counterpart_in` knows them."""
        for each in (raised.alert for raised in batch.alerts):
            if each.state is AlertState.WITHDRAWN:
                self._withdrawn.add(_get_statement(each))
            else:
                self._reported.setdefault(_get_statement(each), set()).add(each.alert_id)
        for window, revision in _find_last_ends(raised.alert for raised in batch.alerts).items():
            self._end_revisions[window] = max(revision, self._end_revisions.get(window, 0))

    def has_counterpart_in(self, batch: AlertBatch) -> bool:
        """Return True if a batch has an alert that leaves out one of those here, or is left out because of one.

        Such an alert withdraws one of them, is withdrawn by one, ends a withdrawn breach, or reports an end again.
        False if none of its alerts does: then the mail can be complete without it.
        """
        withdrawn_ids = {id_ for each in self._withdrawn for id_ in self._reported.get(each, ())}
        for each in (raised.alert for raised in batch.alerts):
            opposite = self._reported if each.state is AlertState.WITHDRAWN else self._withdrawn
            if _get_statement(each) in opposite:
                return True
            if each.state is not AlertState.RESOLVED:
                continue
            if each.episode_id in withdrawn_ids or each.revision > self._end_revisions.get(
                _get_window(each), each.revision
            ):
                return True
        return False


def cancel_withdrawn(alerts: Iterable[Alert]) -> tuple[Alert, ...]:
    """Return the alerts, in their order, without those that others of them withdraw, and without these withdrawals.

    The user got neither. A withdrawal of an alert that is not in `alerts` is kept: that alert was mailed before. With
    `repeat`, both FIRING and STILL may have been said of one window: a withdrawal takes back both, and is kept unless
    `alerts` has the one that it names (`withdrawn_state`; if that is not recorded, either). The end of a breach
    (RESOLVED) is left out, too, if its beginning is, and no other alert of the same threshold reports a breach between
    the two; and if it comes again in `alerts`. A breach that comes again after a withdrawal has another revision and is
    kept.
    """
    listed = list(alerts)
    reports = [each for each in listed if each.state is not AlertState.WITHDRAWN]
    reported = {(_get_statement(each), state) for each in reports for state in (each.state, None)}
    withdrawn = {_get_statement(each) for each in listed if each.state is AlertState.WITHDRAWN}
    last_ends = _find_last_ends(listed)
    kept = []
    beginnings: dict[UUID, Alert] = {}
    breaches: dict[_Threshold, list[datetime]] = {}
    for each in listed:
        statement = _get_statement(each)
        if each.state is AlertState.WITHDRAWN:
            if (statement, each.withdrawn_state) not in reported:
                kept.append(each)
        elif statement not in withdrawn:
            kept.append(each)
            if each.state.is_breach:
                breaches.setdefault(_get_threshold(each), []).append(each.window_start)
        elif each.state is AlertState.FIRING:
            beginnings[each.alert_id] = each
    return tuple(
        each
        for each in kept
        if each.state is not AlertState.RESOLVED
        or (each.revision == last_ends[_get_window(each)] and not _ends_withdrawn_breach(each, beginnings, breaches))
    )


def _find_last_ends(alerts: Iterable[Alert]) -> dict[_ThresholdWindow, int]:
    """Return the highest revision of the RESOLVED alerts about each window, by threshold and window.

    The lower ones were withdrawn, or lapsed with the breach that they ended.
    """
    last: dict[_ThresholdWindow, int] = {}
    for each in alerts:
        if each.state is AlertState.RESOLVED:
            last[_get_window(each)] = max(each.revision, last.get(_get_window(each), 0))
    return last


def _ends_withdrawn_breach(
    alert: Alert, beginnings: Mapping[UUID, Alert], breaches: Mapping[_Threshold, list[datetime]]
) -> bool:
    """Return True if a RESOLVED alert ends a breach whose beginning was withdrawn, with no other breach in between.

    `beginnings`: the withdrawn alerts with which a breach began, by id. `breaches`: the window starts of
    the breaches that are not withdrawn, by threshold.
    """
    beginning = None if alert.episode_id is None else beginnings.get(alert.episode_id)
    if beginning is None:
        return False
    starts = breaches.get(_get_threshold(alert), ())
    return not any(beginning.window_start <= start < alert.window_start for start in starts)


def _get_statement(alert: Alert) -> _Statement:
    """Return the statement that an alert makes; for a withdrawal the statement that it withdraws."""
    return _get_threshold(alert), alert.window_start, alert.is_about_end, alert.revision


def _get_window(alert: Alert) -> _ThresholdWindow:
    """Return the threshold and the window that an alert is about."""
    return _get_threshold(alert), alert.window_start


def _get_threshold(alert: Alert) -> _Threshold:
    """Return the threshold that an alert is about."""
    return alert.interest_id, alert.version, alert.bound
