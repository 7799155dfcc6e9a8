"""An owner and a stranger act on the same addresses in any order: what the stranger can do to the owner is bounded."""

import itertools
from datetime import datetime, timedelta

from hypothesis import HealthCheck, settings, strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from chassis.db.database import Database
from tests.user_manager.conftest import Service
from user_manager.addresses import Address, normalize_mailbox
from user_manager.errors import (
    AlreadyConfirmedError,
    LinkExpiredError,
    LinkOrphanedError,
    NotYoursError,
    TokenUnknownError,
    TooSoonError,
)
from user_manager.mailbox_limits import DEFAULT_PAUSES
from user_manager.model import SCHEMA

ADDRESSES = ("ann@example.org", "ann+tag@example.org", "bob@example.org")
PEOPLE = ("owner", "stranger")
addresses = st.sampled_from(ADDRESSES)
people = st.sampled_from(PEOPLE)


class OwnerAndStranger(RuleBasedStateMachine):
    """Both register, delete, ask and repeat; mails are delivered some time later, and only the owner reads them."""

    def __init__(self) -> None:
        super().__init__()
        self.numbers = itertools.count()
        self.database = Database("sqlite://")
        SCHEMA.create_all(self.database.engine)
        self.service = Service(self.database)
        self.tokens: dict[str, dict[str, set[str]]] = {who: {each: set() for each in ADDRESSES} for who in PEOPLE}
        self.requested_at: dict[str, list[datetime]] = {normalize_mailbox(each): [] for each in ADDRESSES}
        self.links: dict[str, list[str]] = {each: [] for each in ADDRESSES}
        self.token_links: dict[str, list[str]] = {each: [] for each in ADDRESSES}
        self.stop_links: dict[str, list[str]] = {each: [] for each in ADDRESSES}
        self.owned: set[str] = set()
        """Addresses whose confirmed account is the owner's."""
        self.seen_events = 0
        self.pending: list[tuple[str, str]] = []
        """Address and request id of each mail that is not delivered yet."""

    def teardown(self) -> None:
        self.database.close()

    def note_requests(self, email: str) -> None:
        """Note the mails that the last action requested, all of which must be to this address' mailbox."""
        events = self.service.load_outbox_events()
        for event in events[self.seen_events :]:
            if event.WhichOneof("change") == "registered":
                self.requested_at[normalize_mailbox(email)].append(self.service.clock.now())
                self.pending.append((email, event.user_id))
        self.seen_events = len(events)

    @rule(who=people, email=addresses, repeats=st.booleans())
    def register(self, who: str, email: str, repeats: bool) -> None:
        """Whoever registers gets an unconfirmed account and a token that opens it, whether the address is confirmed."""
        name = who if repeats else f"{who} {next(self.numbers)}"
        registration = self.service.registrations.register(Address(email), name, "UTC")
        assert not registration.account.confirmed
        assert registration.account.version == 1
        assert (registration.account.email, registration.account.name) == (email, name)
        if registration.token is not None:
            self.tokens[who][email].add(registration.token)
            assert self.service.accounts.get(registration.token, email) == registration.account
        self.note_requests(email)

    @rule(who=people, email=addresses)
    def ask_for_a_token(self, who: str, email: str) -> None:
        """The request has no answer but that it was taken."""
        self.service.account_mails.request_token_mail(Address(email), who)
        self.note_requests(email)

    @rule(who=people, email=addresses)
    def ask_for_a_confirmation(self, who: str, email: str) -> None:
        """Whoever holds a token asks for another mail."""
        for token in sorted(self.tokens[who][email]):
            try:
                self.service.registrations.request_confirmation_mail(token, email)
            except (TokenUnknownError, TooSoonError, AlreadyConfirmedError, NotYoursError):
                continue
        self.note_requests(email)

    @rule(who=people, email=addresses)
    def delete(self, who: str, email: str) -> None:
        """Whoever holds a token deletes that token's account; the stranger deletes no confirmed account."""
        for token in sorted(self.tokens[who][email]):
            try:
                confirmed = self.service.accounts.authenticate(token).confirmed
                self.service.deletions.delete(token, email)
            except TokenUnknownError:
                continue
            if confirmed:
                assert who == "owner"
                self.owned.discard(email)
        self.note_requests(email)

    @rule()
    def deliver_mails(self) -> None:
        """What is mailed holds no name, and offers what the address may have now."""
        for email, request_id in self.pending:
            for contact in self.service.accounts.load_contacts([request_id]):
                assert contact.account.email == email
                assert bool(contact.token_url) <= (email in self.owned)
                links = (self.links, contact.confirm_url), (self.token_links, contact.token_url)
                for kept, url in (*links, (self.stop_links, contact.stop_url)):
                    if url:
                        kept[email].append(url.rpartition("/")[2])
        self.pending.clear()

    @rule(email=addresses, number=st.integers(0, 9), with_token=st.booleans())
    def follow_a_link(self, email: str, number: int, with_token: bool) -> None:
        """The owner follows any link that was mailed, from a browser or with one of their tokens."""
        if not self.links[email]:
            return
        link = self.links[email][number % len(self.links[email])]
        mine = sorted(self.tokens["owner"][email])
        proof = mine[number % len(mine)] if with_token and mine else None
        try:
            confirmed = self.service.registrations.confirm(link, proof)
        except (LinkOrphanedError, LinkExpiredError):
            return
        self.owned.add(email)
        if confirmed.new_token is not None:
            self.tokens["owner"][email].add(confirmed.new_token)

    @rule(email=addresses, number=st.integers(0, 9))
    def replace_a_lost_token(self, email: str, number: int) -> None:
        """The owner follows any link to a token that was mailed; it works at most once."""
        if not self.token_links[email]:
            return
        link = self.token_links[email][number % len(self.token_links[email])]
        try:
            self.tokens["owner"][email].add(self.service.account_mails.replace_token(link))
        except LinkOrphanedError:
            return
        assert email in self.owned

    @rule(email=addresses, stop=st.booleans())
    def stop_or_allow(self, email: str, stop: bool) -> None:
        """The owner says "this was not me", or takes it back."""
        for link in self.stop_links[email][-1:]:
            (self.service.account_mails.stop_mails if stop else self.service.account_mails.allow_mails)(link)

    @rule(seconds=st.sampled_from([1, 59, 61, 301, 601, 3601, 86_401, 3 * 86_400]))
    def wait(self, seconds: int) -> None:
        self.service.clock.advance(timedelta(seconds=seconds))
        with self.service.database.transaction() as session:
            self.service.limits.delete_expired(session, self.service.clock.now())
        self.service.deletions.resume_due_deletions()

    @invariant()
    def mails_are_bounded(self) -> None:
        """In any day a mailbox gets no more mails than there are pauses, and no two within a minute."""
        for sent in self.requested_at.values():
            for first, second in itertools.pairwise(sent):
                assert second - first >= DEFAULT_PAUSES[0]
            for first in sent:
                day = [each for each in sent if first <= each < first + DEFAULT_PAUSES[-1]]
                assert len(day) <= len(DEFAULT_PAUSES)

    @invariant()
    def the_stranger_opens_no_confirmed_account(self) -> None:
        """No token that was ever given to the stranger opens a confirmed account."""
        for email in ADDRESSES:
            for token in self.tokens["stranger"][email]:
                try:
                    assert not self.service.accounts.authenticate(token).confirmed
                except TokenUnknownError:
                    continue


OwnerAndStranger.TestCase.settings = settings(
    max_examples=60, stateful_step_count=30, deadline=None, suppress_health_check=list(HealthCheck)
)
TestOwnerAndStranger = OwnerAndStranger.TestCase
