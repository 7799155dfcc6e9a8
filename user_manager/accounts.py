"""Use cases on existing accounts, for people and for the other services."""

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from datetime import datetime
from typing import Final
from uuid import UUID

import structlog
from sqlalchemy import and_, func, or_, select, update
from sqlalchemy.orm import Session

from chassis.credentials import Credential
from chassis.db.database import Database
from chassis.texts import DEFAULT_LANGUAGE
from user_manager import tokens
from user_manager.access import (
    ACCOUNT_EXISTS,
    AccountAuthorizer,
    find_account_of_address,
    load_linked_account,
)
from user_manager.account_positions import decode_position, encode_position
from user_manager.addresses import Address, compute_address_digest, compute_lookup_key
from user_manager.errors import TooManyUsersError, VersionMismatchError
from user_manager.interest_links import InterestLinks, build_interest_links
from user_manager.links import LinkSigner
from user_manager.mail_requests import MailKind, delete_completed_request, load_requests
from user_manager.mailbox_limits import MailboxLimits
from user_manager.model import ConfirmationState, MailRequest, User

log = structlog.get_logger()

MAX_CONTACTS_PER_CALL: Final = 500
"""Maximum number of user ids in one call of `load_contacts`."""


@dataclass(frozen=True, slots=True)
class Account:
    """An account as its owner may see it."""

    user_id: UUID
    email: str
    name: str
    time_zone: str
    """IANA name."""
    language: str
    """Tag of the language in which the person reads the pages, "en" or "it"."""
    confirmed: bool
    paused: bool
    """True if the person has paused all alerts."""
    corrections: bool
    """True if the person wants mails about what the settled record corrects."""
    suppressed: bool
    """True if mail to the address bounced: none is sent there until the owner confirms the address again."""
    created_at: datetime
    version: int
    """Increases with every change."""

    @classmethod
    def from_user(cls, user: User) -> "Account":
        """Return an account with the columns of a database row that its owner may see."""
        return cls(
            user_id=user.user_id,
            email=user.email,
            name=user.name,
            time_zone=user.time_zone,
            language=user.language or DEFAULT_LANGUAGE,
            confirmed=user.confirmed,
            paused=user.paused,
            corrections=user.corrections is not False,
            suppressed=user.suppressed,
            created_at=user.created_at,
            version=user.version,
        )


@dataclass(frozen=True, slots=True)
class AccountUpdate:
    """New values for fields of an account. None: the field stays unchanged."""

    name: str | None = None
    time_zone: str | None = None
    language: str | None = None
    paused: bool | None = None
    corrections: bool | None = None


@dataclass(frozen=True, slots=True)
class AccountPage:
    """One page of the list of all accounts, ordered from oldest to newest."""

    accounts: list[Account]
    next_cursor: str | None
    """Cursor of the next page, opaque and URL-safe; None on the last page."""


@dataclass(frozen=True, slots=True)
class Confirmation:
    """The state of the confirmation of an account's address."""

    state: ConfirmationState
    requested_at: datetime
    """Time at which the last confirmation mail was requested."""


@dataclass(frozen=True, slots=True)
class AuthenticatedUser:
    """The user whom a bearer token or a session belongs to."""

    user_id: UUID
    confirmed: bool
    """True if the user has confirmed the address."""


@dataclass(frozen=True, slots=True)
class Contact:
    """An account with the signed links that mails to its owner contain: to confirm the address, and to unsubscribe.

    The answer to the services that send mail (gRPC GetContacts).
    """

    account: Account
    confirm_url: str
    """Link that confirms the address; empty if no confirmation mail may be sent there (`can_get_confirmation_mail`)."""
    unsubscribe_url: str
    """Link that pauses all alerts."""
    token_url: str = ""
    """Link to a new token of the confirmed account that the address has; empty if no mail with one was requested."""
    stop_url: str = ""
    """Link that stops account mails to the mailbox; empty if there is no other link of an account mail."""
    sign_in_url: str = ""
    """Link that signs in to the confirmed account that the address has; empty if no mail with one was requested."""
    interest_links: tuple[InterestLinks, ...] = ()
    """Links to the interests that the mail is about."""
    language: str = ""
    """Tag of the language of mails to the owner; empty: the account has none."""


