"""The collector's gRPC services: each method parses a request, makes one call, translates the result."""

from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Final
from uuid import UUID

import grpc
from google.protobuf.timestamp_pb2 import Timestamp

from chassis.errors import DatabaseUnavailableError
from collector.errors import BadCursorError, BadInterestIdError, BadUserIdError, CallerGoneError, NoSuchInterestError
from collector.interest_versions import FormerVersion
from collector.interests import InterestStore
from collector.live.reports import FeedReport
from collector.live.status import LiveState
from collector.messages import build_interest_set
from collector.person_export import PersonExports, PersonRecord, StoredInterest
from collector.settled.coverage_report import LiveReport
from collector.settled.status import RecordState
from domain.interests import Direction
from towerwatch.collection.v1 import source_service_pb2 as sources_pb
from towerwatch.collection.v1.source_service_pb2_grpc import SourceServiceServicer
from towerwatch.flights.v1 import events_pb2 as flights_pb
from towerwatch.interests.v1 import interest_service_pb2 as interests_pb
from towerwatch.interests.v1.interest_service_pb2 import (
    DeleteInterestRequest,
    DeleteInterestResponse,
    DeleteInterestsRequest,
    DeleteInterestsResponse,
    GetInterestRequest,
    GetInterestResponse,
)
from towerwatch.interests.v1.interest_service_pb2_grpc import InterestServiceServicer

SERVICE_NAME: Final = "towerwatch.interests.v1.InterestService"
SOURCES_NAME: Final = "towerwatch.collection.v1.SourceService"

STATUSES: Final[Mapping[type[Exception], grpc.StatusCode]] = {
    BadCursorError: grpc.StatusCode.INVALID_ARGUMENT,
    BadUserIdError: grpc.StatusCode.INVALID_ARGUMENT,
    BadInterestIdError: grpc.StatusCode.INVALID_ARGUMENT,
    CallerGoneError: grpc.StatusCode.DEADLINE_EXCEEDED,
    DatabaseUnavailableError: grpc.StatusCode.UNAVAILABLE,
}


class InterestService(InterestServiceServicer):
    """The gRPC service by which other services read, delete and export what is kept about a user.

    The server's interceptor maps errors by `STATUSES`.
    """

    def __init__(self, interests: InterestStore, exports: PersonExports) -> None:
        self._interests = interests
        self._exports = exports

    def DeleteInterests(  # noqa: N802 - the contract's name
        self, request: DeleteInterestsRequest, context: grpc.ServicerContext
    ) -> DeleteInterestsResponse:
        """Delete all interests of a user in one transaction, and reply with their number; 0 is no error.

        Raises BadUserIdError, and CallerGoneError if the call's deadline passes before the commit: nothing is deleted
        then.
        """
        user_id = _parse_user_id(request.user_id)
        return DeleteInterestsResponse(deleted=self._interests.remove_all(user_id, context.is_active))

    def GetInterest(  # noqa: N802 - the contract's name
        self, request: GetInterestRequest, _context: grpc.ServicerContext
    ) -> GetInterestResponse:
        """Reply with one interest of a user, or without one if the user has no such interest.

        Raises BadUserIdError, BadInterestIdError, DatabaseUnavailableError.
        """
        user_id, interest_id = _parse_user_id(request.user_id), _parse_interest_id(request.interest_id)
        try:
            return GetInterestResponse(interest=build_interest_set(self._interests.get(user_id, interest_id)))
        except NoSuchInterestError:
            return GetInterestResponse()

    def DeleteInterest(  # noqa: N802 - the contract's name
        self, request: DeleteInterestRequest, context: grpc.ServicerContext
    ) -> DeleteInterestResponse:
        """Delete one interest of a user, and reply with it, or without one if the user has no such interest.

        Raises BadUserIdError, BadInterestIdError, DatabaseUnavailableError, and CallerGoneError if the call's deadline
        passes before the commit: nothing is deleted then.
        """
        user_id, interest_id = _parse_user_id(request.user_id), _parse_interest_id(request.interest_id)
        try:
            removed = self._interests.remove(user_id, interest_id, context.is_active)
        except NoSuchInterestError:
            return DeleteInterestResponse()
        return DeleteInterestResponse(interest=build_interest_set(removed))

    def ExportPerson(  # noqa: N802 - the contract's name
        self, request: interests_pb.ExportPersonRequest, context: grpc.ServicerContext
    ) -> interests_pb.ExportPersonResponse:
        """Reply with a page of what is kept about a user.

        Raises BadUserIdError, BadCursorError, DatabaseUnavailableError.
        """
        page = self._exports.load_page(_parse_user_id(request.user_id), request.page_token)
        return interests_pb.ExportPersonResponse(
            interests=[_to_stored_interest(each) for each in page.interests],
            person=None if page.person is None else _to_person_record(page.person),
            unheard_notices=page.unheard_notices,
            retired_notices=page.retired_notices,
            former_interests=[_to_former_interest(each) for each in page.former_versions],
            next_page_token=page.next_token,
        )


