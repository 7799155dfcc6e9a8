"""Bounces and confirmations by several clocks, concurrently, and in any order: the latest event decides."""

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta
from itertools import count

import pytest
from hypothesis import HealthCheck, given, settings, strategies as st

from tests.user_manager.bounces import (
    ANN,
    DAY,
    SECOND,
    get_report_count,
    load_account,
    load_confirmation_token,
    register_confirmed_ann,
    report_bounce,
)
from tests.user_manager.conftest import ON_SQLITE, Service
from user_manager.errors import AlreadyConfirmedError, LinkExpiredError, TooSoonError
from user_manager.model import User

NUMBERS = count()


@pytest.mark.parametrize("ahead", [timedelta(hours=1), timedelta(days=3650)])
def test_a_bounce_from_the_future_lasts_until_the_next_confirmation(service: Service, ahead: timedelta) -> None:
    """A bounce in the future, by a notifier's clock that is ahead, ends with the next confirmation."""
    ann = register_confirmed_ann(service)
    report_bounce(service, ann, service.clock.now() + ahead)
    service.clock.advance(SECOND)
    service.registrations.request_confirmation_mail(ann.token, ANN)
    service.registrations.confirm(load_confirmation_token(service, ann), ann.token)
    assert not load_account(service, ann).suppressed


def test_a_bounce_from_before_the_account_is_one_of_its_first_mail(service: Service) -> None:
    """A bounce older than the account, by a clock that is behind, counts as one of the account's first mail."""
    ann = service.register(ANN)
    service.clock.advance(SECOND)
    report_bounce(service, ann, service.clock.now() - DAY)
    assert load_account(service, ann).suppressed
    assert load_confirmation_token(service, ann) == ""


def test_a_replica_whose_clock_is_behind_accepts_the_confirmation(service: Service) -> None:
    """A request and a confirmation after a bounce in the replica's future count as later than the bounce."""
    ann = register_confirmed_ann(service)
    behind = Service(service.database)
    behind.clock.advance(service.clock.now() - behind.clock.now() - timedelta(hours=1))
    report_bounce(service, ann)
    behind.registrations.request_confirmation_mail(ann.token, ANN)
    behind.registrations.confirm(load_confirmation_token(behind, ann), ann.token)
    assert not load_account(service, ann).suppressed
    assert not load_account(behind, ann).suppressed


def test_reports_at_the_same_instant_suppress_once(service: Service) -> None:
    """Concurrent reports suppress once and increase the version once, and the latest bounce counts."""
    ann = register_confirmed_ann(service)
    version = load_account(service, ann).version
    start = service.clock.now()
    service.clock.advance(timedelta(minutes=1))
    together = threading.Barrier(12)

    def report(number: int) -> None:
        together.wait()
        report_bounce(service, ann, start + number * SECOND)

    with ThreadPoolExecutor(12) as threads:
        list(threads.map(report, range(12)))
    assert (get_report_count(service, "suppressed"), get_report_count(service, "repeated")) == (1, 11)
    assert load_account(service, ann).version == version + 1
    with service.database.reading() as session:
        user = session.get(User, ann.account.user_id)
        assert user is not None
        assert user.bounced_at == start + 11 * SECOND


@pytest.mark.parametrize("attempt", range(3))
def test_concurrent_reports_and_confirmations_end_alike(service: Service, attempt: int) -> None:
    """In any order of the transactions the confirmation, which is later than the bounce, decides."""
    ann = register_confirmed_ann(service)
    report_bounce(service, ann)
    service.clock.advance(SECOND)
    late = service.clock.now()
    service.clock.advance(DAY)
    service.registrations.request_confirmation_mail(ann.token, ANN)
    link = load_confirmation_token(service, ann)
    uses: list[Callable[[], None]] = [
        lambda: service.registrations.confirm(link),
        lambda: report_bounce(service, ann, late),
    ] * 3
    together = threading.Barrier(len(uses))

    def run(use: Callable[[], None]) -> None:
        together.wait()
        use()

    with ThreadPoolExecutor(len(uses)) as threads:
        list(threads.map(run, uses[attempt:] + uses[:attempt]))
    assert not load_account(service, ann).suppressed
    assert service.load_event_kinds() == ["registered", "confirmed", "registered", "confirmed"]


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("pass"), st.integers(1, 2_000)),
        st.tuples(st.just("bounce"), st.integers(0, 3_000)),
        st.tuples(st.just("ask"), st.just(0)),
        st.tuples(st.just("follow"), st.integers(0, 5)),
    ),
    max_size=14,
)


@ON_SQLITE
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps=STEPS)
def test_the_latest_event_decides_in_every_sequence(service: Service, steps: list[tuple[str, int]]) -> None:
    """A model of all events agrees with the service: late and duplicate bounces, requests, and links of any age."""
    registration = service.register(f"user{next(NUMBERS)}@example.org")
    service.clock.advance(SECOND)
    mailed = [(registration.account.created_at, service.build_confirmation_token(registration))]
    bounces: list[datetime] = []  # those that were not from before the confirmation when they were reported
    confirmed_at: datetime | None = None
    for step, number in steps:
        now = service.clock.now()
        live = [at for at in bounces if confirmed_at is None or at > confirmed_at]
        if step == "pass":
            service.clock.advance(timedelta(minutes=number))
        elif step == "bounce":
            at = max(now - timedelta(minutes=number), registration.account.created_at)
            report_bounce(service, registration, at)
            bounces.append(at)
        elif step == "ask":
            try:
                service.registrations.request_confirmation_mail(registration.token, registration.account.email)
            except TooSoonError:
                pass
            except AlreadyConfirmedError:
                assert confirmed_at is not None
                assert not live
            else:
                mailed.append((max([now, *(at + timedelta(microseconds=1) for at in live)]), ""))
        elif mailed:
            requested_at, link = mailed[number % len(mailed)]
            try:
                service.registrations.confirm(link, registration.token)
            except LinkExpiredError:
                assert any(at >= requested_at for at in live)
            else:
                assert not any(at >= requested_at for at in live)
                confirmed_at = now if live or confirmed_at is None else confirmed_at
        live = [at for at in bounces if confirmed_at is None or at > confirmed_at]
        account = load_account(service, registration)
        assert account.suppressed is bool(live)
        assert account.confirmed is (confirmed_at is not None)
        offered = load_confirmation_token(service, registration)
        last_wish = mailed[-1][0]
        may_be_mailed = all(at < last_wish for at in live) if live else confirmed_at is None
        assert bool(offered) is may_be_mailed
        if mailed[-1][1] == "" and offered:
            mailed[-1] = (last_wish, offered)
        elif mailed[-1][1] == "":
            mailed.pop()
