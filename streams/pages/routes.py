"""The pages' addresses. Read-only, for operators, not routed from outside (`docs/design.md`, "Who may do what")."""

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
from streams.pages.answers import HEADERS, Pages, Sorry, as_json, html
from streams.pages.overview import AIRPORTS, OVERVIEW
from streams.recent_activity import RecentActivity
from streams.routing import ASKED_BY


def serve_pages(
    app: faust.App,
    desk: JoinState,
    airports: Iterable[bytes],
    is_owned: Callable[[str], bool],
    ticker: RecentActivity,
    clock: Clock,
) -> None:
    """Adds the pages for people, and the same as JSON under /api, to Faust's pages.

    `airports`: the keys of the table of airports. `is_owned` tells whether an airport's partition is this worker's:
    tables in memory keep what they had of others. `clock`: the one that the flights are of.
    """
    pages = Pages(app, desk, airports, is_owned, ticker, clock)
    app.task(pages.pulse.beat)

    def page(path: str, name: str, answer: Callable[..., Awaitable[Response]]) -> None:
        is_api = path.startswith("/api/")

        async def view(_view, request, **parts):  # type: ignore[no-untyped-def]
            try:
                return await answer(request, **parts)
            except Sorry as sorry:
                return _sorry_json(sorry) if is_api else _sorry_html(sorry, pages.name)

        view.__name__ = name
        app.page(path, name=name)(view)

    async def overview(request: Request) -> Response:
        shown = await pages.overview(of_all=True)
        only_breaches = request.query.get("show") == "breaches"
        return html(rendering.overview_page(shown, _page(request), only_breaches, pages.name))

    async def overview_json(request: Request) -> Response:
        return as_json(OVERVIEW.dump_json(await pages.overview(_of_all(request))))

    async def airports_json(request: Request) -> Response:
        return as_json(AIRPORTS.dump_json((await pages.overview(_of_all(request))).airports))

    async def found(request: Request) -> Response:
        wanted = request.query.get("find", "").strip()
        return Response(status=HTTPStatus.SEE_OTHER, headers={**HEADERS, "Location": _where(wanted)})

    async def airport(request: Request, icao: str) -> Response:
        icao, window = icao.upper(), _window(request)
        return await pages.of_airport(request, icao, lambda: pages.airport_html(icao, window))

    async def airport_json(request: Request, icao: str) -> Response:
        icao, window = icao.upper(), _window(request)
        return await pages.of_airport(request, icao, lambda: pages.airport_json(icao, window))

    async def explain(request: Request, interest_id: str) -> Response:
        page, only_said = _page(request), request.query.get("show") == "said"
        return await pages.of_interest(
            request, interest_id, lambda interest: pages.explain_html(interest, page, only_said)
        )

    async def explain_json(request: Request, interest_id: str) -> Response:
        return await pages.of_interest(request, interest_id, pages.explain_json)

    async def stats(request: Request) -> Response:
        return await pages.of_worker(request, pages.stats_html)

    async def stats_json(request: Request) -> Response:
        return await pages.of_worker(request, pages.stats_json)

    async def graph(request: Request) -> Response:
        return await pages.of_worker(request, pages.graph_html)

    async def graph_json(request: Request) -> Response:
        return await pages.of_worker(request, pages.graph_json)

    async def static(_request: Request, name: str) -> Response:
        found = rendering.STATIC.get(name)
        if found is None:
            raise Sorry(HTTPStatus.NOT_FOUND, "There is no such file.")
        kept = {"Cache-Control": "public, max-age=31536000, immutable"}
        return Response(body=found.body, content_type=found.content_type, charset="utf-8", headers=HEADERS | kept)

    page("/overview", "overview", overview)
    page("/airports", "found", found)
    page("/airports/{icao}", "airport", airport)
    page("/explain/{interest_id}", "explain", explain)
    page("/stats", "stats", stats)
    page("/graph", "graph", graph)
    page("/static/{name}", "static", static)
    page("/api/overview", "overview_json", overview_json)
    page("/api/airports", "airports_json", airports_json)
    page("/api/airports/{icao}", "airport_json", airport_json)
    page("/api/explain/{interest_id}", "explain_json", explain_json)
    page("/api/stats", "stats_json", stats_json)
    page("/api/graph", "graph_json", graph_json)


def _where(wanted: str) -> str:
    """The page of what somebody looks for: an interest's id, or else an airport's code, which its page finds wrong."""
    with suppress(ValueError):
        return f"/explain/{UUID(wanted)}"
    return f"/airports/{quote(wanted.upper()[:20], safe='')}" if wanted else "/overview"


def _of_all(request: Request) -> bool:
    return request.query.get("scope") != "worker" and ASKED_BY not in request.headers


def _page(request: Request) -> int:
    text = request.query.get("page", "1")
    return int(text) if text.isascii() and text.isdigit() and len(text) < 7 else 1


def _window(request: Request) -> Window:
    text = request.query.get("window", Window.ONE_HOUR)
    try:
        return Window(text)
    except ValueError:
        raise Sorry(HTTPStatus.NOT_FOUND, "A window is 1h, 6h or 1d long.") from None


def _sorry_html(sorry: Sorry, answered_by: str) -> Response:
    titles = {HTTPStatus.NOT_FOUND: "Not found", HTTPStatus.BAD_GATEWAY: "No answer"}
    title = titles.get(sorry.status, "Not ready")
    return html(rendering.sorry_page(title, sorry.says, sorry.is_temporary, answered_by), sorry.status)


def _sorry_json(sorry: Sorry) -> Response:
    """Problem details, RFC 9457."""
    problem = {"title": sorry.status.phrase, "status": sorry.status.value, "detail": sorry.says}
    return as_json(json.dumps(problem).encode(), sorry.status, "application/problem+json")
