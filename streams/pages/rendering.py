"""The HTML of the pages, from templates. A page has no inline script or style, so that its policy can forbid both."""

import hashlib
from dataclasses import dataclass
from importlib.resources import files
from typing import Final

from jinja2 import Environment, PackageLoader, StrictUndefined

from domain import reasons
from domain.alerts import Bound
from domain.interests import Direction
from domain.windows import Window
from streams.pages import wording
from streams.pages.airport import AirportDetail
from streams.pages.charts import build_chart
from streams.pages.explain import WINDOWS_PER_PAGE, InterestExplanation, describe_interest, merge_unknown_windows
from streams.pages.lights import LIGHT_WORDS, describe_credits
from streams.pages.overview import AIRPORTS_PER_PAGE, SHOWN_HOURS, SHOWN_SECONDS, Overview
from streams.pages.provenance_lane import describe_knowledge
from streams.pages.sparklines import build_sparkline
from streams.pages.windows import WindowCoverage
from streams.pages.worker import ProcessingGraph, WorkerState

UPDATE_INTERVAL_S: Final = 2
"""Seconds between two updates of a page that a person looks at."""

_CONTENT_TYPES: Final = {"css": "text/css", "js": "text/javascript", "svg": "image/svg+xml"}


@dataclass(frozen=True, slots=True)
class StaticFile:
    """A static file that pages link to, as a style sheet."""

    content_type: str
    body: bytes


def _load_static_files() -> dict[str, StaticFile]:
    """Read the files of the folder `static` into memory, by name; those of an unknown content type are left out."""
    folder = files("streams") / "static"
    return {
        path.name: StaticFile(_CONTENT_TYPES[path.name.rpartition(".")[2]], path.read_bytes())
        for path in folder.iterdir()
        if path.name.rpartition(".")[2] in _CONTENT_TYPES
    }


STATIC_FILES: Final = _load_static_files()

_VERSION: Final = hashlib.sha256(b"".join(STATIC_FILES[name].body for name in sorted(STATIC_FILES))).hexdigest()[:12]
"""Hash of the static files, a part of each link to them: browsers can therefore cache them without a time limit."""

_TEMPLATES: Final = Environment(
    loader=PackageLoader("streams"), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
)
_TEMPLATES.globals.update(
    Bound=Bound,
    Direction=Direction,
    WindowCoverage=WindowCoverage,
    Window=Window,
    build_chart=build_chart,
    build_sparkline=build_sparkline,
    alert_symbols=wording.ALERT_SYMBOLS,
    windows=wording.WINDOWS,
    per_window=wording.PER_WINDOW,
    version=_VERSION,
    update_s=UPDATE_INTERVAL_S,
)
_TEMPLATES.filters.update(
    number=reasons.format_number,
    plural=reasons.pluralize,
    rate=wording.format_rate,
    duration=wording.format_duration,
    day_name=wording.format_day,
    day_and_time=wording.format_day_and_time,
    full_time=wording.format_full_time,
    parse_iso=wording.parse_iso,
    flights=wording.name_flights,
    flight_count=wording.format_flight_count,
    run=wording.describe_run,
)
_TEMPLATES.globals.update(
    describe_credits=describe_credits,
    describe_knowledge=describe_knowledge,
    light_words=LIGHT_WORDS,
    describe_threshold=reasons.describe_threshold,
    format_usual=reasons.format_usual,
    format_interval=wording.format_interval,
    format_window=wording.format_window,
)


def render_overview(overview: Overview, page: int, only_breaches: bool, answered_by: str) -> str:
    """Return the HTML of the overview, with one page of its table of airports.

    `page`: number of the table's page, from 1; a number out of range is replaced by the nearest one. `only_breaches`:
    list only the airports with interests in breach. `answered_by`: name of the worker that answers.
    """
    airports = overview.airports_in_breach if only_breaches else overview.airports
    pages = max(-(-len(airports) // AIRPORTS_PER_PAGE), 1)
    page = min(max(page, 1), pages)
    return _TEMPLATES.get_template("overview.html").render(
        overview=overview,
        airports=airports[(page - 1) * AIRPORTS_PER_PAGE : page * AIRPORTS_PER_PAGE],
        page=page,
        pages=pages,
        only_breaches=only_breaches,
        hours=SHOWN_HOURS,
        seconds=SHOWN_SECONDS,
        answered_by=answered_by,
    )


def render_airport(detail: AirportDetail, answered_by: str) -> str:
    """Return the HTML of one airport's page. `answered_by`: name of the worker that answers."""
    return _TEMPLATES.get_template("airport.html").render(detail=detail, answered_by=answered_by)


def render_explanation(explanation: InterestExplanation, page: int, only_said: bool, answered_by: str) -> str:
    """Return the HTML that explains an interest's windows, the newest first.

    `page`: number of the page of the table of windows, from 1; a number out of range is replaced by the nearest one.
    `only_said`: list only the windows that have an alert. `answered_by`: name of the worker that answers.
    """
    windows = tuple(window for window in explanation.windows if window.has_alert) if only_said else explanation.windows
    pages = max(-(-len(windows) // WINDOWS_PER_PAGE), 1)
    page = min(max(page, 1), pages)
    return _TEMPLATES.get_template("explain.html").render(
        explanation=explanation,
        condition=describe_interest(explanation),
        windows_shown=merge_unknown_windows(windows[(page - 1) * WINDOWS_PER_PAGE : page * WINDOWS_PER_PAGE]),
        page=page,
        pages=pages,
        only_said=only_said,
        answered_by=answered_by,
    )


def render_stats(state: WorkerState) -> str:
    """Return the HTML of the page of one worker's state."""
    return _TEMPLATES.get_template("stats.html").render(state=state, answered_by=state.name)


def render_graph(graph: ProcessingGraph) -> str:
    """Return the HTML of the page of one worker's processing graph."""
    return _TEMPLATES.get_template("graph.html").render(graph=graph, answered_by=graph.worker)


def render_error(title: str, detail: str, is_temporary: bool, answered_by: str) -> str:
    """Return the HTML of an error page. If the error is temporary, the page updates itself until the error is over."""
    return _TEMPLATES.get_template("sorry.html").render(
        title=title, detail=detail, is_temporary=is_temporary, answered_by=answered_by
    )
