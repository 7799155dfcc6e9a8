"""Logs around changes of clocks, and the brute-force model's alerts about windows by an airport's own clock."""

from dataclasses import dataclass, replace
from datetime import UTC, datetime
from random import Random
from uuid import UUID

from domain.interests import Direction, Interest
from domain.traffic import Observation
from domain.windows import AlignedTo, Window, instant, seconds
from tests.domain.brute_force import ModelAlert, ModelInterest, ModelTeller, judge_model_windows
from tests.domain.corrected_logs import compute_statement_id
from tests.domain.filled_logs import LONG_SLOT_S, SLOT_S, build_filled_log, generate_filled_log
from tests.domain.logs import BASE, an_interest

QUARTER_S = 900


@dataclass(frozen=True)
class Clock:
    """An airport, the zone of its clock, and a time around which something happens to the clock."""

    airport: str
    zone: str
    at: datetime


CLOCKS = (
    Clock("KJFK", "America/New_York", datetime(2013, 3, 10, 7, tzinfo=UTC)),
    Clock("KJFK", "America/New_York", datetime(2013, 11, 3, 6, tzinfo=UTC)),
    Clock("VNKT", "Asia/Kathmandu", datetime(2013, 5, 1, tzinfo=UTC)),
    Clock("YPAD", "Australia/Adelaide", datetime(2013, 10, 5, 16, 30, tzinfo=UTC)),
    Clock("YLHI", "Australia/Lord_Howe", datetime(2013, 4, 6, 15, tzinfo=UTC)),
    Clock("YLHI", "Australia/Lord_Howe", datetime(2013, 10, 5, 15, 30, tzinfo=UTC)),
    Clock("NSFA", "Pacific/Apia", datetime(2011, 12, 30, 10, tzinfo=UTC)),
    Clock("PHNL", "Pacific/Honolulu", datetime(2013, 3, 10, tzinfo=UTC)),
    Clock("KPHX", "America/Phoenix", datetime(2013, 3, 10, tzinfo=UTC)),
    Clock("GMMN", "Africa/Casablanca", datetime(2013, 7, 7, 2, tzinfo=UTC)),
    Clock("HECA", "Africa/Cairo", datetime(2014, 5, 15, 22, tzinfo=UTC)),  # midnight does not exist
    Clock("CYYT", "America/St_Johns", datetime(2011, 11, 6, 2, 30, tzinfo=UTC)),  # back from 00:01 to the day before
    Clock("SBGR", "America/Sao_Paulo", datetime(2013, 2, 17, 2, tzinfo=UTC)),  # back from midnight to the day before
    Clock("NZCI", "Pacific/Chatham", datetime(2013, 4, 6, 14, tzinfo=UTC)),
)
"""Clocks that change forward and back, by an hour or half an hour, at midnight, over the date line, and never."""


@dataclass(frozen=True)
class LocalLog:
    """A log at an airport around a change of its clock, and an interest in windows by that clock."""

    clock: Clock
    interest: Interest
    messages: tuple[Observation, ...]


def generate_local_log(chance: Random) -> LocalLog:
    """Generate a log of hours or days with corrections, gaps and fills around a change of clocks, and an interest."""
    clock = chance.choice(CLOCKS)
    slot_s = chance.choice((SLOT_S, 2 * SLOT_S, 4 * SLOT_S, 6 * SLOT_S, LONG_SLOT_S, LONG_SLOT_S))
    shift = seconds(clock.at) // QUARTER_S * QUARTER_S - seconds(BASE) - chance.randint(-8, 100) * 3 * QUARTER_S
    high, low = chance.choice(((3, None), (None, 4), (6, 3), (9, 5), (2, 1)))
    interest = an_interest(
        airport=clock.airport,
        direction=chance.choice(list(Direction)),
        window=chance.choice((Window.SIX_HOURS, Window.SIX_HOURS, Window.ONE_DAY)),
        high=high,
        low=low,
        for_windows=chance.choice((1, 1, 2, 3)),
        repeat=chance.random() < 0.5,
        effective_from=instant(seconds(BASE) + shift - chance.randint(-20, 30) * 2 * QUARTER_S),
        aligned_to=AlignedTo.AIRPORT,
    )
    return LocalLog(clock, interest, tuple(_shift(each, shift) for each in generate_filled_log(chance, slot_s)))


def _shift(message: Observation, by: int) -> Observation:
    """Return a message whose times are all later by some seconds."""
    return replace(
        message,
        begin=message.begin + by,
        end=message.end + by,
        event_times=tuple(at + by for at in message.event_times),
        retracted=tuple((at + by, fingerprint) for at, fingerprint in message.retracted),
    )


def judge_local_windows(log: LocalLog, messages: int) -> set[ModelAlert]:
    """Return what the model says of each window after some messages, with all STILL and with UNDECIDED breaches."""
    events, interest = log.messages[:messages], log.interest
    return judge_model_windows(
        [build_filled_log(event for event in events if event.direction is part) for part in interest.direction.parts],
        ModelInterest(
            interest.window.value,
            interest.high,
            interest.low,
            interest.for_windows,
            True,
            interest.effective_from,
            log.clock.zone,
        ),
    )


def tell_local_statements(log: LocalLog) -> tuple[list[set[UUID]], set[UUID]]:
    """Return the ids of the model's alerts: those of each message, and those of an equal interest that is set last."""
    teller = ModelTeller(log.interest.repeat)
    told, now = [], set[ModelAlert]()
    for number in range(1, len(log.messages) + 1):
        now = judge_local_windows(log, number)
        told.append({compute_statement_id(log.interest, each) for each in teller.tell(now)})
    return told, {compute_statement_id(log.interest, each) for each in teller.tell_late(now)}
