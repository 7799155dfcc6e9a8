"""Who is next, and what goes into one mail: each rule by an example, and all of them in any order of events."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest
from hypothesis import given, strategies as st

from domain.alerts import Alert, AlertState
from notifier.delivery.batching import MOST_ALERTS, OVERDUE, REUNITED_WITHIN, Bundle, Mail, Waiting
from notifier.delivery.retries import LONGEST
from notifier.delivery.user_state import Person, name_of
from notifier.messages import RaisedAlert
from tests.notifier.alerts import ALERT, CAUSE

T0 = datetime(2026, 11, 23, tzinfo=UTC)
WAIT = timedelta(seconds=5)
ADA, BOB = UUID(int=1), UUID(int=2)


def raised(alert: Alert) -> RaisedAlert:
    return RaisedAlert(alert, CAUSE, b"")


def alert(number: int, user: UUID = ADA) -> RaisedAlert:
    window_start = ALERT.window_start + timedelta(hours=number)
    return raised(replace(ALERT, alert_id=UUID(int=number), user_id=user, window_start=window_start))


def ids(*numbers: int) -> frozenset[UUID]:
    return frozenset(UUID(int=each) for each in numbers)


def at(seconds: float) -> datetime:
    return T0 + timedelta(seconds=seconds)


def fresh(*numbers: int, user: UUID = ADA, since: float = 0) -> Bundle:
    return Bundle(tuple(alert(each, user) for each in numbers), None, at(since))


def retry(*numbers: int, until: float, since: float = 0, sealed: bool = False) -> Bundle:
    return replace(fresh(*numbers, since=since), attempt=1, not_before=at(until), sealed=sealed)


def told(mail: Mail | None) -> list[int]:
    assert mail is not None
    return [each.alert.alert_id.int for each in mail.raised]


def test_alerts_of_one_person_within_a_while_are_one_mail() -> None:
    """From the first one on; another person's are another mail."""
    waiting = Waiting(WAIT)
    waiting.add(fresh(1), at(0), Person())
    waiting.add(fresh(9, user=BOB), at(1), Person())
    waiting.add(fresh(2), at(4.9), Person())
    assert waiting.next(at(4.9)) is None
    assert waiting.next_at == at(5)
    assert told(waiting.next(at(5))) == [1, 2]
    assert waiting.next(at(5)) is None
    assert told(waiting.next(at(6))) == [9]


def test_without_a_while_each_alert_is_a_mail() -> None:
    """In their order, one after the other."""
    waiting = Waiting(timedelta(0))
    for number in (1, 2):
        waiting.add(fresh(number), at(0), Person())
    first = waiting.next(at(0))
    assert told(first) == [1]
    assert waiting.next(at(0)) is None, "one mail of a person is on its way at a time"
    assert first is not None
    waiting.done(first, first.bundles, Person())
    assert told(waiting.next(at(0))) == [2]


def test_what_comes_while_a_mail_is_on_its_way_waits_for_the_next() -> None:
    """And gathers others, from when it came."""
    waiting = Waiting(WAIT)
    waiting.add(fresh(1), at(0), Person())
    first = waiting.next(at(5))
    assert first is not None
    waiting.add(fresh(2), at(6), Person())
    waiting.done(first, first.bundles, Person())
    assert waiting.next(at(10.9)) is None
    assert told(waiting.next(at(11))) == [2]


def test_a_mail_tells_so_many_at_most() -> None:
    """The earliest; the rest comes in the next."""
    waiting = Waiting(WAIT)
    for number in range(MOST_ALERTS + 5):
        waiting.add(fresh(number, since=number), at(0), Person())
    first = waiting.next(at(5))
    assert told(first) == list(range(MOST_ALERTS))
    assert first is not None
    waiting.done(first, first.bundles, Person())
    assert len(told(waiting.next(at(5)))) == 5
    waiting.forget()
    waiting.add(fresh(*range(MOST_ALERTS + 9)), at(0), Person())
    assert len(told(waiting.next(at(5)))) == MOST_ALERTS + 9, "one event is never divided"


def test_fresh_alerts_wait_behind_what_was_put_off() -> None:
    """So that RESOLVED does not go before its FIRING; then they go together, in their order."""
    waiting = Waiting(WAIT)
    waiting.add(retry(1, until=100), at(0), Person())
    waiting.add(fresh(2, since=20), at(20), Person())
    assert waiting.next(at(99.9)) is None
    assert told(waiting.next(at(100))) == [1, 2]


