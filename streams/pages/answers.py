"""The responses of the pages: from this worker's tables, merged with those of other workers, or forwarded.

Each worker answers for the whole group, so one port that is forwarded to any worker shows all pages. A request from
another worker (header `ASKED_BY`) is answered from this worker's tables alone.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import replace
from http import HTTPStatus
from typing import Final
from uuid import UUID

import faust
from aiohttp.web import Request, Response
from pydantic import ValidationError

from chassis.clock import Clock
from chassis.faust.app import is_ready
from domain.airports import describe_unknown_code, find_airport, is_icao
from domain.interests import Interest
from domain.windows import Window
from streams.join_state import JoinState
from streams.pages import rendering
from streams.pages.agreement import build_agreement
from streams.pages.airport import DETAIL_ADAPTER, AirportDetail, build_airport_detail
from streams.pages.explain import EXPLANATION_ADAPTER, explain_interest
from streams.pages.lights import build_lights
from streams.pages.overview import (
    OVERVIEW_ADAPTER,
    AirportShown,
    Overview,
    WorkerShown,
    build_overview,
    merge_overviews,
    summarize_airport,
)
from streams.pages.pulse import WorkerSampler
from streams.pages.worker import (
    GRAPH_ADAPTER,
    STATE_ADAPTER,
    WorkerState,
    build_graph,
    build_worker_state,
    read_monitor_counters,
)
from streams.recent_activity import RecentActivity
from streams.routing import ASKED_BY, WorkerResponse, Workers, worker_name
from streams.source_client import SourceClient

RESPONSE_HEADERS: Final = {
    "Content-Security-Policy": (
        "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self'; connect-src 'self'; "
        "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
}
"""Headers of every response: a strict content policy, and no caching."""

_OVERVIEW_CACHE_S: Final = 1.0
"""Seconds for which a worker's own overview is cached, so that many viewers cause no more reads of its tables."""

_AIRPORTS_PER_STEP: Final = 20
"""Airports that are read before the event loop runs other tasks: some milliseconds."""

_RECOVERING_NOTE: Final = "is still reading its tables"
_MOVING_NOTE: Final = "The partition of {airport} is moving from one worker to another. That takes seconds; look again."


class PageError(Exception):
    """An error that a page reports instead of its content, with this HTTP status.

    The routes turn it into an error page or, under /api, into problem details. `detail`: the reason, in one or two
    sentences, for the person who looks at the page.
    """

    def __init__(self, status: HTTPStatus, detail: str) -> None:
        super().__init__(detail)
        self.status = status
        self.detail = detail

    @property
    def is_temporary(self) -> bool:
        """True if a later request may succeed (5xx), False if the request itself is wrong (4xx)."""
        return self.status >= HTTPStatus.INTERNAL_SERVER_ERROR


