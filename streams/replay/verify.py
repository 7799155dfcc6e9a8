"""`python -m streams verify`: whether what was raised is what the log says.

Two sets of alert ids are compared: those that a replay computes, and those on alerts.raised.v1. What one of them holds
and the other does not is a difference, unless the log no longer tells, or never told, which of the two is right: each
such reason is one of `streams.replay.exemptions.Reason`.
"""

from collections import Counter
from dataclasses import dataclass, field
from typing import Final
from uuid import UUID

from aiokafka import AIOKafkaConsumer
from google.protobuf.message import DecodeError

from domain.windows import instant
from streams.errors import LogUnreadableError
from streams.replay.exemptions import Grounds, Reason, Statement, decode_statement, statement_of
from streams.replay.log import (
    INPUTS,
    NUMBERS,
    Offsets,
    Reach,
    Refold,
    administration,
    committed,
    join_partitions,
    partitions,
    reach,
    reader,
    records,
    require_topics,
)
from streams.replay.replay import Tally, default_group, is_complete
from towerwatch.topics import ALERTS_RAISED, FLIGHTS_OBSERVED, Topic

GROUP: Final = "streams"
"""The group of the stream's workers: what it has acknowledged must have been said."""
CLOCKS_APART_MS: Final = 60_000
"""How far the clocks of the services that publish may be apart."""
SHOWN: Final = 10
"""Differences that are told one by one."""


@dataclass(frozen=True, slots=True)
class Difference:
    """An alert that only one side has, for no reason."""

    kind: str
    """`missing`: computed and not raised; `extra`: raised and not computed."""
    alert: Statement

    def as_json(self) -> dict[str, object]:
        """Without its person, and without the interest's limits."""
        alert = self.alert
        return {
            "kind": self.kind,
            "alert_id": str(alert.alert_id),
            "interest_id": str(alert.interest_id),
            "version": alert.version,
            "airport": alert.airport,
            "direction": alert.direction.value,
            "window": alert.window.value,
            "window_start": f"{instant(alert.window_start):%Y-%m-%dT%H:%MZ}",
            "bound": alert.bound.value,
            "state": alert.state.value,
        }


@dataclass(slots=True)
class Comparison:
    """What came of it. Numbers of alerts are of distinct ids."""

    tally: Tally
    against: str | None
    """The topic of an earlier replay; None where the alerts were computed for this comparison."""
    computed: int
    raised: int
    same: int
    repeats: int
    """Records of alerts.raised.v1 whose id was there before; a crash may cause them, and no mail comes of them."""
    differences: list[Difference] = field(default_factory=list)
    """Airport by airport, in the order of the windows."""
    not_comparable: Counter[Reason] = field(default_factory=Counter)

    @property
    def equal(self) -> bool:
        return not self.differences

    def number(self, kind: str) -> int:
        return sum(each.kind == kind for each in self.differences)

    def as_json(self) -> dict[str, object]:
        return {
            "equal": self.equal,
            "against": self.against,
            "events": self.tally.events,
            "computed": self.computed,
            "raised": self.raised,
            "same": self.same,
            "repeats": self.repeats,
            "missing": self.number("missing"),
            "extra": self.number("extra"),
            "not_comparable": {reason.name.lower(): self.not_comparable[reason] for reason in Reason},
            "differences": [each.as_json() for each in self.differences[:SHOWN]],
        }

    def __str__(self) -> str:
        rows = [
            ("computed", self.computed, f"on {self.against}" if self.against else "from the log"),
            ("raised", self.raised, f"on {ALERTS_RAISED.name}"),
            ("the same", self.same, ""),
            ("missing", self.number("missing"), "computed, and not raised"),
            ("extra", self.number("extra"), "raised, and not computed"),
            ("repeated", self.repeats, "the same alert once more: allowed, and known by its id"),
            ("not comparable", self.not_comparable.total(), "only on one side, and the log cannot tell which is right"),
        ]
        lines = [str(self.tally), "", *(f"  {name:<16}{number:>12,}  {says}".rstrip() for name, number, says in rows)]
        lines += [f"  {'':<16}{number:>12,}    {reason}" for reason, number in sorted(self.not_comparable.items())]
        if self.differences:
            lines += ["", f"The first of {len(self.differences):,} differences:"]
        for each in self.differences[:SHOWN]:
            shown = each.as_json()
            lines.append(
                f"  {shown['kind']:<8}{shown['airport']} {shown['direction']} in {shown['window']} "
                f"from {shown['window_start']}: {shown['bound']} {shown['state']}; "
                f"alert {shown['alert_id']}, interest {shown['interest_id']} version {shown['version']}"
            )
        doubt = " as far as it can be compared" if self.not_comparable else ""
        lines += ["", f"equal{doubt}" if self.equal else "DIFFERENT"]
        return "\n".join(lines)


@dataclass(slots=True)
class _Topic:
    """The alerts of one topic."""

    first: dict[UUID, bytes]
    """By id, the value of the first record."""
    repeats: int
    oldest_ms: dict[int, float]
    """By partition whose beginning was deleted, the time of the oldest record that is left (endless: none is)."""


