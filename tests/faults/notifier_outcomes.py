"""The outcome of a fault test: what became of each alert, compared with what should become of it."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from email.message import EmailMessage
from functools import cached_property
from uuid import UUID

from domain.alerts import Alert, AlertState
from notifier.mail.alert_header import ALERT_HEADER, AlertHeaderFields, parse_alert_header, select_header_fields
from notifier.mail.headers import compute_mail_id
from notifier.messages import decode_raised_alert, decode_retry
from tests.faults.notifier_users import CHANGING, NEVER_MAILED, SimulatedUser, UserGroup, UserKind, alerts_by_id
from tests.streams.process import read_records
from towerwatch.topics import ALERTS_DEAD_LETTER, ALERTS_RETRY


@dataclass(frozen=True, slots=True)
class AcceptedMail:
    """A mail that the server accepted."""

    to: str
    message_id: str
    alert_ids: frozenset[UUID]
    position: int
    """The position among all accepted mails."""


@dataclass
class DeliveryOutcome:
    """The mails that the mail server accepted, in that order, and the dead letters."""

    users: UserGroup
    mails: list[AcceptedMail] = field(default_factory=list)
    confirmation_mails: list[tuple[str, str]] = field(default_factory=list)
    """The address and Message-ID of each mail without alerts."""
    dead_letter_reasons: defaultdict[UUID, set[str]] = field(default_factory=lambda: defaultdict(set))
    """The reasons of the dead letters, by alert."""

    @property
    def duplicates(self) -> Counter[str]:
        """Return the number of mails that had been accepted before, by address."""
        sent = [(mail.to, mail.message_id) for mail in self.mails] + self.confirmation_mails
        return Counter(to for to, _ in sent) - Counter(to for to, _ in set(sent))

    @property
    def message_ids_by_alert(self) -> Mapping[UUID, Counter[str]]:
        """Return the Message-IDs of the mails that contain an alert, by alert."""
        found: defaultdict[UUID, Counter[str]] = defaultdict(Counter)
        for mail in self.mails:
            for alert_id in mail.alert_ids:
                found[alert_id][mail.message_id] += 1
        return found

    @property
    def users_mailed_twice(self) -> frozenset[UUID]:
        """Return the users who received an alert in two different mails."""
        known = alerts_by_id(self.users.members)
        return frozenset(known[alert_id].user_id for alert_id, ids in self.message_ids_by_alert.items() if len(ids) > 1)

    def assert_exact(self, too_late_ids: Iterable[UUID]) -> None:
        """Assert that each alert was mailed, dead-lettered or dropped as it should be, and in the right order.

        `too_late_ids`: the alerts that were published after their users had paused or deleted their accounts.
        """
        mailed, late = self.message_ids_by_alert, frozenset(too_late_ids)
        alerts_by_fault: dict[str, list[Alert]] = defaultdict(list)
        for user in self.users.members:
            for alert in user.alerts:
                fault = self._describe_fault(user, alert.alert_id, alert.alert_id in late)
                if fault:
                    alerts_by_fault[f"{user.kind}: {fault}"].append(alert)
        assert not alerts_by_fault, {fault: (len(alerts), alerts[:3]) for fault, alerts in alerts_by_fault.items()}
        unknown = (mailed.keys() | self.dead_letter_reasons.keys()) - alerts_by_id(self.users.members).keys()
        assert not unknown
        assert not self.users_mailed_twice, "an alert in two different mails"
        self._assert_in_order()

    def _describe_fault(self, user: SimulatedUser, alert_id: UUID, is_too_late: bool) -> str:
        """Return what is wrong with an alert's outcome; empty if it is right."""
        mailed, reasons = alert_id in self._mailed_ids, self.dead_letter_reasons.get(alert_id, set())
        if user.kind in NEVER_MAILED or is_too_late:
            return "mailed" if mailed else f"dead-lettered: {reasons}" if reasons else ""
        if user.kind in CHANGING:
            return f"dead-lettered: {reasons}" if reasons else ""
        if user.refusal is None:
            return f"dead-lettered: {reasons}" if reasons else "" if mailed else "lost"
        if mailed:
            return "mailed"
        if (
            not reasons
            and user.kind is UserKind.BOUNCES
            and any(each.alert_id in self.dead_letter_reasons for each in user.alerts)
        ):
            return ""  # dropped: mail to the address bounced before
        return "" if reasons == {user.refusal.reason} else f"dead-lettered for {reasons}, not {user.refusal.reason}"

    @cached_property
    def _mailed_ids(self) -> frozenset[UUID]:
        return frozenset(alert_id for mail in self.mails for alert_id in mail.alert_ids)

    def _assert_in_order(self) -> None:
        """Assert that no later alert of an episode was accepted before the first one, unless the first was
        dead-lettered."""
        first: dict[UUID, int] = {}
        for position, mail in enumerate(self.mails):
            for alert_id in mail.alert_ids:
                first.setdefault(alert_id, position)
        wrong = []
        for alert in alerts_by_id(self.users.members).values():
            assert alert.episode_id is not None
            if (
                alert.state is AlertState.FIRING
                or alert.alert_id not in first
                or alert.episode_id in self.dead_letter_reasons
            ):
                continue
            if alert.episode_id not in first or first[alert.episode_id] > first[alert.alert_id]:
                wrong.append(alert)
        assert not wrong, f"{len(wrong)} before the first alert of their episodes: {wrong[:3]}"