def test_after_a_restart_the_people_table_says_what_is_still_to_come() -> None:
    """Fresh alerts may be read before the retry that they must wait for; but not for ever."""
    person = Person().putting_off([name_of(ids(1))], at(100), at(0))
    waiting = Waiting(WAIT)
    waiting.add(fresh(2, since=20), at(20), person)
    assert waiting.next_at == at(100) + OVERDUE
    waiting.add(retry(1, until=100), at(21), person)
    assert told(waiting.next(at(100))) == [1, 2]
    waiting.forget()
    waiting.add(fresh(2), at(20), person)
    assert waiting.next(at(100) + OVERDUE - timedelta(seconds=1)) is None
    assert told(waiting.next(at(100) + OVERDUE)) == [2]


def test_what_was_put_off_is_waited_for_also_when_its_time_passed_while_nobody_worked() -> None:
    """After a stop there are many retries to be read at once, and fresh alerts come from another topic. A retry whose
    lifetime is over would be a dead letter; nobody is kept waiting for it."""
    person = Person().putting_off([name_of(ids(1))], at(100), at(0))
    waiting = Waiting(WAIT)
    waiting.add(fresh(2, since=150), at(700), person)
    assert waiting.next(at(719)) is None
    waiting.add(retry(1, until=100), at(720), person)
    assert told(waiting.next(at(720))) == [1, 2]
    for came, next_at in ((700, at(700) + OVERDUE), (100 + 86_400, at(100 + 86_400) + WAIT)):
        waiting.forget()
        waiting.add(fresh(2), at(came), person)
        assert waiting.next_at == next_at


def test_nothing_is_waited_for_longer_than_the_longest_pause() -> None:
    """Whatever a clock that was wrong has put into a retry, or into the table."""
    waiting = Waiting(WAIT)
    waiting.add(retry(1, until=1e9), at(0), Person())
    assert waiting.next_at == at(0) + LONGEST
    waiting.forget()
    waiting.add(fresh(2), at(0), Person().putting_off([name_of(ids(1))], at(1e9), at(0)))
    assert waiting.next_at == at(0) + LONGEST + OVERDUE


def test_what_the_server_may_have_is_sent_as_it_was_and_alone() -> None:
    """At its time; what else there is of that person waits for it."""
    waiting = Waiting(WAIT)
    waiting.add(fresh(3), at(0), Person())
    waiting.add(retry(1, 2, until=60, sealed=True), at(0), Person())
    assert waiting.next(at(59)) is None
    mail = waiting.next(at(60))
    assert mail is not None
    assert (told(mail), mail.again) == ([1, 2], True)
    waiting.done(mail, mail.bundles, Person())
    assert told(waiting.next(at(60))) == [3]


def test_a_mail_that_was_on_its_way_at_a_crash_is_made_again() -> None:
    """As soon as all of its alerts are here again. Nothing joins it, not even what came in the same event."""
    person = Person(on_its_way=ids(1, 2))
    waiting = Waiting(WAIT)
    waiting.add(fresh(1), at(0), person)
    waiting.add(fresh(3), at(1), person)
    assert waiting.next(at(30)) is None
    waiting.add(retry(2, 4, until=10), at(2), person)
    mail = waiting.next(at(30))
    assert mail is not None
    assert (sorted(told(mail)), mail.again) == ([1, 2], True)
    waiting.done(mail, mail.bundles[:1], Person())
    assert sorted(told(waiting.next(at(30)))) == [2, 3, 4], "the second event is not done with"


def test_a_mail_on_its_way_goes_before_what_was_put_off_sealed() -> None:
    """Whatever is sent ends what the table knows of the mail on its way."""
    person = Person(on_its_way=ids(1))
    waiting = Waiting(WAIT)
    waiting.add(retry(7, until=1, sealed=True), at(0), person)
    waiting.add(fresh(1), at(0), person)
    mail = waiting.next(at(5))
    assert told(mail) == [1]


@pytest.mark.parametrize("wait", [WAIT, REUNITED_WITHIN, timedelta(0)])
def test_alerts_of_a_mail_on_its_way_that_never_come_back_are_not_waited_for_long(wait: timedelta) -> None:
    """The rest goes on as a new mail; also where people wait for each other for just as long."""
    waiting = Waiting(wait)
    waiting.add(fresh(1), at(0), Person(on_its_way=ids(1, 2)))
    assert waiting.next(at(59)) is None
    mail = waiting.next(at(0) + REUNITED_WITHIN)
    assert mail is not None
    assert (told(mail), mail.again) == ([1], False)


