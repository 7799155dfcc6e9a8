"""A worker's own state: its partitions, tables, agents, recovery and event loop; and the graph of what it processes."""

import time
from collections import Counter
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

import faust
from faust.types import TP
from pydantic import TypeAdapter

from chassis.faust.app import is_ready
from streams.pages.pulse import LoopLag, Pulse
from streams.routing import Workers, worker_name
from towerwatch.topics import ALERTS_DEAD_LETTER, ALERTS_RAISED, JOIN_PARTITIONS


@dataclass(frozen=True, slots=True)
class MemberShown:
    """A worker of the group, as the last rebalance left it."""

    name: str
    partitions: tuple[int, ...]
    """Of airports."""


@dataclass(frozen=True, slots=True)
class TableShown:
    """One table of a worker."""

    name: str
    says: str
    entries: int | None
    """All that this worker's store holds; of RocksDB an estimate. None where the store does not tell."""
    is_estimate: bool
    writes: int
    """Since the start."""
    writes_rate: float
    """A second."""
    changelog: str


@dataclass(frozen=True, slots=True)
class AgentShown:
    """One agent."""

    name: str
    topics: tuple[str, ...]
    events: int
    """Since the start."""
    events_rate: float
    """A second."""


@dataclass(frozen=True, slots=True)
class TopicShown:
    """A topic that the worker reads or writes."""

    name: str
    messages: int
    """Since the start."""
    messages_rate: float
    """A second."""
    backlog: int | None
    """Messages of this worker's partitions that it has not acknowledged yet; None of a topic that it writes."""


@dataclass(frozen=True, slots=True)
class RecoveryShown:
    """How the tables came to be what they are."""

    is_recovering: bool
    remaining: int
    """Changelog records still to be read."""
    last_s: float | None
    """How long the last recovery took."""


@dataclass(frozen=True, slots=True)
class WorkerState:
    """All that the pages of a worker show."""

    name: str
    at: datetime
    """On the clock of the stack."""
    uptime_s: float
    state: str
    """ready, recovering, rebalancing, starting or stopping."""
    partitions: tuple[int, ...]
    all_partitions: int
    members: tuple[MemberShown, ...]
    tables: tuple[TableShown, ...]
    agents: tuple[AgentShown, ...]
    inputs: tuple[TopicShown, ...]
    outputs: tuple[TopicShown, ...]
    recovery: RecoveryShown
    rebalances: int
    loop_lag: LoopLag | None
    store: str


STATE: Final = TypeAdapter(WorkerState)


@dataclass(frozen=True, slots=True)
class Graph:
    """Topics → agent → tables → topics, with numbers."""

    worker: str
    at: datetime
    agents: tuple[AgentShown, ...]
    inputs: tuple[TopicShown, ...]
    tables: tuple[TableShown, ...]
    outputs: tuple[TopicShown, ...]


GRAPH: Final = TypeAdapter(Graph)

_OUTPUTS: Final = (ALERTS_RAISED.name, ALERTS_DEAD_LETTER.name)


def counts_of(app: faust.App) -> dict[str, int]:
    """What Faust's monitor has counted so far, by a name of ours, for `Pulse`."""
    monitor = app.monitor
    counts = {f"in {topic}": count for topic, count in monitor.messages_received_by_topic.items()}
    counts |= {f"out {topic}": count for topic, count in monitor.messages_sent_by_topic.items()}
    counts |= {f"table {name}": table.keys_updated for name, table in monitor.tables.items()}
    counts["events"] = monitor.events_total
    return counts


def worker_state(app: faust.App, workers: Workers, pulse: Pulse, now: datetime) -> WorkerState:
    """This worker, now."""
    members = workers.list_partitions()
    return WorkerState(
        name=worker_name(workers.own_url),
        at=now,
        uptime_s=round(pulse.uptime_s, 1),
        state=_state(app),
        partitions=members.get(workers.own_url, ()),
        all_partitions=JOIN_PARTITIONS,
        members=tuple(MemberShown(worker_name(url), members[url]) for url in sorted(members, key=str)),
        tables=tuple(_table(app, name, table, pulse) for name, table in sorted(app.tables.items())),
        agents=tuple(_agent(app, name, agent, pulse) for name, agent in sorted(app.agents.items())),
        inputs=tuple(_input(app, topic, pulse) for topic in _input_topics(app)),
        outputs=tuple(_output(app, topic, pulse) for topic in _OUTPUTS),
        recovery=_recovery(app),
        rebalances=app.monitor.rebalances,
        loop_lag=pulse.loop_lag(),
        store="RocksDB" if str(app.conf.store).startswith("rocksdb") else "memory",
    )


