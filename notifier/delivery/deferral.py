"""The retry records of a deferred mail: which alerts of its user each contains, and when they are tried. Pure."""

from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime, timedelta
from typing import Final
from uuid import UUID

from notifier.delivery.alert_batch import AlertBatch, PlannedMail
from notifier.delivery.batching import MAX_ALERTS_PER_MAIL
from notifier.delivery.planned_mail import get_alert_ids
from notifier.delivery.policy import MailPolicy
from notifier.delivery.retries import compute_lifetime_start, compute_next_attempt_time
from notifier.messages import Retry

_MAX_LIFETIME_SPREAD: Final = timedelta(minutes=10)
"""The maximal difference between the starts of lifetime of alerts in one retry record, which stores the earliest."""

_RETRY_SPACING: Final = timedelta(milliseconds=1)
"""The time between retry records that are published together, so that they keep their order."""


def build_retries(
    mail: PlannedMail,
    mail_ids: Iterable[UUID],
    other_batches: Sequence[tuple[AlertBatch, ...]],
    other_ids: Iterable[UUID],
    until: datetime,
    *,
    tried: bool,
    sealed: bool,
) -> Iterator[Retry]:
    """Yield the retry records of a mail, to be tried at `until`, and then those of the user's other alerts, as untried.

    Each alert is in one record. A sealed mail is one record, as is each sealed batch; others may become several. The
    records are _RETRY_SPACING apart.

    `mail_ids`: the ids of the mail's alerts. `other_batches`: the user's other batches, in groups that may be combined.
    `other_ids`: the ids of the other alerts, in these batches or in those of the mail. `tried`: the mail counts as
    attempted. `sealed`: the mail server may have the mail.
    """
    wanted, others = set(mail_ids), set(other_ids)
    parts = [(mail.batches, wanted, tried, sealed)]
    parts += [(batches, others, False, batches[0].sealed) for batches in (mail.batches, *other_batches)]
    for part, wanted_ids, was_tried, is_sealed in parts:
        for batches in (part,) if is_sealed else _group_for_retries(part):
            by_id = {each.alert.alert_id: each for batch in batches for each in batch.alerts}
            selected = tuple(each for alert_id, each in by_id.items() if alert_id in wanted_ids)
            if selected:
                wanted_ids -= get_alert_ids(selected)
                attempt = max(batch.attempt for batch in batches) + was_tried
                first_attempt_at = min(batch.lifetime_start for batch in batches)
                is_late = any(batch.catch_up for batch in batches)
                gather_until = max((at for batch in batches if (at := batch.gather_until) is not None), default=None)
                yield Retry(selected, attempt, until, first_attempt_at, is_sealed, is_late, gather_until)
                until += _RETRY_SPACING


def compute_retry_time(
    mail: PlannedMail,
    attempt: int,
    policy: MailPolicy,
    now: datetime,
    wall_now: datetime,
    chance: float,
    retry_at: datetime | None,
) -> datetime:
    """Return when a mail that failed for now is tried again, by a backoff; `now` at the end of its lifetime.

    Then its alerts become those of a catch-up mail once they are read again; a catch-up mail is given up by its
    attempts alone. `attempt`: how often it was tried. `chance`: random, below 1. `retry_at`: not before that, if given.
    """
    start = now
    if not mail.is_catch_up:
        start = max(compute_lifetime_start(each.lifetime_start, now, wall_now) for each in mail.batches)
    until = compute_next_attempt_time(now, attempt, start, policy.retry_base, chance, retry_at, policy.lifetime)
    return now if until is None else until


def _group_for_retries(batches: Iterable[AlertBatch]) -> Iterator[tuple[AlertBatch, ...]]:
    """Yield the batches in groups for one retry record each, ordered by `AlertBatch.sort_key`.

    The starts of lifetime of a group span _MAX_LIFETIME_SPREAD at most, and all or none of it became too old; it has no
    more than MAX_ALERTS_PER_MAIL alerts, unless it is one batch.
    """
    group: list[AlertBatch] = []
    for batch in sorted(batches, key=lambda each: each.sort_key):
        is_full = sum(len(each.alerts) for each in (*group, batch)) > MAX_ALERTS_PER_MAIL
        starts = [each.lifetime_start for each in (*group, batch)]
        is_other = bool(group) and group[0].catch_up is not batch.catch_up
        if group and (is_full or is_other or max(starts) - min(starts) > _MAX_LIFETIME_SPREAD):
            yield tuple(group)
            group = []
        group.append(batch)
    if group:
        yield tuple(group)