def test_what_goes_back_is_next_again() -> None:
    """It was not tried; what came meanwhile joins it."""
    waiting = Waiting(WAIT)
    waiting.add(fresh(1), at(0), Person())
    mail = waiting.next(at(5))
    assert mail is not None
    waiting.add(fresh(2), at(6), Person())
    waiting.back(mail)
    assert told(waiting.next(at(6))) == [1, 2]


def test_what_is_forgotten_is_not_done_later() -> None:
    """A mail that ends after everything was forgotten changes nothing of what came since."""
    waiting = Waiting(timedelta(0))
    waiting.add(fresh(1), at(0), Person())
    mail = waiting.next(at(0))
    assert mail is not None
    waiting.forget()
    assert (len(waiting), waiting.oldest, waiting.next_at) == (0, None, None)
    waiting.add(fresh(1), at(1), Person())
    waiting.done(mail, mail.bundles, Person())
    waiting.back(mail)
    assert waiting.rest(mail) == ()
    assert (len(waiting), waiting.oldest) == (1, at(1))
    assert told(waiting.next(at(1))) == [1]


def test_the_rest_is_what_may_be_put_off_along() -> None:
    """In their order; what is sealed alone, and without grouping each alone."""
    for wait, expected in ((WAIT, [{4}, {2, 3}]), (timedelta(0), [{2}, {3}, {4}])):
        waiting = Waiting(wait)
        waiting.add(retry(1, until=0), at(0), Person())
        mail = waiting.next(at(5))
        assert mail is not None
        waiting.add(fresh(3, since=3), at(5), Person())
        waiting.add(retry(2, until=50, since=2), at(5), Person())
        waiting.add(retry(4, until=50, since=4, sealed=True), at(5), Person())
        found = [{each.int for bundle in bundles for each in bundle.alert_ids} for bundles in waiting.rest(mail)]
        assert found == expected


def test_one_person_with_thousands_of_alerts_costs_what_they_are() -> None:
    """Not their square: nobody else would be mailed meanwhile. 40,000 looks at all of them would be 800 million."""
    looks = 0

    class Counted(list[object]):
        def __iter__(self) -> Iterator[object]:
            nonlocal looks
            for each in super().__iter__():
                looks += 1
                yield each

    waiting = Waiting(WAIT)
    for number in range(2_000):
        waiting.add(retry(number + 1, until=1), T0, Person())
        if number == 0:
            box = waiting._boxes[ADA]
            box.entries = Counted(box.entries)  # type: ignore[assignment]
    assert looks == 0
    mails = 0
    while (mail := waiting.next(at(100))) is not None:
        mails += 1
        waiting.done(mail, mail.bundles, Person())
    assert mails == 10


@dataclass
class Model:
    """What must be true of `Waiting`, kept the plain way."""

    group_wait: timedelta
    here: dict[int, tuple[datetime, Bundle]] = field(default_factory=dict)
    under_way: dict[UUID, Mail] = field(default_factory=dict)
    people: dict[UUID, Person] = field(default_factory=dict)

    def of(self, user: UUID) -> list[tuple[datetime, Bundle]]:
        return [each for each in self.here.values() if each[1].user_id == user]

    def judge(self, mail: Mail, now: datetime) -> None:
        """Of a mail that is given out."""
        assert mail.user_id not in self.under_way
        own = self.of(mail.user_id)
        bundles = [bundle for _, bundle in own]
        assert {id(each) for each in mail.bundles} <= {id(each) for each in bundles}, (
            "of what is here, and of one person"
        )
        assert len({id(each) for each in mail.bundles}) == len(mail.bundles), "none twice"
        known = self.people.get(mail.user_id, Person()).on_its_way
        have = frozenset[UUID]().union(*(each.alert_ids for each in bundles))
        if known and known <= have:
            assert {each.alert.alert_id for each in mail.raised} == known
            assert mail.again
            return
        assert not known or now >= min(at for at, _ in own) + REUNITED_WITHIN
        if any(each.sealed for each in bundles):
            assert len(mail.bundles) == 1
            assert mail.bundles[0].sealed
            assert now >= (mail.bundles[0].not_before or now), "early"
            return
        assert not mail.again
        for each in bundles:
            assert each.not_before is None or now >= each.not_before, "early, or before what was put off"
        if all(each.not_before is None for each in bundles):
            assert now >= min(at for at, _ in own) + self.group_wait
        names = {each.name for each in bundles}
        for name, until in self.people.get(mail.user_id, Person()).put_off:
            assert name in names or now >= min(until, now) + OVERDUE or now >= until + OVERDUE
        since = [each.since for each in mail.bundles]
        assert since == sorted(since)
        assert max(since) <= min((each.since for each in bundles if each not in mail.bundles), default=max(since))