@dataclass(slots=True)
class _Computed:
    """What the log says."""

    ids: set[UUID] = field(default_factory=set)
    unsaid: dict[UUID, Statement] = field(default_factory=dict)
    """Those that are not on alerts.raised.v1."""
    pending: set[UUID] = field(default_factory=set)
    """Of the unsaid, those that follow from events that the stream has not acknowledged."""
    later: set[UUID] = field(default_factory=set)
    """Those that follow from events that an earlier replay has not read."""


async def compare(bootstrap_servers: str, against: Topic | None = None, group: str | None = None) -> Comparison:
    """Compare what a replay computes with what was raised; the stream may go on meanwhile.

    `against`: the output of an earlier replay, whose group is `group` or the one that it takes by default. Raises
    LogUnreadableError or BrokerUnreachableError.
    """
    async with administration(bootstrap_servers) as admin:
        await require_topics(admin, [*INPUTS, ALERTS_RAISED, *([against] if against else [])])
        replayed: Offsets = await committed(admin, group or default_group(against.name)) if against else {}
        if against and not is_complete(replayed):
            raise LogUnreadableError(
                f"the replay to {against.name} was interrupted, still runs, or had another group: "
                "make a new one to another topic, or name its group by --group"
            )
        # Asked in this order: what is acknowledged by now was raised, and what was raised follows from what is there.
        acknowledged = await committed(admin, GROUP)
    async with reader(bootstrap_servers) as consumer:
        raised = await _alerts_on(consumer, ALERTS_RAISED)
        within = await reach(consumer, partitions(*INPUTS))
        grounds = Grounds(each.partition for each in partitions(FLIGHTS_OBSERVED) if within.begins[each] > 0)
        tally = Tally()
        computed = await _computed(consumer, within, grounds, raised, acknowledged, replayed, tally)
        reference = await _alerts_on(consumer, against) if against else None
    return _compared(computed, reference, raised, grounds, tally, against.name if against else None)


async def _alerts_on(consumer: AIOKafkaConsumer, topic: Topic) -> _Topic:
    there = await reach(consumer, partitions(topic))
    cut = {each.partition: float("inf") for each in partitions(topic) if there.begins[each] > 0}
    found = _Topic({}, 0, cut)
    for each in partitions(topic):
        async for record in records(consumer, [each], there):
            try:
                alert_id = decode_statement(record.value).alert_id
            except (DecodeError, ValueError, KeyError, TypeError):
                place = f"{record.topic}, partition {record.partition}, offset {record.offset}"
                raise LogUnreadableError(f"{place}: this is no alert") from None
            if alert_id in found.first:
                found.repeats += 1
            else:
                found.first[alert_id] = record.value
            if record.partition in cut:
                cut[record.partition] = min(cut[record.partition], record.timestamp)
    return found


async def _computed(
    consumer: AIOKafkaConsumer,
    within: Reach,
    grounds: Grounds,
    raised: _Topic,
    acknowledged: Offsets,
    replayed: Offsets,
    tally: Tally,
) -> _Computed:
    """Fold the log. What is folded after an event beyond some offsets may follow from that event."""
    computed = _Computed()
    for number in NUMBERS:
        refold = Refold()
        inputs = {each.topic: each for each in join_partitions(number)}
        is_acknowledged = is_replayed = True
        async for record in records(consumer, inputs.values(), within):
            place = inputs[record.topic]
            is_acknowledged &= record.offset < acknowledged.get(place, 0)
            is_replayed &= record.offset < replayed.get(place, 0)
            step = refold.step(record)
            for alert in refold.alerts(step):
                if alert.alert_id in computed.ids:
                    continue
                computed.ids.add(alert.alert_id)
                if not is_replayed:
                    computed.later.add(alert.alert_id)
                if alert.alert_id not in raised.first:
                    computed.unsaid[alert.alert_id] = statement_of(alert, record.timestamp)
                    if not is_acknowledged:
                        computed.pending.add(alert.alert_id)
            refold.write(step)
            grounds.add(step)
            tally.count(step)
    return computed


def _compared(
    computed: _Computed, reference: _Topic | None, raised: _Topic, grounds: Grounds, tally: Tally, against: str | None
) -> Comparison:
    expected = computed.ids if reference is None else reference.first.keys()
    found = Comparison(
        tally,
        against,
        computed=len(expected),
        raised=len(raised.first),
        same=len(expected & raised.first.keys()),
        repeats=raised.repeats,
    )
    for alert_id in expected - raised.first.keys():
        alert = computed.unsaid[alert_id] if reference is None else decode_statement(reference.first[alert_id])
        reason = grounds.excuse(alert)
        if alert_id in computed.pending:
            reason = Reason.PENDING
        elif alert.cause_ms < raised.oldest_ms.get(alert.partition, 0.0) + CLOCKS_APART_MS:
            reason = Reason.ALERT_GONE
        _add(found, "missing", alert, reason)
    for alert_id in raised.first.keys() - expected:
        alert = decode_statement(raised.first[alert_id])
        is_later = reference is not None and alert_id in computed.later
        _add(found, "extra", alert, Reason.AFTER_REPLAY if is_later else grounds.excuse(alert))
    found.differences.sort(key=lambda each: (each.alert.airport, each.alert.window_start, each.alert.alert_id))
    return found


def _add(found: Comparison, kind: str, alert: Statement, reason: Reason | None) -> None:
    if reason is None:
        found.differences.append(Difference(kind, alert))
    else:
        found.not_comparable[reason] += 1
