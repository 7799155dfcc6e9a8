"""gRPC servicer of UserService: each method parses the request, makes one call and translates the result."""

from collections.abc import Collection, Mapping
from datetime import UTC, datetime
from functools import partial
from typing import Final
from uuid import UUID

import grpc

from chassis.credentials import Credential, SessionSecret
from chassis.errors import DatabaseUnavailableError
from towerwatch.users.v1 import user_service_pb2 as pb
from towerwatch.users.v1.user_service_pb2 import (
    AuthenticateRequest,
    AuthenticateResponse,
    Contact,
    GetContactsRequest,
    GetContactsResponse,
    InterestLinks,
    ReportBounceRequest,
    ReportBounceResponse,
    ReportConfirmationRequest,
    ReportConfirmationResponse,
    VerifyUserRequest,
    VerifyUserResponse,
)
from towerwatch.users.v1.user_service_pb2_grpc import UserServiceServicer
from user_manager import accounts
from user_manager.bounces import Bounces
from user_manager.errors import (
    BadConfirmationStateError,
    BadInstantError,
    SessionUnknownError,
    TokenUnknownError,
    TooManyInterestLinksError,
    TooManyUsersError,
)
from user_manager.interest_links import check_number_of_interests
from user_manager.link_language import add_language
from user_manager.model import ConfirmationState
from user_manager.sessions import Sessions

SERVICE_NAME: Final = "towerwatch.users.v1.UserService"

STATUSES: Final[Mapping[type[Exception], grpc.StatusCode]] = {
    TokenUnknownError: grpc.StatusCode.UNAUTHENTICATED,
    SessionUnknownError: grpc.StatusCode.UNAUTHENTICATED,
    TooManyUsersError: grpc.StatusCode.INVALID_ARGUMENT,
    TooManyInterestLinksError: grpc.StatusCode.INVALID_ARGUMENT,
    BadInstantError: grpc.StatusCode.INVALID_ARGUMENT,
    BadConfirmationStateError: grpc.StatusCode.INVALID_ARGUMENT,
    DatabaseUnavailableError: grpc.StatusCode.UNAVAILABLE,
}

_CONFIRMATION_STATES: Final = {
    pb.CONFIRMATION_STATE_WAITING: ConfirmationState.WAITING,
    pb.CONFIRMATION_STATE_SENT: ConfirmationState.SENT,
    pb.CONFIRMATION_STATE_FAILED: ConfirmationState.FAILED,
}


class UserService(UserServiceServicer):
    """The UserService that other services call to authenticate users, query accounts, and report what mails met.

    The server's interceptor maps raised errors to `STATUSES`.
    """

    def __init__(self, use_cases: accounts.Accounts, bounces: Bounces, sessions: Sessions) -> None:
        self._accounts = use_cases
        self._bounces = bounces
        self._sessions = sessions

    def Authenticate(  # noqa: N802 — the contract's name
        self, request: AuthenticateRequest, _context: grpc.ServicerContext
    ) -> AuthenticateResponse:
        """Return the id of the user whom the token or the session belongs to, and if the address is confirmed.

        The token counts if both are given. Raises TokenUnknownError, SessionUnknownError.
        """
        credential: Credential = request.token
        if request.session and not request.token:
            credential = SessionSecret(request.session)
            self._sessions.record_use(credential)
        user = self._accounts.authenticate(credential)
        return AuthenticateResponse(user_id=str(user.user_id), confirmed=user.confirmed)

    def VerifyUser(  # noqa: N802 — the contract's name
        self, request: VerifyUserRequest, _context: grpc.ServicerContext
    ) -> VerifyUserResponse:
        """Return `exists` = True if an account has this address, False if none has."""
        return VerifyUserResponse(exists=self._accounts.is_registered(request.email))

    def GetContacts(  # noqa: N802 — the contract's name
        self, request: GetContactsRequest, _context: grpc.ServicerContext
    ) -> GetContactsResponse:
        """Return the contacts of the requested users, with links to the requested interests; unknown ids are left out.

        Raises TooManyUsersError, TooManyInterestLinksError.
        """
        contacts = self._accounts.load_contacts(request.user_ids, _parse_interests(request))
        return GetContactsResponse(contacts=map(_encode_contact, contacts))

    def ReportBounce(  # noqa: N802 — the contract's name
        self, request: ReportBounceRequest, _context: grpc.ServicerContext
    ) -> ReportBounceResponse:
        """Record a bounce of mail to a user, which may suppress the address. Raises BadInstantError."""
        self._bounces.report(request.user_id, _parse_bounce_time(request))
        return ReportBounceResponse()

    def ReportConfirmation(  # noqa: N802 — the contract's name
        self, request: ReportConfirmationRequest, _context: grpc.ServicerContext
    ) -> ReportConfirmationResponse:
        """Record how far a confirmation mail is. Raises BadConfirmationStateError."""
        state = _CONFIRMATION_STATES.get(request.state)
        if state is None:
            raise BadConfirmationStateError("Say how far the mail is: WAITING, SENT or FAILED.")
        self._accounts.record_confirmation_state(request.user_id, request.confirmation_id, state)
        return ReportConfirmationResponse()


def _encode_contact(contact: accounts.Contact) -> Contact:
    """Return the protobuf message of a contact. Its links open in the language of its mails."""
    account, localize = contact.account, partial(add_language, language=contact.language)
    return Contact(
        user_id=str(account.user_id),
        email=account.email,
        name=account.name,
        time_zone=account.time_zone,
        confirmed=account.confirmed,
        paused=account.paused,
        confirm_url=localize(contact.confirm_url),
        unsubscribe_url=localize(contact.unsubscribe_url),
        suppressed=account.suppressed,
        token_url=localize(contact.token_url),
        stop_url=localize(contact.stop_url),
        without_corrections=not account.corrections,
        sign_in_url=localize(contact.sign_in_url),
        interest_links=[
            InterestLinks(
                interest_id=str(each.interest_id),
                change_url=localize(each.change_url),
                stop_url=localize(each.stop_url),
            )
            for each in contact.interest_links
        ],
        language=contact.language,
    )


def _parse_interests(request: GetContactsRequest) -> Mapping[UUID, Collection[UUID]]:
    """Return the ids of the interests that the request names, each once, by user. Ids that are no UUIDs are left out.

    Raises TooManyInterestLinksError.
    """
    check_number_of_interests([len(each.interest_ids) for each in request.interests])
    return {
        user_id: dict.fromkeys(accounts.parse_valid_uuids(each.interest_ids))
        for each in request.interests
        for user_id in accounts.parse_valid_uuids([each.user_id])
    }


def _parse_bounce_time(request: ReportBounceRequest) -> datetime:
    """Return the reported time of the bounce, in UTC. Raises BadInstantError if it is missing or out of range."""
    if not request.HasField("bounced_at"):
        raise BadInstantError("Say when the mail came back: bounced_at.")
    try:
        return request.bounced_at.ToDatetime(tzinfo=UTC)
    except (ValueError, OverflowError):
        raise BadInstantError("bounced_at is no time that a calendar has.") from None