class PageResponder:
    """A builder of the responses to the requests for pages, which all routes of one worker share.

    An `answer_for_…` method chooses the worker that must answer: it calls `answer_here` if that is this worker, else it
    forwards the request and returns the other worker's response. The `render_…` (HTML) and `encode_…` (JSON) methods
    build responses from this worker's own tables and state; they serve as `answer_here`.
    """

    def __init__(
        self,
        app: faust.App,
        join_state: JoinState,
        airports: Iterable[bytes],
        is_owned: Callable[[str], bool],
        activity: RecentActivity,
        clock: Clock,
        sources: SourceClient,
    ) -> None:
        """`airports`: keys of the table of airports. `is_owned`: returns True if this worker owns the airport.

        The caller runs `sampler.take_samples` as a task; without samples, rates are 0 and the loop's lag is unknown.
        """
        self.workers = Workers(app)
        self.sampler = WorkerSampler(lambda: read_monitor_counters(app))
        self._app = app
        self._join_state = join_state
        self._airports = airports
        self._is_owned = is_owned
        self._activity = activity
        self._clock = clock
        self._sources = sources
        self._overview: tuple[float, Overview] | None = None
        self._overview_lock = asyncio.Lock()

    @property
    def own_name(self) -> str:
        """This worker's name: host and port."""
        return worker_name(self.workers.own_url)

    async def load_overview(self, whole_group: bool) -> Overview:
        """Return the overview of all workers if `whole_group`, else that of this worker alone.

        For the whole group the other workers are requested in parallel, and their overviews are merged with this
        worker's. A worker without a usable response is listed with `answered` False and the reason; its airports are
        missing. This worker's own part may be `_OVERVIEW_CACHE_S` old. The lights of the sources are asked for by this
        worker alone.
        """
        if not whole_group:
            return await self._get_own_overview()
        path = "/api/overview?scope=worker"
        own, responses, sources = await asyncio.gather(
            self._get_own_overview(), self.workers.request_others(path), self._sources.find_sources()
        )
        others: list[Overview] = []
        unanswered: list[WorkerShown] = []
        partitions = self.workers.list_partitions()
        for url, response in responses.items():
            overview = _parse_overview(response)
            if overview is None:
                note = "did not answer" if response is None else "answered what this worker does not understand"
                unanswered.append(
                    WorkerShown(worker_name(url), len(partitions.get(url, ())), answered=False, note=note)
                )
            else:
                others.append(overview)
        return replace(merge_overviews(own, others, unanswered), sources=build_lights(sources))

    async def _get_own_overview(self) -> Overview:
        """Return this worker's overview from the cache, or read the tables again if the cache has expired.

        Requests that come while the tables are being read wait for the same result.
        """
        async with self._overview_lock:
            if self._overview is None or time.monotonic() - self._overview[0] > _OVERVIEW_CACHE_S:
                self._overview = (time.monotonic(), await self._read_own_overview())
            return self._overview[1]

    async def _read_own_overview(self) -> Overview:
        """Read this worker's overview from its tables, in steps that let other tasks run.

        While the worker is not ready, the overview has no airports, and lists this worker with `answered` False.
        """
        ready = is_ready(self._app)
        shown: list[AirportShown] = []
        now = self._clock.now()
        if ready:
            await self._finish_index()
            for index, icao in enumerate(sorted(self._list_owned_airports())):
                if index % _AIRPORTS_PER_STEP == 0:
                    await asyncio.sleep(0)
                shown.append(summarize_airport(self._join_state, icao, now))
        partitions = self.workers.list_partitions().get(self.workers.own_url, ())
        worker = WorkerShown(self.own_name, len(partitions), answered=ready, note="" if ready else _RECOVERING_NOTE)
        return build_overview(shown, self._activity, now, [worker])

    async def _finish_index(self) -> None:
        """Finish the index of interests, which a rebalance discards, in small steps that let other tasks run."""
        while self._join_state.index_more_interests():
            await asyncio.sleep(0)

    def _list_owned_airports(self) -> set[str]:
        """Return the codes of the airports with flights or interests that this worker owns.

        The index of interests is finished first, without a pause if `_finish_index` has not done so.
        """
        icaos = {key.decode() for key in self._airports} | set(self._join_state.list_watched_airports())
        return {icao for icao in icaos if self._is_owned(icao)}

    async def answer_for_airport(
        self, request: Request, icao: str, answer_here: Callable[[], Awaitable[Response]]
    ) -> Response:
        """Return the response about an airport: from `answer_here` if this worker owns it, else from its owner.

        A request from another worker is never forwarded. Raises PageError: 404 for a malformed code or an airport
        without flights and interests; 503 if this worker is not ready, or while the partition moves between workers;
        502 if the owner does not respond in time. An owner's own error response is forwarded as it is.
        """
        if not is_icao(icao):
            raise PageError(HTTPStatus.NOT_FOUND, f"{icao[:20]}: {describe_unknown_code(icao[:20])}")
        if self._is_owned(icao):
            if not is_ready(self._app):
                raise PageError(HTTPStatus.SERVICE_UNAVAILABLE, f"The worker that has {icao} {_RECOVERING_NOTE}.")
            await self._finish_index()
            if icao.encode() not in self._airports and not len(self._join_state.find_thresholds(icao)):
                raise PageError(HTTPStatus.NOT_FOUND, _describe_unwatched_airport(icao))
            return await answer_here()
        owner = self.workers.find_owner(icao)
        if owner is None or owner == self.workers.own_url or ASKED_BY in request.headers:
            raise PageError(HTTPStatus.SERVICE_UNAVAILABLE, _MOVING_NOTE.format(airport=icao))
        response = await self.workers.request(owner, request.path_qs)
        if response is None:
            raise PageError(
                HTTPStatus.BAD_GATEWAY,
                f"{icao} is with the worker {worker_name(owner)}, which does not answer. If it is gone, another takes "
                "over within half a minute; look again.",
            )
        return build_forwarded_response(response)

    async def answer_for_interest(
        self, request: Request, text: str, answer_here: Callable[[Interest], Response]
    ) -> Response:
        """Return the response about an interest: this worker's (`answer_here`) if it owns the airport, else another's.

        `text`: the interest's id as requested. The id does not contain the airport: this worker searches its own
        airports, then sends the request to all other workers in parallel and returns the first response with status
        200. A request from another worker is answered from this worker's airports alone. Raises PageError: 404 for an
        invalid id, or if every worker reports that it does not have the interest; 502 if no worker has found the
        interest and some worker is not ready, did not respond, or responded with neither 200 nor 404.
        """
        try:
            interest_id = UUID(text)
        except ValueError:
            raise PageError(HTTPStatus.NOT_FOUND, "An interest is named by its id, a UUID; this is none.") from None
        ready = is_ready(self._app)
        if ready:
            await self._finish_index()
            for icao in self._join_state.list_watched_airports():
                interest = self._join_state.find_interest(icao, interest_id) if self._is_owned(icao) else None
                if interest is not None:
                    return answer_here(interest)
        if ASKED_BY in request.headers:
            responses: dict[str, WorkerResponse | None] = {}
        else:
            by_url = await self.workers.request_others(request.path_qs)
            responses = {worker_name(url): response for url, response in by_url.items()}
        for response in responses.values():
            if response is not None and response.status == HTTPStatus.OK:
                return build_forwarded_response(response)
        unsure = [
            name for name, response in responses.items() if response is None or response.status != HTTPStatus.NOT_FOUND
        ]
        if unsure or not ready:
            who = ", ".join(unsure if ready else [self.own_name, *unsure])
            raise PageError(
                HTTPStatus.BAD_GATEWAY, f"No worker that answers knows this interest; not all could be asked: {who}."
            )
        raise PageError(HTTPStatus.NOT_FOUND, "No interest has this id: it was removed, or never set.")

    async def render_airport_page(self, icao: str, window: Window) -> Response:
        """Return the HTML page of an airport that this worker owns, with charts of one window length."""
        detail = await self._build_airport_detail(icao, window)
        return build_html_response(rendering.render_airport(detail, self.own_name))

    async def encode_airport_json(self, icao: str, window: Window) -> Response:
        """Return the JSON of an airport that this worker owns: the data of `render_airport_page`."""
        detail = await self._build_airport_detail(icao, window)
        return build_json_response(DETAIL_ADAPTER.dump_json(detail))

    async def _build_airport_detail(self, icao: str, window: Window) -> AirportDetail:
        """Build the data of an airport that this worker owns, with its agreement as far as the collector tells it."""
        agreement = build_agreement(await self._sources.find_agreement(icao))
        detail = build_airport_detail(
            self._join_state, icao, window, self._clock.now(), self._activity.list_alert_groups(icao)
        )
        return replace(detail, agreement=agreement)

    def render_explain_page(self, interest: Interest, page: int, only_said: bool) -> Response:
        """Return the HTML page that explains an interest's alerts; this worker must own the interest's airport.

        `page`: number of the page of its table, from 1. `only_said`: show only the windows that have an alert.
        """
        explanation = explain_interest(self._join_state, interest, self._clock.now())
        return build_html_response(rendering.render_explanation(explanation, page, only_said, self.own_name))

    def encode_explain_json(self, interest: Interest) -> Response:
        """Return the JSON that explains an interest's alerts: all windows, since JSON has no pages."""
        explanation = explain_interest(self._join_state, interest, self._clock.now())
        return build_json_response(EXPLANATION_ADAPTER.dump_json(explanation))

    async def answer_for_worker(self, request: Request, answer_here: Callable[[], Response]) -> Response:
        """Return the response about one worker: from `answer_here` if that is this worker, else from the worker itself.

        The query's parameter `worker` names the worker (host and port); without it, and for a request from another
        worker, it is this one. Raises PageError: 404 if the group has no worker of that name, 502 if the worker does
        not respond in time.
        """
        name = request.query.get("worker", self.own_name)
        if name == self.own_name or ASKED_BY in request.headers:
            return answer_here()
        # Only members of the consumer group are requested: a name in a query must not send a request anywhere else.
        url = next((other for other in self.workers.list_others() if worker_name(other) == name), None)
        if url is None:
            raise PageError(HTTPStatus.NOT_FOUND, "No worker of this group has that name; it may have left.")
        response = await self.workers.request(url, request.path_qs)
        if response is None:
            raise PageError(HTTPStatus.BAD_GATEWAY, f"The worker {name} does not answer.")
        return build_forwarded_response(response)

    def render_stats_page(self) -> Response:
        """Return the page of this worker's state."""
        return build_html_response(rendering.render_stats(self._build_state()))

    def encode_stats_json(self) -> Response:
        """Return the JSON of this worker's state."""
        return build_json_response(STATE_ADAPTER.dump_json(self._build_state()))

    def render_graph_page(self) -> Response:
        """Return the page of this worker's processing graph."""
        return build_html_response(rendering.render_graph(build_graph(self._build_state())))

    def encode_graph_json(self) -> Response:
        """Return the JSON of this worker's processing graph."""
        return build_json_response(GRAPH_ADAPTER.dump_json(build_graph(self._build_state())))

    def _build_state(self) -> WorkerState:
        return build_worker_state(self._app, self.workers, self.sampler, self._clock.now())