class SourceService(SourceServiceServicer):
    """The gRPC service that tells operators' pages of the sources; any replica answers, from the database."""

    def __init__(
        self,
        load_record: Callable[[], RecordState],
        load_feeds: Callable[[], LiveState],
        load_live: Callable[[str], Mapping[Direction, LiveReport]],
    ) -> None:
        """`load_live` returns what is known of the live coverage of an airport, by its ICAO code."""
        self._load_record = load_record
        self._load_feeds = load_feeds
        self._load_live = load_live

    def GetSources(  # noqa: N802 - the contract's name
        self, request: sources_pb.GetSourcesRequest, context: grpc.ServicerContext
    ) -> sources_pb.GetSourcesResponse:
        """Reply with the state of all sources. Raises DatabaseUnavailableError."""
        record, live = self._load_record(), self._load_feeds()
        reply = sources_pb.GetSourcesResponse(
            at=_to_timestamp(record.at), feeds=[_to_feed_source(each) for each in live.feeds]
        )
        reply.record.credits.budget, reply.record.credits.left = record.budget, max(record.left, 0)
        reply.record.lag_seconds = record.lag_s
        reply.record.error = record.error or ""
        if record.paused_until is not None:
            reply.record.paused_until.CopyFrom(_to_timestamp(record.paused_until))
        if live.budget is not None:
            reply.position_credits.budget, reply.position_credits.left = live.budget, max(live.left or 0, 0)
        return reply

    def GetAgreement(  # noqa: N802 - the contract's name
        self, request: sources_pb.GetAgreementRequest, context: grpc.ServicerContext
    ) -> sources_pb.GetAgreementResponse:
        """Reply with the agreement of an airport, of both directions. Raises DatabaseUnavailableError."""
        reports = self._load_live(request.airport)
        return sources_pb.GetAgreementResponse(
            directions=[
                sources_pb.DirectionAgreement(
                    direction=flights_pb.Direction.Value(f"DIRECTION_{direction.name}"),
                    is_trusted=report.is_trusted,
                    days=[
                        sources_pb.DayAgreement(
                            day=_to_timestamp(each.day),
                            recorded=each.recorded,
                            live=each.live,
                            matched=each.matched,
                        )
                        for each in report.agreements
                    ],
                )
                for direction, report in reports.items()
            ]
        )


def _parse_user_id(text: str) -> UUID:
    """Return the user id of a request. Raises BadUserIdError."""
    try:
        return UUID(text)
    except ValueError:
        raise BadUserIdError("user_id must be a UUID") from None


def _parse_interest_id(text: str) -> UUID:
    """Return the interest's id of a request. Raises BadInterestIdError."""
    try:
        return UUID(text)
    except ValueError:
        raise BadInterestIdError("interest_id must be a UUID") from None


def _to_stored_interest(stored: StoredInterest) -> interests_pb.StoredInterest:
    """Return the protobuf message of a stored interest."""
    return interests_pb.StoredInterest(
        interest=build_interest_set(stored.interest),
        created_at=_to_timestamp(stored.created_at),
        updated_at=_to_timestamp(stored.updated_at),
        told_version=stored.told_version,
    )


def _to_former_interest(version: FormerVersion) -> interests_pb.FormerInterest:
    """Return the protobuf message of a former version of an interest."""
    return interests_pb.FormerInterest(
        interest=build_interest_set(version.interest),
        since=_to_timestamp(version.since),
        until=_to_timestamp(version.until),
    )


def _to_person_record(record: PersonRecord) -> interests_pb.PersonRecord:
    """Return the protobuf message of the counts that limit a person's changes and reads."""
    until = record.past_windows_until
    return interests_pb.PersonRecord(
        paid=record.paid,
        minute=None if record.minute is None else _to_timestamp(record.minute),
        writes=record.writes,
        past_windows_until=None if until is None else _to_timestamp(until),
        read_minute=None if record.read_minute is None else _to_timestamp(record.read_minute),
        reads=record.reads,
    )


def _to_feed_source(report: FeedReport) -> sources_pb.FeedSource:
    """Return the protobuf message of a feed's report, with the airports that it covers and does not cover."""
    at = report.last_poll_at
    return sources_pb.FeedSource(
        name=report.feed,
        last_poll_at=None if at is None else _to_timestamp(datetime.fromtimestamp(at, UTC)),
        aircraft=report.aircraft,
        interval_seconds=report.interval_s,
        live_airports=report.live,
        settled_airports=report.settled,
        error=report.error or "",
    )


def _to_timestamp(instant: datetime) -> Timestamp:
    """Return the message of an aware instant."""
    stamp = Timestamp()
    stamp.FromDatetime(instant)
    return stamp
