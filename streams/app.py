"""The Faust app of the stream: its tables, its agent and its pages, put together."""

from collections.abc import Callable

import faust

from chassis.metrics import Identity, Metrics
from chassis.stream_app import crash_worker, create_stream_app, is_still_ours, owns, serve_health_and_metrics
from streams.agents import Join
from streams.desk import Desk
from streams.pages import serve_pages
from streams.settings import StreamsSettings
from streams.state import sequence_of_airport, sequence_of_interest
from streams.tables import SequencedTable
from towerwatch.topics import (
    ALERTS_DEAD_LETTER,
    ALERTS_RAISED,
    FLIGHTS_OBSERVED,
    INTERESTS_CHANGED,
    JOIN_PARTITIONS,
    partition_of,
)

SERVICE = "streams"


def create_app(settings: StreamsSettings) -> faust.App:
    """The app, ready to be run by a worker; nothing connects before."""
    metrics = Metrics(Identity(SERVICE, settings.k8s_node_name))
    app = create_stream_app(SERVICE, settings, JOIN_PARTITIONS)
    airports = _table(app, "airports", "One airport's traffic, by ICAO code", sequence_of_airport)
    interests = _table(app, "interests", "One interest, by airport/interest_id", sequence_of_interest)
    desk = Desk(airports, interests)
    _follow_rebalances(app, desk, airports, interests)
    join = Join(
        desk,
        airports,
        interests,
        alerts=app.topic(ALERTS_RAISED.name, value_serializer="raw"),
        dead_letters=app.topic(ALERTS_DEAD_LETTER.name, value_serializer="raw"),
        metrics=metrics,
        still_ours=lambda event: is_still_ours(app, event),
        crash=lambda error: crash_worker(app, error),
    )
    inputs = app.topic(FLIGHTS_OBSERVED.name, INTERESTS_CHANGED.name, value_serializer="raw")
    app.agent(inputs, name="join")(join.run)
    serve_health_and_metrics(app, metrics)
    serve_pages(
        app, desk, airports, lambda airport: owns(app, FLIGHTS_OBSERVED, partition_of(airport, FLIGHTS_OBSERVED))
    )
    return app


def _table(app: faust.App, name: str, says: str, sequence_of: Callable[[bytes], int]) -> SequencedTable:
    """A table whose changelog has as many partitions as its sources, or its first write would fail."""
    table = SequencedTable(
        app, name=name, partitions=JOIN_PARTITIONS, help=says, sequence_of=sequence_of, beacon=app.tables.beacon
    )
    app.tables.add(table)
    return table


def _follow_rebalances(app: faust.App, desk: Desk, *tables: SequencedTable) -> None:
    """Derived indexes end with the assignment that they were derived from."""

    async def forget(*_args: object, **_kwargs: object) -> None:
        desk.forget()

    app.on_partitions_revoked.connect(forget, weak=False)
    app.on_partitions_assigned.connect(forget, weak=False)
    for table in tables:
        table.on_recover(forget)