def _parse_overview(response: WorkerResponse | None) -> Overview | None:
    """Return the overview in another worker's response.

    Return None without a response, for a status other than 200, or if the body cannot be decoded.
    """
    if response is None or response.status != HTTPStatus.OK:
        return None
    try:
        return OVERVIEW_ADAPTER.validate_json(response.body)
    except ValidationError:
        return None


def _describe_unwatched_airport(icao: str) -> str:
    """Return the text for an airport without a page: its code is unknown, or it has neither interests nor flights."""
    airport = find_airport(icao)
    if airport is None:
        return f"{icao}: {describe_unknown_code(icao)}"
    return f"{airport.name} ({icao}) is not watched: no interest names it, and no flights of it were observed."


def build_html_response(text: str, status: int = HTTPStatus.OK) -> Response:
    """Build a response of HTML with the headers of all pages."""
    return Response(text=text, status=status, content_type="text/html", headers=RESPONSE_HEADERS)


def build_json_response(body: bytes, status: int = HTTPStatus.OK, content_type: str = "application/json") -> Response:
    """Build a response of JSON with the headers of all pages."""
    return Response(body=body, status=status, headers={**RESPONSE_HEADERS, "Content-Type": content_type})


def build_forwarded_response(response: WorkerResponse) -> Response:
    """Build a response from another worker's: its body, status and content type, with the headers of all pages."""
    headers = {**RESPONSE_HEADERS, "Content-Type": response.content_type}
    return Response(body=response.body, status=response.status, headers=headers)
