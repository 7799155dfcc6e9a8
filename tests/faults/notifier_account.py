"""What became of every alert, compared with what was to become of it."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from email.message import EmailMessage
from functools import cached_property
from uuid import UUID

from domain.alerts import Alert, AlertState
from notifier.mail.alert_header import ALERT_HEADER, ToldAlert, parse_alert_header, told
from notifier.mail.headers import id_of_alerts
from notifier.messages import decode_raised, decode_retry
from tests.faults.notifier_people import CHANGING, NEVER_MAILED, Cast, Life, Person, alerts_of
from tests.streams.process import read_records as records
from towerwatch.topics import ALERTS_DEAD_LETTER, ALERTS_RETRY


@dataclass(frozen=True, slots=True)
class Accepted:
    """A mail that the server took."""

    to: str
    message_id: str
    alert_ids: frozenset[UUID]
    place: int
    """Among all that it took."""


@dataclass
class Account:
    """What the mail server accepted, in that order, and what was put aside."""

    cast: Cast
    mails: list[Accepted] = field(default_factory=list)
    others: list[tuple[str, str]] = field(default_factory=list)
    """Address and Message-ID of mails that tell no alert."""
    dead: defaultdict[UUID, set[str]] = field(default_factory=lambda: defaultdict(set))
    """The reasons, by alert."""

    @property
    def repeats(self) -> Counter[str]:
        """How many mails were sent that had been taken before, by address."""
        told = [(mail.to, mail.message_id) for mail in self.mails] + self.others
        return Counter(to for to, _ in told) - Counter(to for to, _ in set(told))

    @property
    def mailed(self) -> Mapping[UUID, Counter[str]]:
        """The Message-IDs of the mails that told an alert, by alert."""
        found: defaultdict[UUID, Counter[str]] = defaultdict(Counter)
        for mail in self.mails:
            for alert_id in mail.alert_ids:
                found[alert_id][mail.message_id] += 1
        return found

    @property
    def told_twice(self) -> frozenset[UUID]:
        """Those who were told an alert by two mails that are not the same."""
        known = alerts_of(self.cast.people)
        return frozenset(known[alert_id].user_id for alert_id, ids in self.mailed.items() if len(ids) > 1)

    def assert_exact(self, too_late: Iterable[UUID]) -> None:
        """Each alert was mailed, put aside or dropped as it was to be, and none for two of these.

        `too_late`: the alerts that were published after their people had paused or left.
        """
        mailed, late = self.mailed, frozenset(too_late)
        by_fate: dict[str, list[Alert]] = defaultdict(list)
        for person in self.cast.people:
            for alert in person.alerts:
                fault = self._fault(person, alert.alert_id, alert.alert_id in late)
                if fault:
                    by_fate[f"{person.life}: {fault}"].append(alert)
        assert not by_fate, {fate: (len(alerts), alerts[:3]) for fate, alerts in by_fate.items()}
        unknown = (mailed.keys() | self.dead.keys()) - alerts_of(self.cast.people).keys()
        assert not unknown
        assert not self.told_twice, "told by two mails"
        self._assert_in_order()

    def _fault(self, person: Person, alert_id: UUID, too_late: bool) -> str:
        """What is wrong with the fate of an alert; empty: nothing."""
        mailed, reasons = alert_id in self._mailed_ids, self.dead.get(alert_id, set())
        if person.life in NEVER_MAILED or too_late:
            return "mailed" if mailed else f"put aside: {reasons}" if reasons else ""
        if person.life in CHANGING:
            return f"put aside: {reasons}" if reasons else ""
        if person.refusal is None:
            return f"put aside: {reasons}" if reasons else "" if mailed else "lost"
        if mailed:
            return "mailed"
        if not reasons and person.life is Life.BOUNCES and any(each.alert_id in self.dead for each in person.alerts):
            return ""  # dropped, for mail to the address had come back before
        return "" if reasons == {person.refusal.reason} else f"put aside for {reasons}, not {person.refusal.reason}"

    @cached_property
    def _mailed_ids(self) -> frozenset[UUID]:
        return frozenset(alert_id for mail in self.mails for alert_id in mail.alert_ids)

    def _assert_in_order(self) -> None:
        """No later alert of an episode was taken in an earlier mail than its first one, unless that was put aside."""
        first: dict[UUID, int] = {}
        for place, mail in enumerate(self.mails):
            for alert_id in mail.alert_ids:
                first.setdefault(alert_id, place)
        wrong = []
        for alert in alerts_of(self.cast.people).values():
            assert alert.episode_id is not None
            if alert.state is AlertState.FIRING or alert.alert_id not in first or alert.episode_id in self.dead:
                continue
            if alert.episode_id not in first or first[alert.episode_id] > first[alert.alert_id]:
                wrong.append(alert)
        assert not wrong, f"{len(wrong)} before the beginning of their episodes: {wrong[:3]}"


def account_of(cast: Cast, delivered: Sequence[tuple[str, EmailMessage]], bootstrap_servers: str) -> Account:
    """Read the mails, each with the address that it went to, and the dead letters."""
    account = Account(cast)
    for place, (to, mail) in enumerate(delivered):
        assert not mail.defects, mail.defects
        assert str(mail["To"].addresses[0].addr_spec) == to
        message_id = str(mail["Message-ID"]).strip()
        headers = mail.get_all(ALERT_HEADER, [])
        if not headers:
            account.others.append((to, message_id))
            continue
        alerts = list(_told(cast.by_address[to], headers))
        assert message_id == f"<{id_of_alerts(alerts)}@example.org>", "a mail is named by what it tells"
        _assert_refers(mail, alerts)
        account.mails.append(Accepted(to, message_id, frozenset(each.alert_id for each in alerts), place))
    keys = {str(person.user_id).encode() for person in cast.people}
    for record in records(bootstrap_servers, ALERTS_DEAD_LETTER):
        if record.key not in keys:
            continue
        letter = {name: value.decode() for name, value in record.headers}
        is_retry = letter["source-topic"] == ALERTS_RETRY.name
        raised = decode_retry(record.value).raised if is_retry else (decode_raised(record.value),)
        for each in raised:
            account.dead[each.alert.alert_id].add(letter["reason"])
    return account


def _told(person: Person, headers: Iterable[str]) -> Iterator[Alert]:
    known: Mapping[ToldAlert, Alert] = {told(alert): alert for alert in person.alerts}
    assert len(known) == len(person.alerts)
    for header in headers:
        yield known[parse_alert_header(str(header))]


def _assert_refers(mail: EmailMessage, alerts: Sequence[Alert]) -> None:
    """To the beginnings of the episodes that it tells, itself excepted."""
    roots = {str(alert.episode_id) for alert in alerts}
    if len(alerts) == 1:
        roots -= {str(alerts[0].alert_id)}
    found = str(mail.get("References", "")).split()
    assert len(found) == min(len(roots), 20)
    assert {each.strip("<>").partition("@")[0] for each in found} <= roots
