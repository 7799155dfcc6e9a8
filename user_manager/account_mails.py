"""Use cases of the links in account mails: a lost token is replaced, and the owner of a mailbox stops such mails."""

from uuid import uuid4

import structlog
from sqlalchemy import select
from sqlalchemy.orm import Session

from chassis.clock import Clock
from chassis.db.database import Database
from user_manager import tokens
from user_manager.access import load_linked_account
from user_manager.addresses import Address
from user_manager.deletion.erasure import erase_account
from user_manager.errors import LinkOrphanedError
from user_manager.idempotency import delete_answers_of_user
from user_manager.links import LinkSigner, TokenLink
from user_manager.mail_requests import MailKind, delete_requests_to, request_mail
from user_manager.mailbox_limits import Admission, MailboxLimits
from user_manager.model import Mailbox, User
from user_manager.sign_in_links import void_sign_in_link
from user_manager.web_sessions import delete_sessions_of_user

log = structlog.get_logger()


class AccountMails:
    """Use cases for people who have a mailbox and no token. Safe for several threads.

    Each may raise DatabaseUnavailableError.
    """

    def __init__(self, database: Database, links: LinkSigner, limits: MailboxLimits, clock: Clock) -> None:
        self._database = database
        self._links = links
        self._limits = limits
        self._clock = clock

    def request_token_mail(self, address: Address, client: str | None = None) -> None:
        """Request a mail with a link to a new token, if the mailbox may get one.

        Does the same whether the address has an account or not: what the mail offers is decided when it is sent. An
        address without a confirmed account gets the link that confirms it. `client` identifies who causes the mail.
        Raises TooManyMailsError.
        """
        now = self._clock.now()
        with self._database.transaction() as session:
            mailbox = self._limits.lock_mailbox(session, self._limits.compute_hash(address.key), now)
            if self._limits.admit_mail(session, mailbox, address, client, now) is not Admission.REFUSED:
                request_mail(session, address, MailKind.TOKEN, uuid4(), uuid4(), now)

    def check_token_link(self, link_token: str) -> None:
        """Check that `replace_token` would accept this link, without changing anything.

        Raises LinkForgedError, LinkExpiredError, LinkOrphanedError.
        """
        link = self._links.parse_token_link(link_token)
        with self._database.reading() as session:
            _load_user_to_replace_token(session, link)

    def replace_token(self, link_token: str) -> str:
        """Replace the token of the account that the link names, and return the new token, which is not shown again.

        The old token is void at once, and so is the link; all sessions of the account end. Raises LinkForgedError,
        LinkExpiredError, LinkOrphanedError.
        """
        link = self._links.parse_token_link(link_token)
        new = tokens.generate_token()
        with self._database.transaction() as session:
            user = _load_user_to_replace_token(session, link, lock=True)
            user.token_sha256 = tokens.compute_digest(new)
            delete_answers_of_user(session, user.user_id)
            delete_sessions_of_user(session, user.user_id)
        log.info("account.token_replaced", user_id=str(link.user_id))
        return new

    def are_mails_stopped(self, link_token: str) -> bool:
        """Return True if account mails to the mailbox that the link names are stopped, False if they are sent.

        Raises LinkForgedError.
        """
        link = self._links.parse_stop_link(link_token)
        with self._database.reading() as session:
            mailbox = session.get(Mailbox, link.mailbox_hash)
            return mailbox is not None and mailbox.stopped_at is not None

    def stop_mails(self, link_token: str) -> None:
        """Stop account mails to the mailbox that the link names, and erase the unconfirmed account with its address.

        Mails that were requested and are not sent yet are not sent, and no link signs in that was mailed before. A
        confirmed account stays as it is. Idempotent.
        Raises LinkForgedError.
        """
        link = self._links.parse_stop_link(link_token)
        now = self._clock.now()
        with self._database.transaction() as session:
            mailbox = self._limits.lock_mailbox(session, link.mailbox_hash, now)
            is_change = mailbox.stopped_at is None
            mailbox.stopped_at, mailbox.touched_at = mailbox.stopped_at or now, now
            unconfirmed = (User.address_digest == link.address_digest) & User.confirmed.is_(False)
            for user_id in session.scalars(select(User.user_id).where(unconfirmed).with_for_update()).all():
                erase_account(session, user_id)
            delete_requests_to(session, link.address_digest)
            void_sign_in_link(session, self._limits.compute_sign_in_hash(link.address_digest))
        if is_change:
            log.info("account_mails.stopped")

    def allow_mails(self, link_token: str) -> None:
        """Undo `stop_mails`, but for the erased account. Idempotent. Raises LinkForgedError."""
        link = self._links.parse_stop_link(link_token)
        now = self._clock.now()
        with self._database.transaction() as session:
            mailbox = self._limits.lock_mailbox(session, link.mailbox_hash, now)
            is_change = mailbox.stopped_at is not None
            mailbox.stopped_at, mailbox.touched_at = None, now
        if is_change:
            log.info("account_mails.allowed")


def _load_user_to_replace_token(session: Session, link: TokenLink, *, lock: bool = False) -> User:
    """Return the account whose token the link replaces; `lock` locks its row.

    Raises LinkOrphanedError if the account is gone, unconfirmed, or has another token by now.
    """
    user = load_linked_account(session, link.user_id, lock=lock)
    if not user.confirmed or not user.token_sha256.startswith(link.replaced_digest):
        raise LinkOrphanedError("This link was used already, or the token was replaced since; ask for another mail.")
    return user
