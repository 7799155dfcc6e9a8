"""The URLs of the pages and of their JSON.

Read-only, for operators, not routed from outside (`docs/design.md`, "Who may do what").
"""

import json
from collections.abc import Awaitable, Callable, Iterable
from contextlib import suppress
from http import HTTPStatus
from urllib.parse import quote
from uuid import UUID

import faust
from aiohttp.web import Request, Response

from chassis.clock import Clock
from domain.windows import Window
from streams.join_state import JoinState
from streams.pages import rendering
from streams.pages.answers import RESPONSE_HEADERS, PageError, PageResponder, build_html_response, build_json_response
from streams.pages.overview import AIRPORTS_ADAPTER, OVERVIEW_ADAPTER
from streams.recent_activity import RecentActivity
from streams.routing import ASKED_BY
from streams.source_client import SourceClient


def serve_pages(
    app: faust.App,
    join_state: JoinState,
    airports: Iterable[bytes],
    is_owned: Callable[[str], bool],
    activity: RecentActivity,
    clock: Clock,
    sources: SourceClient,
) -> None:
    """Add the pages for people, and the same data as JSON under /api, to the app's web server.

    Also adds the task to the app that samples the event loop's lag and the counters while the app runs.
    `airports`: the keys of the table of airports. `is_owned`: returns True if this worker owns the airport's partition;
    tables in memory also keep entries of partitions that other workers own now. `clock`: the clock of the flights.
    `sources`: the client of the collector's state of its sources, which the app closes.
    """
    responder = PageResponder(app, join_state, airports, is_owned, activity, clock, sources)
    app.task(responder.sampler.take_samples)

    def add_page(path: str, name: str, answer: Callable[..., Awaitable[Response]]) -> None:
        """Add a page, which `answer` builds. A PageError becomes an error page, or problem details under /api."""
        is_api = path.startswith("/api/")

        async def view(_view, request, **parts):  # type: ignore[no-untyped-def]
            try:
                return await answer(request, **parts)
            except PageError as error:
                return _build_problem_response(error) if is_api else _build_error_page(error, responder.own_name)

        view.__name__ = name
        app.page(path, name=name)(view)

    async def get_overview(request: Request) -> Response:
        overview = await responder.load_overview(whole_group=True)
        only_breaches = request.query.get("show") == "breaches"
        return build_html_response(
            rendering.render_overview(overview, _parse_page_number(request), only_breaches, responder.own_name)
        )

    async def get_overview_json(request: Request) -> Response:
        overview = await responder.load_overview(_is_whole_group_requested(request))
        return build_json_response(OVERVIEW_ADAPTER.dump_json(overview))

    async def get_airports_json(request: Request) -> Response:
        overview = await responder.load_overview(_is_whole_group_requested(request))
        return build_json_response(AIRPORTS_ADAPTER.dump_json(overview.airports))

    async def get_search_page(request: Request) -> Response:
        wanted = request.query.get("find", "").strip()
        return Response(
            status=HTTPStatus.SEE_OTHER, headers={**RESPONSE_HEADERS, "Location": _choose_search_page(wanted)}
        )

    async def get_airport(request: Request, icao: str) -> Response:
        icao, window = icao.upper(), _parse_window(request)
        return await responder.answer_for_airport(request, icao, lambda: responder.render_airport_page(icao, window))

    async def get_airport_json(request: Request, icao: str) -> Response:
        icao, window = icao.upper(), _parse_window(request)
        return await responder.answer_for_airport(request, icao, lambda: responder.encode_airport_json(icao, window))

    async def get_explain(request: Request, interest_id: str) -> Response:
        page, only_said = _parse_page_number(request), request.query.get("show") == "said"
        return await responder.answer_for_interest(
            request, interest_id, lambda interest: responder.render_explain_page(interest, page, only_said)
        )

    async def get_explain_json(request: Request, interest_id: str) -> Response:
        return await responder.answer_for_interest(request, interest_id, responder.encode_explain_json)

    async def get_stats(request: Request) -> Response:
        return await responder.answer_for_worker(request, responder.render_stats_page)

    async def get_stats_json(request: Request) -> Response:
        return await responder.answer_for_worker(request, responder.encode_stats_json)

    async def get_graph(request: Request) -> Response:
        return await responder.answer_for_worker(request, responder.render_graph_page)

    async def get_graph_json(request: Request) -> Response:
        return await responder.answer_for_worker(request, responder.encode_graph_json)

    async def get_static_file(_request: Request, name: str) -> Response:
        file = rendering.STATIC_FILES.get(name)
        if file is None:
            raise PageError(HTTPStatus.NOT_FOUND, "There is no such file.")
        caching = {"Cache-Control": "public, max-age=31536000, immutable"}
        return Response(
            body=file.body, content_type=file.content_type, charset="utf-8", headers=RESPONSE_HEADERS | caching
        )

    add_page("/overview", "overview", get_overview)
    add_page("/airports", "found", get_search_page)
    add_page("/airports/{icao}", "airport", get_airport)
    add_page("/explain/{interest_id}", "explain", get_explain)
    add_page("/stats", "stats", get_stats)
    add_page("/graph", "graph", get_graph)
    add_page("/static/{name}", "static", get_static_file)
    add_page("/api/overview", "overview_json", get_overview_json)
    add_page("/api/airports", "airports_json", get_airports_json)
    add_page("/api/airports/{icao}", "airport_json", get_airport_json)
    add_page("/api/explain/{interest_id}", "explain_json", get_explain_json)
    add_page("/api/stats", "stats_json", get_stats_json)
    add_page("/api/graph", "graph_json", get_graph_json)


def _choose_search_page(wanted: str) -> str:
    """Return the path of the page for a search text: of an interest for a UUID, else of an airport, valid or not.

    Return the overview's path for an empty text. An airport's code is put in upper case and cut to 20 characters.
    """
    with suppress(ValueError):
        return f"/explain/{UUID(wanted)}"
    return f"/airports/{quote(wanted.upper()[:20], safe='')}" if wanted else "/overview"


def _is_whole_group_requested(request: Request) -> bool:
    """Return True if a request is about the whole group, False if about this worker alone.

    False for `scope=worker` in the query, and for a request from another worker.
    """
    return request.query.get("scope") != "worker" and ASKED_BY not in request.headers


def _parse_page_number(request: Request) -> int:
    """Return the page number in the query; 1 if the number is missing or invalid, or has more than six digits."""
    text = request.query.get("page", "1")
    return int(text) if text.isascii() and text.isdigit() and len(text) < 7 else 1


def _parse_window(request: Request) -> Window:
    """Return the window length in the query, one hour if it is missing. Raises PageError (404) if it is invalid."""
    text = request.query.get("window", Window.ONE_HOUR)
    try:
        return Window(text)
    except ValueError:
        raise PageError(HTTPStatus.NOT_FOUND, "A window is 1h, 6h or 1d long.") from None


def _build_error_page(error: PageError, answered_by: str) -> Response:
    """Build the HTML page that reports an error, with the error's status and a title that fits the status."""
    titles = {HTTPStatus.NOT_FOUND: "Not found", HTTPStatus.BAD_GATEWAY: "No answer"}
    title = titles.get(error.status, "Not ready")
    return build_html_response(
        rendering.render_error(title, error.detail, error.is_temporary, answered_by), error.status
    )


def _build_problem_response(error: PageError) -> Response:
    """Build the response with the problem details of an error as JSON (RFC 9457), with the error's status."""
    problem = {"title": error.status.phrase, "status": error.status.value, "detail": error.detail}
    return build_json_response(json.dumps(problem).encode(), error.status, "application/problem+json")
