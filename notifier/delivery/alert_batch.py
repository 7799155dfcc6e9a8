"""Batches of alerts of one user, and the mails that are made of them."""

from dataclasses import dataclass, field
from datetime import datetime
from uuid import UUID

from domain.alerts import AlertState
from notifier.delivery.user_state import compute_batch_id
from notifier.messages import RaisedAlert


@dataclass(frozen=True, slots=True, eq=False)
class AlertBatch:
    """The alerts of one user that arrived in one event: one new alert, or the alerts of a retry record.

    Batches stay whole in the queue; a mail contains one or several of them.
    """

    alerts: tuple[RaisedAlert, ...]
    pending_event: object
    """The event that contained the alerts. The queue does not use it."""
    lifetime_start: datetime
    """The time from which the age of the alerts is counted."""
    attempt: int = 0
    """The number of attempts to mail the alerts so far."""
    not_before: datetime | None = None
    """The time before which a deferred batch must not be tried. None: the batch is new, not deferred."""
    sealed: bool = False
    """True if the mail server may already have these alerts: they are sent again unchanged, without other alerts."""
    catch_up: bool = False
    """True if the alerts became too old to be mailed singly (`notifier.delivery.catch_up`), or are corrections."""
    gather_until: datetime | None = None
    """Of corrections: the time until which they wait for others, unless others join them. None: other alerts, or not
    queued yet."""

    alert_ids: frozenset[UUID] = field(init=False)
    batch_id: UUID | None = field(init=False)
    """The id of a deferred batch in `UserState.deferred_batches`. None: the batch is new."""
    sort_key: tuple[datetime, int, bool, UUID, datetime] = field(init=False)
    """The position among a user's batches: by the window of the first alert, a withdrawal after what it withdraws, then
    by the id, then by the time of the next attempt.

    A later state of an interest is of a later window, so this order needs no clock. Batches that are deferred together
    are consecutive parts of it, so their first alerts keep them in it, also when a crash has left records of several
    attempts, whose times are mixed."""

    def __post_init__(self) -> None:
        """Compute the fields that follow from the alerts and the retry time."""
        ids = frozenset(each.alert.alert_id for each in self.alerts)
        first = self.alerts[0].alert
        object.__setattr__(self, "alert_ids", ids)
        object.__setattr__(self, "batch_id", compute_batch_id(ids) if self.not_before is not None else None)
        is_withdrawal = first.state is AlertState.WITHDRAWN
        key = (first.window_start, first.revision, is_withdrawal, first.alert_id, self.earliest_attempt_time)
        object.__setattr__(self, "sort_key", key)

    @property
    def user_id(self) -> UUID:
        """The user who receives the alerts."""
        return self.alerts[0].alert.user_id

    @property
    def earliest_attempt_time(self) -> datetime:
        """The earliest time of the next attempt: of a new batch the start of its lifetime."""
        return self.not_before or self.lifetime_start


@dataclass(frozen=True, slots=True, eq=False)
class PlannedMail:
    """A mail to one user that is due: the batches that it contains. `MailQueue.pop_due_mail` creates it."""

    user_id: UUID
    batches: tuple[AlertBatch, ...]
    may_be_duplicate: bool
    """True if the mail server may already have this very mail."""
    in_flight_ids: frozenset[UUID] = frozenset()
    """The alert ids of the mail that was in flight before a crash: this mail contains only these alerts, not the others
    of its batches. Empty: the mail contains all alerts of its batches."""

    @property
    def alerts(self) -> tuple[RaisedAlert, ...]:
        """The alerts of the mail in the order of its batches, each id once; only those of `in_flight_ids`, if any."""
        by_id = {each.alert.alert_id: each for batch in self.batches for each in batch.alerts}
        return tuple(
            each for alert_id, each in by_id.items() if not self.in_flight_ids or alert_id in self.in_flight_ids
        )

    @property
    def is_catch_up(self) -> bool:
        """True if a batch of the mail became too old: the mail lists its alerts as late; False: an ordinary mail."""
        return any(batch.catch_up for batch in self.batches)