class Accounts:
    """Use cases on existing accounts: show, list, change, pause, replace the token; and queries of other services.

    An account whose deletion has passed the pivot does not exist for any of them. Safe for several threads; each method
    may raise DatabaseUnavailableError, and SessionUnknownError in place of TokenUnknownError for a session.
    """

    def __init__(
        self, database: Database, links: LinkSigner, authorizer: AccountAuthorizer, limits: MailboxLimits
    ) -> None:
        self._database = database
        self._links = links
        self._authorizer = authorizer
        self._limits = limits

    def get(self, credential: Credential, email: str) -> Account:
        """Return the account with this address. Raises TokenUnknownError, NotYoursError, AccountUnknownError."""
        with self._database.reading() as session:
            return Account.from_user(self._authorizer.load_account(session, credential, email))

    def get_confirmation(self, credential: Credential, email: str) -> Confirmation:
        """Return how far the confirmation of this account's address is.

        Raises TokenUnknownError, NotYoursError, AccountUnknownError.
        """
        with self._database.reading() as session:
            user = self._authorizer.load_account(session, credential, email)
            return Confirmation(user.confirmation, user.confirmation_asked_at)

    def record_confirmation_state(self, user_id: str, confirmation_id: str, state: ConfirmationState) -> None:
        """Store how far the mail of a confirmation request is: WAITING, SENT or FAILED, as the notifier reports it.

        Changes nothing unless it is the last request of an existing account, nor once its mail is stored as sent; so
        reports may come late, twice and in any order. The request of a mail that is SENT or FAILED is deleted, whether
        its account exists or not. The account's version stays: it is that of what its owner may change.
        """
        ids = [*parse_valid_uuids([user_id, confirmation_id])]
        if len(ids) != 2:
            return
        not_sent = or_(User.confirmation_state.is_(None), User.confirmation_state != ConfirmationState.SENT)
        with self._database.transaction() as session:
            session.connection().execute(
                update(User)
                .where(User.user_id == ids[0], User.confirmation_id == ids[1], not_sent)
                .values(confirmation_state=state.value)
            )
            if state is not ConfirmationState.WAITING:
                delete_completed_request(session, *ids)

    def list_page(self, credential: Credential, cursor: str | None, limit: int) -> AccountPage:
        """Return a page of at most `limit` accounts, oldest first, that begins at `cursor` (None: the first page).

        Only the operator may list. The page has a cursor if more accounts follow. An account created while somebody
        reads page after page is on the last page; no account is listed twice or skipped. Raises TokenUnknownError,
        NotOperatorError, BadCursorError.
        """
        query = select(User).where(ACCOUNT_EXISTS).order_by(User.created_at, User.user_id).limit(limit + 1)
        with self._database.reading() as session:
            self._authorizer.require_operator(session, credential)
            if cursor is not None:
                after, last = decode_position(cursor)
                query = query.where(or_(User.created_at > after, and_(User.created_at == after, User.user_id > last)))
            accounts = [Account.from_user(user) for user in session.scalars(query)]
        if len(accounts) <= limit:
            return AccountPage(accounts, None)
        last_shown = accounts[limit - 1]
        return AccountPage(accounts[:limit], encode_position(last_shown.created_at, last_shown.user_id))

    def update(self, credential: Credential, email: str, version: int | None, changes: AccountUpdate) -> Account:
        """Change the account with this address if it still has this `version` (None: any version); return the result.

        Fields that are None in `changes` stay. The version increases by 1, but only if a value changes. The row is
        locked meanwhile. Raises TokenUnknownError, NotYoursError, AccountUnknownError, VersionMismatchError.
        """
        with self._database.transaction() as session:
            user = self._authorizer.load_account(session, credential, email, lock=True)
            if version is not None and user.version != version:
                raise VersionMismatchError("The account was changed meanwhile; read it again.")
            before = Account.from_user(user)
            for name, value in asdict(changes).items():
                if value is not None:
                    setattr(user, name, value)
            if Account.from_user(user) != before:
                user.version += 1
            return Account.from_user(user)

    def rotate_token(self, credential: Credential, email: str) -> str:
        """Replace the account's token and return the new one, which is not shown again; the old one is invalid at once.

        Only the new token's digest is stored. Raises TokenUnknownError, NotYoursError, AccountUnknownError.
        """
        new = tokens.generate_token()
        with self._database.transaction() as session:
            user = self._authorizer.load_account(session, credential, email, lock=True)
            user.token_sha256 = tokens.compute_digest(new)
            user_id = user.user_id
        log.info("account.token_rotated", user_id=str(user_id))
        return new

    def is_registered_for_operator(self, credential: Credential, email: str) -> bool:
        """Return True if an account has this address, False if none has; only the operator may ask.

        Raises TokenUnknownError, NotOperatorError.
        """
        with self._database.reading() as session:
            self._authorizer.require_operator(session, credential)
        return self.is_registered(email)

    def is_registered(self, email: str) -> bool:
        """Return True if an account has this address, False if none has or it is no address; for other services."""
        key = compute_lookup_key(email)
        if key is None:
            return False
        with self._database.reading() as session:
            return session.scalar(select(User.user_id).where(User.address_key == key, ACCOUNT_EXISTS)) is not None

    def check_unsubscription_link(self, link_token: str) -> None:
        """Verify an unsubscription link and that its account exists, without changing anything.

        Raises LinkForgedError, LinkOrphanedError.
        """
        user_id = self._links.parse_unsubscription_link(link_token)
        with self._database.reading() as session:
            load_linked_account(session, user_id)

    def unsubscribe(self, link_token: str) -> None:
        """Pause all alerts of the user whom the unsubscription link names. Idempotent.

        The account's version increases only if it was not paused before. Raises LinkForgedError, LinkOrphanedError.
        """
        user_id = self._links.parse_unsubscription_link(link_token)
        with self._database.transaction() as session:
            paused = session.connection().execute(
                update(User)
                .where(User.user_id == user_id, User.paused.is_(False), ACCOUNT_EXISTS)
                .values(paused=True, version=User.version + 1)
            )
            if paused.rowcount == 0:
                load_linked_account(session, user_id)
        if paused.rowcount == 1:
            log.info("account.unsubscribed", user_id=str(user_id))

    def authenticate(self, credential: Credential) -> AuthenticatedUser:
        """Return the user whom the token or the session belongs to.

        Raises TokenUnknownError, also for the operator's token.
        """
        with self._database.reading() as session:
            user = self._authorizer.load_owner(session, credential)
            return AuthenticatedUser(user.user_id, user.confirmed)

    def load_contacts(
        self, user_ids: Sequence[str], interests: Mapping[UUID, Collection[UUID]] | None = None
    ) -> list[Contact]:
        """Return the contacts of these users: account, unsubscription link, and the links of an account mail if any.

        `interests`: the interests, by user, to which the contact of an account has links, too.

        An id may also be that of a requested account mail (`mail_requests`) whose account was replaced or deleted, or
        that never had one: then the contact is of the mail, with what its address may be offered now. Each id comes
        once, in no particular order; unknown and invalid ids are left out.

        An invalid id is no error: one wrong id among many must not cost the others their mail. Raises
        TooManyUsersError for more than `MAX_CONTACTS_PER_CALL` ids.
        """
        if len(user_ids) > MAX_CONTACTS_PER_CALL:
            raise TooManyUsersError(f"Ask for at most {MAX_CONTACTS_PER_CALL} users in one call.")
        valid_ids, wanted = set(parse_valid_uuids(user_ids)), interests or {}
        with self._database.reading() as session:
            users = session.scalars(select(User).where(User.user_id.in_(valid_ids), ACCOUNT_EXISTS)).all()
            contacts = []
            for user in users:
                interest_links = build_interest_links(self._links, user.user_id, wanted.get(user.user_id, ()))
                contact = replace(self._build_contact(session, user), interest_links=interest_links)
                contacts.append(replace(contact, language=user.language or ""))
            missing = valid_ids - {user.user_id for user in users}
            requests = load_requests(session, missing) if missing else []
            return contacts + [self._build_request_contact(session, request) for request in requests]

    def _build_contact(self, session: Session, user: User) -> Contact:
        """Return the contact of an account.

        If its address has a confirmed account beside this unconfirmed one, the contact has a link to a new token of
        that account in place of a confirmation link.
        """
        account, unsubscribe_url = Account.from_user(user), self._links.build_unsubscription_url(user.user_id)
        if not user.can_get_confirmation_mail:
            return Contact(account, "", unsubscribe_url)
        digest = user.address_digest or compute_address_digest(user.address_key)
        stop_url = self._links.build_stop_url(self._limits.compute_hash(user.address_key), digest)
        owner = user if user.confirmed else find_account_of_address(session, digest)
        if owner is not None and owner.confirmed and owner is not user:
            token_url = self._links.build_token_url(owner.user_id, owner.token_sha256)
            return Contact(account, "", unsubscribe_url, token_url, stop_url)
        confirm_url = self._links.build_confirmation_url(user.user_id, user.confirmation_asked_at, digest)
        return Contact(account, confirm_url, unsubscribe_url, "", stop_url)

    def _build_request_contact(self, session: Session, request: MailRequest) -> Contact:
        """Return the contact of a requested account mail that has no account of its own (any more).

        It holds nothing that somebody typed but the address. Each request gets a mail, because it was counted: without
        a confirmed account that mail has the link that confirms whatever is registered with the address.
        """
        owner = find_account_of_address(session, request.address_digest)
        language = (owner.language if owner is not None else None) or ""
        account = Account(
            user_id=request.request_id,
            email=request.email,
            name="",
            time_zone="UTC",
            language=DEFAULT_LANGUAGE,
            confirmed=False,
            paused=False,
            corrections=True,
            suppressed=False,
            created_at=request.requested_at,
            version=1,
        )
        stop_url = self._links.build_stop_url(
            self._limits.compute_hash(Address(request.email).key), request.address_digest
        )
        if owner is not None and owner.confirmed:
            if request.kind == MailKind.SIGN_IN:
                sign_in_url = self._links.build_sign_in_url(owner.user_id, request.mail_id, request.requested_at)
                return Contact(account, "", "", "", stop_url, sign_in_url, language=language)
            token_url = self._links.build_token_url(owner.user_id, owner.token_sha256)
            return Contact(account, "", "", token_url, stop_url, language=language)
        confirm_url = self._links.build_confirmation_url(
            request.request_id, request.requested_at, request.address_digest
        )
        return Contact(account, confirm_url, "", "", stop_url, language=language)

    def count(self) -> int:
        """Return the number of existing accounts."""
        with self._database.reading() as session:
            return session.scalar(select(func.count()).select_from(User).where(ACCOUNT_EXISTS)) or 0


def parse_valid_uuids(texts: Iterable[str]) -> Iterator[UUID]:
    """Yield the UUIDs among `texts`; skip all other texts."""
    for text in texts:
        with suppress(ValueError):
            yield UUID(text)
