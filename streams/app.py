"""The Faust app of the stream: its tables, its agent and its pages, put together."""

from collections.abc import Awaitable

import faust

from chassis.faust.app import (
    crash_worker,
    create_stream_app,
    is_from_current_assignment,
    is_partition_assigned,
    send_record,
    serve_health_and_metrics,
)
from chassis.faust.table import add_table
from chassis.metrics import Metrics, ServiceIdentity
from domain.interests import Direction
from domain.windows import instant
from streams.agents import Join, Tables
from streams.join_state import Desk
from streams.metrics import StreamMetrics
from streams.pages import serve_pages
from streams.recent_activity import Ticker
from streams.settings import StreamsSettings
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
    metrics = Metrics(ServiceIdentity(SERVICE, settings.k8s_node_name))
    clock = settings.build_clock()
    app = create_stream_app(SERVICE, settings, JOIN_PARTITIONS)
    tables = Tables(
        airports=_table(app, "airports", "One airport's traffic, by ICAO code"),
        interests=_table(app, "interests", "One interest, by airport/interest_id"),
        history=_table(app, "history", "The flights of a closed day, by airport/direction/day"),
    )
    desk = Desk(tables.airports, tables.interests, tables.history, settings.history_days)
    _follow_rebalances(app, desk, tables)
    ticker = Ticker(clock)
    counted = StreamMetrics(metrics)

    async def send_alert(key: bytes, value: bytes, partition: int) -> Awaitable[object]:
        return await send_record(app, ALERTS_RAISED.name, key, value, partition)

    join = Join(
        desk,
        tables,
        send_alert,
        dead_letters=app.topic(ALERTS_DEAD_LETTER.name, value_serializer="raw"),
        metrics=counted,
        ticker=ticker,
        still_ours=lambda event: is_from_current_assignment(app, event),
        crash=lambda error: crash_worker(app, error),
    )
    inputs = app.topic(FLIGHTS_OBSERVED.name, INTERESTS_CHANGED.name, value_serializer="raw")
    app.agent(inputs, name="join")(join.run)

    def lag_s(direction: Direction) -> float:
        watermark = desk.oldest_watermark(direction)
        return 0.0 if watermark is None else (clock.now() - instant(watermark)).total_seconds()

    counted.watch(lag_s)
    serve_health_and_metrics(app, metrics)

    def is_owned(airport: str) -> bool:
        return is_partition_assigned(app, FLIGHTS_OBSERVED, partition_of(airport, FLIGHTS_OBSERVED))

    serve_pages(app, desk, tables.airports, is_owned, ticker, clock)
    return app


def _table(app: faust.App, name: str, says: str) -> SequencedTable:
    return add_table(app, SequencedTable, name, JOIN_PARTITIONS, says)


def _follow_rebalances(app: faust.App, desk: Desk, tables: Tables) -> None:
    """Derived indexes end with the assignment that they were derived from."""

    async def forget(*_args: object, **_kwargs: object) -> None:
        desk.forget()

    app.on_partitions_revoked.connect(forget, weak=False)
    app.on_partitions_assigned.connect(forget, weak=False)
    for table in (tables.airports, tables.interests, tables.history):
        table.on_recover(forget)
