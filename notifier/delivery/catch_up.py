"""Catch-up mails: one mail lists a user's alerts that became too old to be mailed singly. Pure.

An alert becomes too old at the end of its lifetime: the notifier, the mail server or all of Towerwatch was
unavailable. It is then mailed with all others of its user that did, and not singly any more. Its lifetime is over by a
clock that may be wrong, so age alone gives up no alert: a catch-up mail is given up after as many attempts as a
lifetime has.
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

_Statement = tuple[_Threshold, datetime, bool, int]
"""What an alert says or withdraws: the threshold, the window's start, True for a breach's end, and the revision."""


def is_lifetime_over(batch: AlertBatch, policy: MailPolicy, now: datetime, wall_now: datetime) -> bool:
    """Return True if the lifetime of a batch is over: by the clock or by its number of attempts.

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
    alerts, is withdrawn by one, or reports the end of a breach whose beginning is withdrawn, so that they cancel each
    other. At most MAX_ALERTS_PER_CATCH_UP alerts, but at least one batch.
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
            end = max((each + 1 for each in later if contents.is_completed_by(batches[each])), default=end)
    return tuple(batches[:number])


class _CatchUpContents:
    """What a catch-up mail has so far: the breaches that it reports, and what it withdraws."""

    def __init__(self) -> None:
        self._reported: dict[_Statement, UUID] = {}
        """The ids of the alerts that are no withdrawals, by what they say."""
        self._withdrawn: set[_Statement] = set()

    def add(self, batch: AlertBatch) -> None:
        """Add the alerts of a batch."""
        for each in batch.alerts:
            if each.alert.state is AlertState.WITHDRAWN:
                self._withdrawn.add(_get_statement(each.alert))
            else:
                self._reported[_get_statement(each.alert)] = each.alert.alert_id

    def is_completed_by(self, batch: AlertBatch) -> bool:
        """Return True if a batch has the other half of a report and its withdrawal, or the end of a breach that was
        withdrawn; else False."""
        withdrawn_ids = {self._reported[each] for each in self._withdrawn if each in self._reported}
        for each in (raised.alert for raised in batch.alerts):
            opposite = self._reported if each.state is AlertState.WITHDRAWN else self._withdrawn
            if _get_statement(each) in opposite:
                return True
            if each.state is AlertState.RESOLVED and each.episode_id in withdrawn_ids:
                return True
        return False


def cancel_withdrawn(alerts: Iterable[Alert]) -> tuple[Alert, ...]:
    """Return the alerts, in their order, without those that others of them withdraw, and without these withdrawals.

    Nobody was told of either. The end of a breach (RESOLVED) is left out, too, if its beginning is, and no other alert
    of the same threshold reports a breach between the two. A withdrawal of an alert that is not among these stays: that
    one was mailed before. So does what comes again after a withdrawal: its revision is another.
    """
    listed = list(alerts)
    reported = {_get_statement(each) for each in listed if each.state is not AlertState.WITHDRAWN}
    withdrawn = {_get_statement(each) for each in listed if each.state is AlertState.WITHDRAWN}
    cancelled = reported & withdrawn
    kept = [each for each in listed if _get_statement(each) not in cancelled]
    beginnings = {
        each.alert_id: each for each in listed if each.state is AlertState.FIRING and _get_statement(each) in cancelled
    }
    breaches: dict[_Threshold, list[datetime]] = {}
    for each in kept:
        if each.state.is_breach:
            breaches.setdefault(_get_threshold(each), []).append(each.window_start)
    return tuple(each for each in kept if not _ends_nothing(each, beginnings, breaches))


def _ends_nothing(
    alert: Alert, beginnings: Mapping[UUID, Alert], breaches: Mapping[_Threshold, list[datetime]]
) -> bool:
    """Return True if an alert is the end of a breach whose beginning was withdrawn, with no other breach in between.

    `beginnings`: the alerts that are withdrawn, and with which a breach began, by id. `breaches`: the window starts of
    the breaches that are not withdrawn, by threshold.
    """
    beginning = None if alert.episode_id is None else beginnings.get(alert.episode_id)
    if alert.state is not AlertState.RESOLVED or beginning is None:
        return False
    starts = breaches.get(_get_threshold(alert), ())
    return not any(beginning.window_start <= start < alert.window_start for start in starts)


def _get_statement(alert: Alert) -> _Statement:
    """Return what an alert says; of a withdrawal what the withdrawn alert said."""
    is_end = AlertState.RESOLVED in (alert.state, alert.withdrawn_state)
    return _get_threshold(alert), alert.window_start, is_end, alert.revision


def _get_threshold(alert: Alert) -> _Threshold:
    """Return the threshold that an alert is about."""
    return alert.interest_id, alert.version, alert.bound
