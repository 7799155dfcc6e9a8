"""Limits on the mails that strangers can cause, by mailbox, client and in all, also across deletions."""

import itertools
import threading
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given, strategies as st

from tests.user_manager.conftest import ON_SQLITE, Service
from user_manager.addresses import Address, normalize_mailbox
from user_manager.errors import TooManyMailsError
from user_manager.mailbox_limits import (
    DEFAULT_PAUSES,
    MAILBOX_RETENTION,
    STOP_RETENTION,
    MailRates,
    SuppressionReason,
    compute_mail_wait,
)
from user_manager.model import Mailbox, MailQuota

START = datetime(2026, 1, 1, tzinfo=UTC)


def count_requests(service: Service) -> int:
    """Return the number of mails that were requested from the notifier so far."""
    return service.load_event_kinds().count("registered")


def count_suppressed(service: Service, reason: SuppressionReason) -> float | None:
    """Return how many mails were suppressed for a reason, from the metric."""
    labels = {"reason": reason, "service": "user_manager", "node": "local"}
    return service.metrics.registry.get_sample_value("account_mails_suppressed_total", labels)


@pytest.mark.parametrize(
    ("address", "mailbox"),
    [
        ("ann@example.org", "ann@example.org"),
        ("ann+news@example.org", "ann@example.org"),
        ("ann+a+b@example.org", "ann@example.org"),
        ("+tag@example.org", "+tag@example.org"),
        ("a.n.n@example.org", "a.n.n@example.org"),
        ("a.n.n+x@gmail.com", "ann@gmail.com"),
        ("a.nn@googlemail.com", "ann@gmail.com"),
        ("a.n-n_lee+x@proton.me", "annlee@proton.me"),
        ("ann-lee@pm.me", "annlee@proton.me"),
        ("a_nn.lee@protonmail.com", "annlee@proton.me"),
        ("_-_@protonmail.ch", "_-_@proton.me"),
    ],
)
def test_addresses_of_one_mailbox_are_one(address: str, mailbox: str) -> None:
    """Tags do not count, nor do dots at Gmail, whose help says that they do not matter."""
    assert normalize_mailbox(address) == mailbox


@given(
    gaps=st.lists(st.integers(0, 200_000), max_size=60),
    pauses=st.lists(st.integers(1, 86_400), min_size=1, max_size=5).map(sorted),
)
def test_any_window_holds_a_bounded_number_of_mails(gaps: list[int], pauses: list[int]) -> None:
    """Whenever mails are asked for, a pause lies between two that go out.

    So a window as long as the longest pause holds no more mails than there are pauses.
    """
    lengths = [timedelta(seconds=pause) for pause in pauses]
    now, sent = START, list[datetime]()
    for gap in gaps:
        now += timedelta(seconds=gap)
        if not compute_mail_wait(len(sent), sent[-1] if sent else None, now, lengths):
            sent.append(now)
    for number, (earlier, later) in enumerate(itertools.pairwise(sent)):
        assert later - earlier >= lengths[min(number, len(lengths) - 1)]
    for first in sent:
        assert sum(first <= each < first + lengths[-1] for each in sent) <= len(lengths)


@given(mails=st.integers(0, 1000), ahead=st.integers(0, 10**9))
def test_a_clock_that_was_ahead_makes_no_pause_longer(mails: int, ahead: int) -> None:
    """A time in the future, written by a wrong clock, counts as now at most."""
    wait = compute_mail_wait(mails, START + timedelta(seconds=ahead), START, DEFAULT_PAUSES)
    assert timedelta(0) <= wait <= DEFAULT_PAUSES[-1]