def read_outcome(
    users: UserGroup, delivered: Sequence[tuple[str, EmailMessage]], bootstrap_servers: str
) -> DeliveryOutcome:
    """Read the accepted mails, each with its recipient's address, and the dead letters."""
    outcome = DeliveryOutcome(users)
    for position, (to, mail) in enumerate(delivered):
        assert not mail.defects, mail.defects
        assert str(mail["To"].addresses[0].addr_spec) == to
        message_id = str(mail["Message-ID"]).strip()
        headers = mail.get_all(ALERT_HEADER, [])
        if not headers:
            outcome.confirmation_mails.append((to, message_id))
            continue
        alerts = list(_find_alerts(users.by_address[to], headers))
        assert message_id == f"<{compute_mail_id(alerts)}@example.org>", "a mail is named by its alerts"
        _assert_references(mail, alerts)
        outcome.mails.append(AcceptedMail(to, message_id, frozenset(each.alert_id for each in alerts), position))
    keys = {str(user.user_id).encode() for user in users.members}
    for record in read_records(bootstrap_servers, ALERTS_DEAD_LETTER):
        if record.key not in keys:
            continue
        record_headers = {name: value.decode() for name, value in record.headers}
        is_retry = record_headers["source-topic"] == ALERTS_RETRY.name
        raised = decode_retry(record.value).alerts if is_retry else (decode_raised_alert(record.value),)
        for each in raised:
            outcome.dead_letter_reasons[each.alert.alert_id].add(record_headers["reason"])
    return outcome


def _find_alerts(user: SimulatedUser, headers: Iterable[str]) -> Iterator[Alert]:
    """Yield the user's alerts that these headers describe."""
    known: Mapping[AlertHeaderFields, Alert] = {select_header_fields(alert): alert for alert in user.alerts}
    assert len(known) == len(user.alerts)
    for header in headers:
        yield known[parse_alert_header(str(header))]


def _assert_references(mail: EmailMessage, alerts: Sequence[Alert]) -> None:
    """Assert that the mail refers to the first alerts of the episodes in it, except itself."""
    roots = {str(alert.episode_id) for alert in alerts}
    if len(alerts) == 1:
        roots -= {str(alerts[0].alert_id)}
    found = str(mail.get("References", "")).split()
    assert len(found) == min(len(roots), 20)
    assert {each.strip("<>").partition("@")[0] for each in found} <= roots
