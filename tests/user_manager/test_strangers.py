"""An owner and a stranger act on the same addresses in any order: what the stranger can do to the owner is bounded."""

import itertools
from datetime import datetime, timedelta

from hypothesis import HealthCheck, settings, strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from chassis.db.database import Database
from tests.copied_tables import create_tables
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

ADDRESSES = ("ann@example.org", "ann+tag@example.org", "ann+zz@example.org", "bob@example.org")
PEOPLE = ("owner", "stranger")
addresses = st.sampled_from(ADDRESSES)
people = st.sampled_from(PEOPLE)


class OwnerAndStranger(RuleBasedStateMachine):
    """Both register, delete, ask and repeat; mails are delivered some time later, and only the owner reads them."""

    def __init__(self) -> None:
        super().__init__()
        self.numbers = itertools.count()
        self.database = Database("sqlite://")
        create_tables(self.database, SCHEMA)
        self.service = Service(self.database)
        self.tokens: dict[str, dict[str, set[str]]] = {who: {each: set() for each in ADDRESSES} for who in PEOPLE}
        self.requested_at: dict[str, list[datetime]] = {each: [] for each in ADDRESSES}
        self.links: dict[str, list[str]] = {each: [] for each in ADDRESSES}
        self.token_links: dict[str, list[str]] = {each: [] for each in ADDRESSES}
        self.sign_in_links: dict[str, list[str]] = {each: [] for each in ADDRESSES}
        self.sign_ins_requested_at: dict[str, list[datetime]] = {each: [] for each in ADDRESSES}
        self.ever_stopped: set[str] = set()
        """Mailboxes whose owner has stopped mails some time."""
        self.signed_in = 0
        """How often the owner has signed in, which ends the pauses between such mails."""
        self.stop_links: dict[str, list[str]] = {each: [] for each in ADDRESSES}
        self.owned: set[str] = set()
        """Addresses whose confirmed account is the owner's."""
        self.ever_owned: set[str] = set()
        """Addresses that the owner has confirmed some time."""
        self.seen_events = 0
        self.pending: list[tuple[str, str]] = []
        """Address and request id of each mail that is not delivered yet."""

    def teardown(self) -> None:
        self.database.close()

    def note_requests(self, email: str, *, signs_in: bool = False) -> None:
        """Note the mails that the last action requested, all of which must be to this address."""
        events = self.service.load_outbox_events()
        for event in events[self.seen_events :]:
            if event.WhichOneof("change") == "registered":
                noted = self.sign_ins_requested_at if signs_in else self.requested_at
                noted[email].append(self.service.clock.now())
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
    def ask_to_sign_in(self, who: str, email: str) -> None:
        """The request has no answer but that it was taken."""
        self.service.sign_ins.request_link(Address(email), who)
        self.note_requests(email, signs_in=True)

    @rule(email=addresses, number=st.integers(0, 9))
    def sign_in(self, email: str, number: int) -> None:
        """The owner follows any link that signs in; it is the last one, and works once."""
        if not self.sign_in_links[email]:
            return
        link = self.sign_in_links[email][number % len(self.sign_in_links[email])]
        try:
            started = self.service.sign_ins.sign_in(link, "curl")
        except LinkOrphanedError:
            return
        assert email in self.owned
        assert link == self.sign_in_links[email][-1]
        assert self.service.accounts.get(started.secret, email).confirmed
        self.sign_in_links[email].remove(link)
        self.signed_in += 1

    @rule(email=addresses)
    def sign_in_by_the_last_mail(self, email: str) -> None:
        """At any time, whatever strangers have asked for, the owner asks, and the last mail that came signs in: this
        one, or the one before whose pause goes on. (Unless the owner has stopped such mails, which voids the link.)"""
        if email not in self.owned or normalize_mailbox(email) in self.ever_stopped:
            return
        self.ask_to_sign_in("owner", email)
        self.deliver_mails()
        signed_in = self.signed_in
        self.sign_in(email, len(self.sign_in_links[email]) - 1)
        assert self.signed_in == signed_in + 1

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
                assert bool(contact.token_url or contact.sign_in_url) <= (email in self.owned)
                links = (self.links, contact.confirm_url), (self.token_links, contact.token_url)
                links += ((self.sign_in_links, contact.sign_in_url),)
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
        self.ever_owned.add(email)
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
        if stop:
            self.ever_stopped.add(normalize_mailbox(email))
        for link in self.stop_links[email][-1:]:
            (self.service.account_mails.stop_mails if stop else self.service.account_mails.allow_mails)(link)

    @rule(
        email=addresses,
        acts=st.lists(
            st.tuples(st.sampled_from(["register", "ask", "delete", "sign in"]), addresses, st.integers(0, 90_000)),
            max_size=3,
        ),
        last=st.lists(st.tuples(st.sampled_from(["ask", "sign in"]), addresses), max_size=2),
    )
    def get_in(self, email: str, acts: list[tuple[str, str, int]], last: list[tuple[str, str]]) -> None:
        """The owner did nothing for the longest pause, then has one wish: there is a mail with a link that fulfils it.

        Whatever the stranger does meanwhile, and in the second before. It is so for the mailbox's own spelling, and for
        one with a tag that has a confirmed account.
        """
        if email not in self.owned and normalize_mailbox(email) != email:
            return
        for each in ADDRESSES:
            if normalize_mailbox(each) == normalize_mailbox(email):
                self.stop_or_allow(each, stop=False)
        for act, other, seconds in acts:
            self.service.clock.advance(timedelta(seconds=seconds))
            self.let_stranger_act(act, other)
        self.wait(int(DEFAULT_PAUSES[-1].total_seconds()))
        for act, other in last:
            self.let_stranger_act(act, other)
        if email in self.owned:
            self.ask_for_a_token("owner", email)
            self.deliver_mails()
            new = self.service.account_mails.replace_token(self.token_links[email][-1])
            assert self.service.accounts.authenticate(new).confirmed
            self.tokens["owner"][email].add(new)
        else:
            self.register("owner", email, repeats=False)
            self.deliver_mails()
            confirmed = self.service.registrations.confirm(self.links[email][-1])
            assert confirmed.account.name.startswith("owner")
            assert confirmed.new_token is not None
            self.owned.add(email)
            self.ever_owned.add(email)
            self.tokens["owner"][email].add(confirmed.new_token)

    def let_stranger_act(self, act: str, email: str) -> None:
        """Let the stranger do one thing that needs no mailbox."""
        match act:
            case "register":
                self.register("stranger", email, repeats=False)
            case "ask":
                self.ask_for_a_token("stranger", email)
            case "sign in":
                self.ask_to_sign_in("stranger", email)
            case _:
                self.delete("stranger", email)

    @rule(seconds=st.sampled_from([1, 59, 61, 301, 601, 3601, 86_401, 3 * 86_400]))
    def wait(self, seconds: int) -> None:
        self.service.clock.advance(timedelta(seconds=seconds))
        with self.service.database.transaction() as session:
            self.service.limits.delete_expired(session, self.service.clock.now())
        self.service.deletions.resume_due_deletions()

    @invariant()
    def mails_are_bounded(self) -> None:
        """In any day a mailbox gets twice as many mails as there are pauses at most, besides those to tagged addresses
        that its owner confirmed; each of these gets as many as there are pauses. As many again by which somebody would
        sign in, as long as the owner does not."""
        day, most = DEFAULT_PAUSES[-1], len(DEFAULT_PAUSES)
        for email, sent in self.requested_at.items():
            bound = most if email == normalize_mailbox(email) else 2 * most
            assert all(sum(first <= each < first + day for each in sent) <= bound for first in sent)
        for mailbox in {normalize_mailbox(each) for each in ADDRESSES}:
            owned = sum(each != mailbox and normalize_mailbox(each) == mailbox for each in self.ever_owned)
            at = [
                each
                for email, sent in self.requested_at.items()
                if normalize_mailbox(email) == mailbox
                for each in sent
            ]
            assert all(sum(first <= each < first + day for each in at) <= (2 + owned) * most for first in at)
            asked = [
                each
                for email, sent in self.sign_ins_requested_at.items()
                if normalize_mailbox(email) == mailbox
                for each in sent
            ]
            bound = (2 + owned) * most * (1 + self.signed_in)
            assert all(sum(first <= each < first + day for each in asked) <= bound for first in asked)

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