moves = st.lists(
    st.tuples(
        st.sampled_from(("fresh", "retry", "sealed", "next", "done", "part", "back", "forget", "known", "put off")),
        st.integers(0, 90),
        st.integers(1, 12),
        st.sampled_from((ADA, BOB)),
    ),
    max_size=60,
)


@given(st.sampled_from((timedelta(0), WAIT, REUNITED_WITHIN)), moves)
def test_nothing_is_lost_or_told_early_or_twice(
    group_wait: timedelta, made: Sequence[tuple[str, int, int, UUID]]
) -> None:
    """Whatever comes, goes back and is done in whatever order: each mail keeps all rules; and in the end all go out."""
    waiting, model, now = Waiting(group_wait), Model(group_wait), T0
    for move, seconds, number, user in made:
        now += timedelta(seconds=seconds / 10)
        if move in ("fresh", "retry", "sealed"):
            since = now - timedelta(seconds=number)
            bundle = Bundle((alert(number, user),), None, since, 0, None, False)
            if move != "fresh":
                bundle = replace(bundle, not_before=now + timedelta(seconds=seconds), sealed=move == "sealed")
            kept = waiting.add(bundle, now, model.people.get(user, Person()))
            model.here[id(kept)] = (now, kept)
        elif move == "next":
            mail = waiting.next(now)
            if mail is not None:
                model.judge(mail, now)
                model.under_way[mail.user_id] = mail
        elif move in ("done", "part") and user in model.under_way:
            mail = model.under_way.pop(user)
            gone = mail.bundles if move == "done" else mail.bundles[1:]
            model.people[user] = Person()
            waiting.done(mail, gone, Person())
            for each in gone:
                del model.here[id(each)]
        elif move == "back" and user in model.under_way:
            waiting.back(model.under_way.pop(user))
        elif move == "forget":
            waiting.forget()
            model.here.clear()
            model.under_way.clear()
        elif not model.of(user):  # what the table says of a person is known when the first alert comes
            person = Person(on_its_way=ids(number, number + 1))
            if move == "put off":
                person = Person().putting_off([name_of(ids(number))], now + timedelta(seconds=seconds), now)
            model.people[user] = person if move in ("known", "put off") else Person()
        assert len(waiting) == len(model.here)
    for mail in model.under_way.values():
        waiting.back(mail)
    model.under_way.clear()
    out = 0
    while model.here:
        out += 1
        assert out < 200
        assert waiting.next_at is not None, "something waits, and nobody looks"
        now = max(now, waiting.next_at)
        mail = waiting.next(now)
        if mail is not None:
            model.judge(mail, now)
            waiting.done(mail, mail.bundles, Person())
            model.people[mail.user_id] = Person()
            for each in mail.bundles:
                del model.here[id(each)]
    assert waiting.next(now + timedelta(days=1)) is None


def test_resolved_never_overtakes_firing_of_the_same_instant() -> None:
    """Both came within a millisecond, and were read again in the wrong order from two topics."""
    waiting = Waiting(timedelta(0))
    resolved = replace(alert(2).alert, state=AlertState.RESOLVED)
    waiting.add(Bundle((raised(resolved),), None, at(0), 1, at(9)), at(1), Person())
    waiting.add(retry(1, until=9), at(2), Person())
    assert told(waiting.next(at(9))) == [1]


def test_what_was_put_off_together_keeps_its_order() -> None:
    """Of the same time and windows the one that may be tried first goes first, in whatever order they are read."""
    waiting = Waiting(timedelta(0))
    for number, until in ((2, 10.001), (1, 10)):
        same = replace(alert(number).alert, window_start=ALERT.window_start)
        waiting.add(Bundle((raised(same),), None, at(0), 1, at(until)), at(1), Person())
    assert told(waiting.next(at(11))) == [1]