@pytest.mark.parametrize(
    ("emails", "each"),
    [
        (["Ann@example.org"], 1),
        (["Ann+1@example.org", "ann+2@EXAMPLE.org", "ann+3@example.org"], 1),
        (["ann@example.org", "Ann+1@example.org", "ann+2@EXAMPLE.org"], 2),
    ],
)
def test_registering_and_deleting_again_and_again_sends_few_mails(
    service: Service, emails: list[str], each: int
) -> None:
    """Six times within 11 seconds is one mail; the pauses go on growing across deletions, and across all tags, which
    share them. The address without a tag has its own."""
    sent = []
    for round_number in range(20):
        before = count_requests(service)
        for email in emails:
            registration = service.register(email)
            service.deletions.delete(registration.token, email)
            service.clock.advance(timedelta(seconds=2))
        if count_requests(service) > before:
            sent.append(round_number)
        service.clock.advance(timedelta(seconds=300 - 2 * len(emails)))
    # At 0 s, after a minute, after ten more, after an hour more; then after a day.
    assert sent == [0, 1, 3, 15]
    assert count_requests(service) == 4 * each
    assert count_suppressed(service, SuppressionReason.PAUSE) == 20 * len(emails) - 4 * each
    service.clock.advance(timedelta(days=1))
    service.register(emails[0])
    assert count_requests(service) == 4 * each + 1


def test_a_client_causes_few_mails_in_an_hour(service: Service) -> None:
    """The limit counts all wishes of a client, to whatever address; others are not concerned, and replicas share it."""
    service = Service(service.database, rates=MailRates(per_client=3))
    replica = Service(service.database, service.interests, service.clock, MailRates(per_client=3))
    register = service.registrations.register
    register(Address("a@example.org"), "A", "UTC", None, "192.0.2.1")
    replica.registrations.register(Address("b@example.org"), "B", "UTC", None, "192.0.2.1")
    service.account_mails.request_token_mail(Address("unknown@example.org"), "192.0.2.1")
    for _ in range(2):
        with pytest.raises(TooManyMailsError) as caught:
            register(Address("c@example.org"), "C", "UTC", None, "192.0.2.1")
        assert 0 < caught.value.retry_after_s <= 3600
    assert not service.accounts.is_registered("c@example.org")
    register(Address("c@example.org"), "C", "UTC", None, "192.0.2.2")
    service.clock.advance(timedelta(seconds=caught.value.retry_after_s))
    register(Address("d@example.org"), "D", "UTC", None, "192.0.2.1")


def test_all_clients_together_cause_a_limited_number_of_mails(service: Service) -> None:
    """At the limit of all, concurrent registrations of several replicas included, others are refused until the next
    hour."""
    rates = MailRates(in_all=5)
    replicas = [Service(service.database, service.interests, service.clock, rates) for _ in range(2)]
    refused, start = [], threading.Barrier(10)

    def register(number: int) -> None:
        start.wait()
        try:
            replicas[number % 2].register(f"user{number}@example.org")
        except TooManyMailsError as error:
            refused.append(error.retry_after_s)

    threads = [threading.Thread(target=register, args=(number,)) for number in range(10)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(refused) == count_requests(service) == 5
    assert sum(count_suppressed(each, SuppressionReason.TOTAL_LIMIT) or 0 for each in replicas) == 5
    service.clock.advance(timedelta(seconds=max(refused)))
    replicas[0].register("late@example.org")
    assert count_requests(service) == 6


@ON_SQLITE
def test_the_memory_holds_no_address_and_ends(service: Service) -> None:
    """Neither address nor client is stored in clear; a mailbox is forgotten 30 days after the last request, a stopped
    one after 400."""
    service.registrations.register(Address("ann@example.org"), "Ann", "UTC", None, "192.0.2.1")
    service.registrations.register(Address("bob@example.org"), "Bob", "UTC", None, "192.0.2.1")
    stop_url = service.load_contact("bob@example.org").stop_url
    service.account_mails.stop_mails(stop_url.rpartition("/")[2])
    with service.database.transaction() as session:
        stored = repr([*session.query(Mailbox.mailbox_hash).all(), *session.query(MailQuota.scope).all()])
        assert not any(word in stored for word in ("ann", "example", "192.0.2.1"))
    for memory, remaining in ((MAILBOX_RETENTION, 1), (STOP_RETENTION, 0)):
        service.clock.advance(memory)
        with service.database.transaction() as session:
            service.limits.delete_expired(session, service.clock.now())
            assert session.query(Mailbox).count() == remaining
            assert session.query(MailQuota).count() == 0