def graph_of(state: WorkerState) -> Graph:
    return Graph(state.name, state.at, state.agents, state.inputs, state.tables, state.outputs)


def _state(app: faust.App) -> str:
    if app.should_stop:
        return "stopping"
    if is_ready(app):
        return "ready"
    if app.in_recovery:
        return "recovering"
    return "rebalancing" if app.rebalancing else "starting"


def _input_topics(app: faust.App) -> tuple[str, ...]:
    return tuple(sorted({topic for agent in app.agents.values() for topic in _topics_of(agent)}))


def _topics_of(agent: Any) -> tuple[str, ...]:
    return tuple(sorted(agent.channel.topics))


def _table(app: faust.App, name: str, table: Any, pulse: Pulse) -> TableShown:
    entries, is_estimate = _entries(table)
    counted = app.monitor.tables.get(name)
    return TableShown(
        name=name,
        says=table.help,
        entries=entries,
        is_estimate=is_estimate,
        writes=counted.keys_updated if counted else 0,
        writes_rate=round(pulse.rate(f"table {name}"), 2),
        changelog=table.changelog_topic.get_topic_name(),
    )


def _entries(table: Any) -> tuple[int | None, bool]:
    """How many a store holds, and whether that is estimated: RocksDB would read all of them to count them."""
    databases: Mapping[int, Any] | None = getattr(table.data, "_dbs", None)
    if databases is None:
        return len(table.data), False
    with suppress(Exception):  # what is closed in a rebalance meanwhile raises what it likes; there is no number then
        return sum(db.property_int_value("rocksdb.estimate-num-keys") or 0 for db in list(databases.values())), True
    return None, True


def _agent(app: faust.App, name: str, agent: Any, pulse: Pulse) -> AgentShown:
    return AgentShown(
        name=name.rpartition(".")[2],
        topics=_topics_of(agent),
        events=app.monitor.events_total,
        events_rate=round(pulse.rate("events"), 2),
    )


def _input(app: faust.App, topic: str, pulse: Pulse) -> TopicShown:
    monitor = app.monitor
    own = [tp for tp in app.assignor.assigned_actives() if tp.topic == topic]
    return TopicShown(
        name=topic,
        messages=monitor.messages_received_by_topic[topic],
        messages_rate=round(pulse.rate(f"in {topic}"), 2),
        backlog=_backlog(own, monitor.tp_end_offsets, monitor.tp_committed_offsets),
    )


def _backlog(own: Iterable[TP], ends: Mapping[TP, int], committed: Mapping[TP, int]) -> int:
    """Of the partitions whose end the consumer has been told; one where nothing is committed begins at its start."""
    return sum(max(ends[tp] - committed.get(tp, ends[tp]), 0) for tp in own if tp in ends)


def _output(app: faust.App, topic: str, pulse: Pulse) -> TopicShown:
    sent: Counter[str] = app.monitor.messages_sent_by_topic
    return TopicShown(topic, sent[topic], round(pulse.rate(f"out {topic}"), 2), None)


def _recovery(app: faust.App) -> RecoveryShown:
    recovery: Any = app.tables.recovery  # type: ignore[attr-defined]  # not in the interface
    began, ended = recovery._recovery_started_at, recovery._recovery_ended_at  # Faust tells nobody
    if app.in_recovery:
        last = None if began is None else time.monotonic() - began
    else:
        last = ended - began if began is not None and ended is not None and ended >= began else None
    return RecoveryShown(
        is_recovering=bool(app.in_recovery),
        remaining=max(recovery.active_remaining_total(), 0) if app.in_recovery else 0,
        last_s=None if last is None else round(last, 2),
    )
