"""Read-only pages of a worker: the airports whose partitions it owns. For operators, not routed from outside."""

import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass

import faust
from aiohttp.web import Response
from jinja2 import Environment, PackageLoader, StrictUndefined

from domain.airports import airport
from domain.traffic import Flow
from domain.windows import HOUR_S, instant
from streams.desk import Desk

SHOWN_HOURS = 48
"""How many of the last covered hours a page shows."""

_TEMPLATES = Environment(
    loader=PackageLoader("streams"), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
)


@dataclass(frozen=True, slots=True)
class FlowShown:
    """One direction of an airport."""

    watermark: str | None
    """Up to where it is covered, ISO 8601."""
    hours: tuple[int, ...]
    """Flights in each of the last covered hours, the newest last."""


@dataclass(frozen=True, slots=True)
class AirportShown:
    """One airport of this worker."""

    icao: str
    name: str
    arrivals: FlowShown
    departures: FlowShown
    interests: int


def serve_pages(app: faust.App, desk: Desk, airports: Iterable[bytes], is_owned: Callable[[str], bool]) -> None:
    """Adds /overview (for people) and /api/airports (the same as JSON) to Faust's pages.

    `is_owned` tells whether an airport's partition is this worker's: tables in memory keep what they had of others.
    """

    def owned() -> Iterator[AirportShown]:
        return shown(desk, (icao for key in airports if is_owned(icao := key.decode())))

    @app.page("/overview")
    async def as_page(_view, _request):  # type: ignore[no-untyped-def]
        return Response(text=overview(owned()), content_type="text/html")

    @app.page("/api/airports")
    async def as_json(_view, _request):  # type: ignore[no-untyped-def]
        return Response(text=json.dumps([asdict(each) for each in owned()]), content_type="application/json")


def overview(airports: Iterable[AirportShown]) -> str:
    """The page for people. It works without JavaScript."""
    return _TEMPLATES.get_template("overview.html").render(airports=list(airports), hours=SHOWN_HOURS)


def shown(desk: Desk, airports: Iterable[str]) -> Iterator[AirportShown]:
    """What is known of airports, by code."""
    for icao in sorted(airports):
        _, traffic = desk.traffic(icao)
        known = airport(icao)
        yield AirportShown(
            icao=icao,
            name=known.name if known else "",
            arrivals=_flow_shown(traffic.arrivals),
            departures=_flow_shown(traffic.departures),
            interests=len(desk.interests(icao)),
        )


def _flow_shown(flow: Flow) -> FlowShown:
    if flow.watermark is None or flow.covered_from is None:
        return FlowShown(None, ())
    last = flow.watermark // HOUR_S
    first = max(last - SHOWN_HOURS, flow.covered_from // HOUR_S)
    hours = tuple(flow.counts.total(hour, 1) for hour in range(first, last))
    return FlowShown(f"{instant(flow.watermark):%Y-%m-%dT%H:%MZ}", hours)
