"""What must come out of a storm, from the timetable and the brute-force model of the rule alone."""

from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from uuid import UUID

from domain.alerts import AlertState, Bound, compute_alert_id
from domain.interests import Direction
from domain.windows import Window
from local.mailbox.reading import ReceivedMail
from local.opensky.flights import Timetable
from notifier.mail.alert_header import ALERT_HEADER, AlertHeaderFields, parse_alert_header
from tests.domain.brute_force import Log, ModelInterest, compute_model_alerts
from tests.faults.storm.people import Person, StoredInterest, list_times

MailedAlert = tuple[str, Direction, Window, Bound, AlertState, datetime, int]
"""Airport, direction, window length, bound, state, window start and threshold, as a mail's header has them."""


@dataclass(frozen=True, slots=True)
class ExpectedAlert:
    """An alert that must be raised, and be mailed once."""

    alert_id: UUID
    mailed: MailedAlert


def compute_expected(
    timetable: Timetable, interest: StoredInterest, begin: datetime, end: datetime
) -> set[ExpectedAlert]:
    """Compute the alerts of one version of an interest, whose flights were covered from `begin` to `end`."""
    wish = interest.wish
    end = min(end, interest.judged_until or end)
    if end <= begin:
        return set()
    logs = [
        Log([datetime.fromtimestamp(at, UTC) for at in list_times(timetable, wish.airport, part, begin, end)],
            (begin, end), [])
        for part in wish.direction.parts
    ]  # fmt: skip
    model = ModelInterest(wish.window.value, wish.high, wish.low, wish.for_windows, wish.repeat, wish.effective_from)
    found = set()
    for bound_name, state_name, window_start in compute_model_alerts(logs, model):
        bound, state = Bound(bound_name), AlertState(state_name)
        threshold = wish.high if bound is Bound.HIGH else wish.low
        assert threshold is not None
        found.add(
            ExpectedAlert(
                compute_alert_id(interest.interest_id, interest.version, bound, window_start, state),
                (wish.airport, wish.direction, wish.window, bound, state, window_start, threshold),
            )
        )
    return found


def compute_expected_of_person(
    timetable: Timetable, person: Person, begin: datetime, end: datetime
) -> set[ExpectedAlert]:
    """Compute the alerts of all versions of all interests that a person ever had."""
    return {each for interest in person.interests for each in compute_expected(timetable, interest, begin, end)}


def select_mailed(header: AlertHeaderFields) -> MailedAlert:
    """Return the fields of a mailed alert that are compared; its count is compared by `find_wrong_count`."""
    return (header.airport, header.direction, header.window, header.bound, header.state, header.window_start,
            header.threshold)  # fmt: skip


def find_wrong_count(timetable: Timetable, header: AlertHeaderFields) -> str | None:
    """Return what is wrong with the count of a mailed alert; None if it is that of the timetable.

    An early high may be told with a smaller count, which is above the threshold.
    """
    true = len(
        list_times(timetable, header.airport, header.direction, header.window_start,
                   header.window_start + header.window.length)
    )  # fmt: skip
    is_early = header.bound is Bound.HIGH and header.state in (AlertState.FIRING, AlertState.STILL)
    if header.count == true or (is_early and header.threshold < header.count < true):
        return None
    return f"{true} flights in truth: {header}"


@dataclass(frozen=True, slots=True)
class Mailbox:
    """The mails to one address, in the order of their delivery."""

    mails: tuple[ReceivedMail, ...]

    @classmethod
    def by_address(cls, mails: Iterable[ReceivedMail]) -> dict[str, "Mailbox"]:
        """Sort mails into the mailboxes of their recipients."""
        found: defaultdict[str, list[ReceivedMail]] = defaultdict(list)
        for mail in mails:
            found[str(mail.message["Delivered-To"])].append(mail)
        return {address: cls(tuple(each)) for address, each in found.items()}

    def list_headers(self) -> list[AlertHeaderFields]:
        """Return the alerts of all mails."""
        return [
            parse_alert_header(str(value)) for mail in self.mails for value in mail.message.get_all(ALERT_HEADER, [])
        ]

    def count_repeated_mails(self) -> int:
        """Return how many mails have the Message-ID of an earlier one."""
        ids = Counter(_read_id(mail) for mail in self.mails)
        return ids.total() - len(ids)

    def find_alerts_in_two_mails(self) -> dict[MailedAlert, set[str]]:
        """Return the alerts that are in mails with different Message-IDs, with these."""
        found: defaultdict[MailedAlert, set[str]] = defaultdict(set)
        for mail in self.mails:
            for value in mail.message.get_all(ALERT_HEADER, []):
                found[select_mailed(parse_alert_header(str(value)))].add(_read_id(mail))
        return {alert: ids for alert, ids in found.items() if len(ids) > 1}

    def find_wrong_order(self) -> list[MailedAlert]:
        """Return the ends and continuations of breaches that came before every mail with a begin of that breach."""
        begun: set[tuple[object, ...]] = set()
        wrong = []
        for mail in self.mails:
            alerts = [select_mailed(parse_alert_header(str(v))) for v in mail.message.get_all(ALERT_HEADER, [])]
            begun |= {(*each[:4], each[6]) for each in alerts if each[4] is AlertState.FIRING}
            wrong += [each for each in alerts if (*each[:4], each[6]) not in begun]
        return wrong

    def count_other_mails(self) -> int:
        """Return the number of different mails without an alert."""
        return len({_read_id(mail) for mail in self.mails if ALERT_HEADER not in mail.message})


def _read_id(mail: ReceivedMail) -> str:
    return str(mail.message["Message-ID"]).strip()
