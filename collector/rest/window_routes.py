"""The REST routes about what an interest's windows were, what was alerted, and former versions of interests."""

import hashlib
from collections.abc import Callable, Sequence
from uuid import UUID

from flask import Blueprint, Response

from chassis.credentials import Credential
from chassis.web.http import Reply, parse_query, read_bearer_token
from chassis.web.openapi import ResponseDescription, describe
from chassis.web.preconditions import IF_NONE_MATCH, format_weak_tag, is_known_to_client
from collector.interests import InterestStore
from collector.read_limits import ReadLimit
from collector.rest.requests import WindowsQuery
from collector.rest.users import Authenticator, Caller, require_confirmed
from collector.rest.window_answers import FormerInterests, InterestWindows
from collector.settled.learning import LearningEnds
from collector.windows import WindowQueries, WindowRequest
from domain.interests import Interest

_ETAG = {"ETag": "Send it in If-None-Match, to be told that nothing has changed."}


def window_blueprint(
    windows: WindowQueries,
    interests: InterestStore,
    users: Authenticator,
    read_limit: ReadLimit,
    learning_ends_of: Callable[[Sequence[Interest]], LearningEnds],
    read_credential: Callable[[], Credential] = read_bearer_token,
) -> Blueprint:
    """Build the routes, for users with a confirmed address. Every response forbids caches to store it.

    `read_limit` counts the answers that are computed; `learning_ends_of` returns until when interests in percent are
    not judged; `read_credential` what identifies the
    user of the present request.
    """
    routes = Blueprint("windows", __name__)

    def authenticate() -> Caller:
        """Return the user of the request. Raises NotConfirmedError, NotAuthenticatedError."""
        return require_confirmed(users.authenticate(read_credential(), reads_only=True))

    @routes.get("/interests/<uuid:interest_id>/windows")
    @describe(
        "Say what an interest's windows were, and what was alerted",
        auth="user",
        query=WindowsQuery,
        headers=(IF_NONE_MATCH,),
        answers={
            200: ResponseDescription(InterestWindows, headers=_ETAG),
            304: ResponseDescription(description="Nothing has changed since.", headers=_ETAG),
        },
        problems=(404, 429, 503),
        is_compressed=True,
    )
    def interest_windows(interest_id: UUID) -> Reply:
        """Reply with the windows of one of the caller's interests, or 304 if the caller has this answer already."""
        caller = authenticate()
        query = parse_query(WindowsQuery)
        request = WindowRequest(caller.user_id, interest_id, query.begin, query.end, query.whole)
        interest, stored_tag = windows.find_tag(request)
        ends = learning_ends_of([interest])
        tag = _add_learning(stored_tag, ends, interest_id)
        if is_known_to_client(tag):
            return Reply(status=304, headers={"ETag": format_weak_tag(tag)})
        read_limit.count_read(caller.user_id)
        found, stored_tag = windows.find_windows(request)
        tag = _add_learning(stored_tag, ends, interest_id)
        return Reply(InterestWindows.build(found, ends), headers={"ETag": format_weak_tag(tag)})

    @routes.get("/interests/versions")
    @describe(
        "List the former versions of your interests, also of removed ones; they are kept for 40 days",
        auth="user",
        answers={200: ResponseDescription(FormerInterests)},
        problems=(503,),
    )
    def former_versions() -> Reply:
        """Reply with the former versions of the caller's interests, the oldest first."""
        return Reply(FormerInterests.build(interests.list_former_versions(authenticate().user_id)))

    @routes.after_request
    def keep_out_of_caches(response: Response) -> Response:
        """Forbid caches to store the response."""
        response.headers["Cache-Control"] = "no-store"
        return response

    return routes


def _add_learning(tag: str, ends: LearningEnds, interest_id: UUID) -> str:
    """Return a tag that also changes with the time until which an interest learns, and with a failure of the source."""
    until = ends.get(interest_id)
    return tag if until is None else hashlib.sha256(f"{tag} {until} {ends.failed_at}".encode()).hexdigest()[:32]
