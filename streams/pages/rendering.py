"""HTML from what is known. Pages carry no inline script or style, so that the browser may be told to refuse both."""

import hashlib
from dataclasses import dataclass
from importlib.resources import files
from typing import Final

from jinja2 import Environment, PackageLoader, StrictUndefined

from domain.alerts import Bound
from domain.interests import Direction
from domain.windows import Window
from streams.pages import wording
from streams.pages.airport import AirportDetail, Known
from streams.pages.charts import chart, spark
from streams.pages.explain import WINDOWS_A_PAGE, Explained, in_words
from streams.pages.overview import AIRPORTS_A_PAGE, SHOWN_HOURS, SHOWN_SECONDS, Overview
from streams.pages.worker import Graph, WorkerState

UPDATE_S: Final = 2
"""How often a page that is looked at fetches itself again."""

_CONTENT_TYPES: Final = {"css": "text/css", "js": "text/javascript", "svg": "image/svg+xml"}


@dataclass(frozen=True, slots=True)
class StaticFile:
    """A file that pages refer to."""

    content_type: str
    body: bytes


def _static_files() -> dict[str, StaticFile]:
    folder = files("streams") / "static"
    return {
        each.name: StaticFile(_CONTENT_TYPES[each.name.rpartition(".")[2]], each.read_bytes())
        for each in folder.iterdir()
        if each.name.rpartition(".")[2] in _CONTENT_TYPES
    }


STATIC: Final = _static_files()

_VERSION: Final = hashlib.sha256(b"".join(STATIC[name].body for name in sorted(STATIC))).hexdigest()[:12]
"""Part of each reference to a static file, which browsers therefore may keep for ever."""

_TEMPLATES: Final = Environment(
    loader=PackageLoader("streams"), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
)
_TEMPLATES.globals.update(
    Bound=Bound,
    Direction=Direction,
    Known=Known,
    Window=Window,
    chart=chart,
    spark=spark,
    signs=wording.SIGNS,
    windows=wording.WINDOWS,
    per_window=wording.PER_WINDOW,
    version=_VERSION,
    update_s=UPDATE_S,
)
_TEMPLATES.filters.update(
    number=wording.number,
    plural=wording.plural,
    rate=wording.rate,
    duration=wording.duration,
    moment=wording.moment,
    full_moment=wording.full_moment,
    from_iso=wording.from_iso,
    flights=wording.flights,
    counted=wording.counted,
    run=wording.run,
)
_TEMPLATES.globals.update(limit=wording.limit, stretch=wording.stretch, window_of=wording.window_of)


def overview_page(overview: Overview, page: int, only_breaches: bool, answered_by: str) -> str:
    """The overview. `page` counts from 1; one beyond the last is the last."""
    airports = overview.airports_in_breach if only_breaches else overview.airports
    pages = max(-(-len(airports) // AIRPORTS_A_PAGE), 1)
    page = min(max(page, 1), pages)
    return _TEMPLATES.get_template("overview.html").render(
        overview=overview,
        airports=airports[(page - 1) * AIRPORTS_A_PAGE : page * AIRPORTS_A_PAGE],
        page=page,
        pages=pages,
        only_breaches=only_breaches,
        hours=SHOWN_HOURS,
        seconds=SHOWN_SECONDS,
        answered_by=answered_by,
    )


def airport_page(detail: AirportDetail, answered_by: str) -> str:
    """One airport, by windows of one length."""
    return _TEMPLATES.get_template("airport.html").render(detail=detail, answered_by=answered_by)


def explain_page(explained: Explained, page: int, only_said: bool, answered_by: str) -> str:
    """Why an interest was told something, or was not. `page` counts from 1, the newest windows first."""
    windows = tuple(each for each in explained.windows if each.said) if only_said else explained.windows
    pages = max(-(-len(windows) // WINDOWS_A_PAGE), 1)
    page = min(max(page, 1), pages)
    return _TEMPLATES.get_template("explain.html").render(
        explained=explained,
        asks=in_words(explained),
        windows_shown=windows[(page - 1) * WINDOWS_A_PAGE : page * WINDOWS_A_PAGE],
        page=page,
        pages=pages,
        only_said=only_said,
        answered_by=answered_by,
    )


def stats_page(state: WorkerState) -> str:
    """One worker."""
    return _TEMPLATES.get_template("stats.html").render(state=state, answered_by=state.name)


def graph_page(graph: Graph) -> str:
    """What one worker processes."""
    return _TEMPLATES.get_template("graph.html").render(graph=graph, answered_by=graph.worker)


def sorry_page(title: str, says: str, is_temporary: bool, answered_by: str) -> str:
    """Why there is nothing to see. A page whose reason may pass looks again by itself."""
    return _TEMPLATES.get_template("sorry.html").render(
        title=title, says=says, is_temporary=is_temporary, answered_by=answered_by
    )
