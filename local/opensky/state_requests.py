"""Requests for positions: `/states/all` and `/states/own` of OpenSky, and `aircraft.json` of a receiver.

Faithful to OpenSky's REST documentation of July 2026:

- an account gets states of up to one hour ago, with a resolution of five seconds, and 400 for older ones;
- an anonymous caller gets the present states, with a resolution of ten seconds: the parameter `time` is ignored;
- the price depends on the area; the states of one's own receivers cost nothing, may be of any time, and are refused
  with 403 to anonymous callers;
- nothing heard is `"states": null`, with status 200.

Not documented, and so chosen here: a time in the future counts as the present; a part of a box, or an impossible one,
is a 400; a row without position is in no box; an account without receivers gets no states of its own.
"""

import re
import socket
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from random import Random
from typing import Final

from aiohttp import web
from multidict import MultiMapping

from chassis.clock import Clock
from local.opensky.access import Caller
from local.opensky.credits import compute_price_of_states
from local.opensky.errors import BadRequest, Forbidden
from local.opensky.fault_kinds import InjectedFault
from local.opensky.foreign_answers import build_foreign_answer
from local.opensky.sky.receiver import Receiver
from local.opensky.sky.reception import NETWORK, Listener, Report
from local.opensky.sky.sky import Sky
from local.opensky.state_encoding import Json, encode_aircraft, encode_states
from local.opensky.state_faults import FaultSpell, StateFault, StateFaultPlan

AIRCRAFT_PATH: Final = "/data/aircraft.json"
"""Where tar1090 has it, too."""
_OLDEST_S: Final = 3_600
_ACCOUNT_STEP_S: Final = 5
_ANONYMOUS_STEP_S: Final = 10
_BOX: Final = (("lamin", 90.0), ("lomin", 180.0), ("lamax", 90.0), ("lomax", 180.0))
"""The parameters of a box, each with its greatest value."""
_HTTP_FAULTS: Final = {StateFault.HTML: InjectedFault.HTML, StateFault.BAD_GATEWAY: InjectedFault.BAD_GATEWAY}

Query = MultiMapping[str]


@dataclass(frozen=True, slots=True)
class Box:
    """A bounding box in degrees; its edges belong to it."""

    south: float
    west: float
    north: float
    east: float

    @property
    def area(self) -> float:
        """Square degrees."""
        return (self.north - self.south) * (self.east - self.west)

    def holds(self, report: Report) -> bool:
        """Return True if the report's position is in the box, False also if it has none."""
        if report.latitude is None or report.longitude is None:
            return False
        return self.south <= report.latitude <= self.north and self.west <= report.longitude <= self.east


class StateRequests:
    """The answers to requests for positions, with the faults that they meet."""

    def __init__(
        self,
        sky: Sky,
        receiver: Receiver | None = None,
        faults: StateFaultPlan = StateFaultPlan(),  # noqa: B008 - frozen
        receiver_faults: StateFaultPlan = StateFaultPlan(),  # noqa: B008
    ) -> None:
        """`receiver`: the account's own receiver, whose `aircraft.json` is served; None: it has none."""
        self._sky = sky
        self._receiver = receiver
        self._faults = faults
        self._receiver_faults = receiver_faults

    def find_states(self, query: Query, now: int, caller: Caller) -> tuple[int, Json]:
        """Return the price and the answer of `/states/all`. Raises BadRequest."""
        box = _parse_box(query)
        addresses = _parse_addresses(query)
        time = _find_time(query, now, caller)
        reports = self._list_reports(self._faults, time, now, NETWORK, _get_step(caller))
        found = [
            report
            for report in reports.reports
            if (box is None or box.holds(report)) and (not addresses or report.icao24 in addresses)
        ]
        answer = encode_states(reports.time, found, extended=_is_set(query, "extended"))
        return compute_price_of_states(None if box is None else box.area), _apply_emptiness(answer, reports.spell)

    def find_own_states(self, query: Query, now: int, caller: Caller) -> tuple[int, Json]:
        """Return the price, which is 0, and the answer of `/states/own`: what the account's own receiver hears.

        Raises BadRequest, or Forbidden for an anonymous caller.
        """
        if caller.is_anonymous:
            raise Forbidden("own states need a token")
        addresses = _parse_addresses(query)
        serials = [_parse_number("serials", text) for text in query.getall("serials", [])]
        time = _parse_time(query, now)
        time -= time % _ACCOUNT_STEP_S
        receiver = self._receiver
        if receiver is None or (serials and receiver.serial not in serials):
            return 0, encode_states(time, [], extended=False)
        reports = self._list_reports(self._faults, time, now, _OwnReceiver(receiver), _ACCOUNT_STEP_S)
        found = [report for report in reports.reports if not addresses or report.icao24 in addresses]
        sensors = [receiver.serial] if serials else None
        answer = encode_states(reports.time, found, extended=_is_set(query, "extended"), sensors=sensors)
        return 0, _apply_emptiness(answer, reports.spell)

    def answer_receiver(self, request: web.Request, clock: Clock) -> web.Response:
        """Answer a request for the receiver's `aircraft.json`; 404 without a receiver."""
        now = clock.now()
        whole = int(now.timestamp())
        broken = self.answer_fault(request, clock, own=True)
        if broken is not None:
            return broken
        if self._receiver is None:
            return web.Response(status=404)
        reports = self._list_reports(self._receiver_faults, whole, whole, self._receiver, 1)
        fraction = 0.0 if reports.time != whole else round(now.timestamp() - whole, 1)
        answer = encode_aircraft(reports.time + fraction, reports.reports)
        spell = reports.spell
        if spell is not None and spell.fault is StateFault.NULL:
            answer["aircraft"] = None
        return web.json_response(answer)

    def answer_fault(self, request: web.Request, clock: Clock, *, own: bool = False) -> web.Response | None:
        """Return the answer of a fault that needs no states from the sky; None if the request meets no such fault.

        `own`: the request is for the receiver's `aircraft.json`. With OUTAGE the connection is reset, so that nobody
        gets the answer.
        """
        now = clock.now()
        spell = (self._receiver_faults if own else self._faults).find_spell(int(now.timestamp()))
        match None if spell is None else spell.fault:
            case StateFault.OUTAGE:
                _reset_connection(request)
                return web.Response(status=503)
            case StateFault.UNAVAILABLE:
                return web.Response(status=503, text="Service Temporarily Unavailable")
            case StateFault.HTML | StateFault.BAD_GATEWAY as fault:
                return build_foreign_answer(_HTTP_FAULTS[fault], Random(0), b"", web.Response(), now)
            case _:
                return None

    def _list_reports(self, faults: StateFaultPlan, time: int, now: int, listener: Listener, step_s: int) -> "_Reports":
        """Return the reports for a time, or what the fault that the request meets now makes of them.

        A fault of the sky at `time` also meets later requests for that time: what was not heard is never known.
        """
        spell = faults.find_spell(now) or faults.find_spell(time)
        match None if spell is None else spell.fault:
            case StateFault.FROZEN | StateFault.OLD as fault:
                assert spell is not None  # noqa: S101 - for the type checker
                begin = min(time, spell.begin - spell.begin % step_s)
                return _Reports(
                    begin if fault is StateFault.FROZEN else time, self._sky.list_reports(begin, listener), spell
                )
            case StateFault.NULL | StateFault.EMPTY:
                return _Reports(time, [], spell)
            case _:
                return _Reports(time, self._sky.list_reports(time, listener), spell)


@dataclass(frozen=True, slots=True)
class _Reports:
    """The reports of an answer, the time that it bears, and the fault that the request met (None: none)."""

    time: int
    reports: Sequence[Report]
    spell: FaultSpell | None


class _OwnReceiver:
    """The account's receiver as `/states/own` shows it: silent aircraft are left out as early as in `/states/all`."""

    oldest_s = NETWORK.oldest_s

    def __init__(self, receiver: Receiver) -> None:
        self.salt = receiver.salt
        self.hears, self.is_faint, self.is_far = receiver.hears, receiver.is_faint, receiver.is_far


def _apply_emptiness(answer: Json, spell: FaultSpell | None) -> Json:
    """Return the answer with an empty list of states in place of null if the fault is EMPTY, else unchanged."""
    return answer | {"states": []} if spell is not None and spell.fault is StateFault.EMPTY else answer


def _get_step(caller: Caller) -> int:
    return _ANONYMOUS_STEP_S if caller.is_anonymous else _ACCOUNT_STEP_S


def _find_time(query: Query, now: int, caller: Caller) -> int:
    """Return the time of which a caller gets the states. Raises BadRequest for a time before the last hour."""
    time = now if caller.is_anonymous else _parse_time(query, now)
    if time < now - _OLDEST_S:
        raise BadRequest("states are there for one hour")
    return time - time % _get_step(caller)


def _parse_time(query: Query, now: int) -> int:
    """Return the parameter time, which must not be later than `now`; without it, or if it is 0, `now`."""
    return min(_parse_number("time", query.get("time", "")), now) or now


def _parse_number(name: str, text: str) -> int:
    """Parse a whole number; an empty text is 0. Raises BadRequest."""
    if not re.fullmatch(r"[0-9]{0,10}", text, re.ASCII):
        raise BadRequest(f"the parameter {name} is malformed")
    return int(text or 0)


def _parse_addresses(query: Query) -> frozenset[str]:
    """Return the addresses that the request has named, perhaps none. Raises BadRequest."""
    addresses = frozenset(text.lower() for text in query.getall("icao24", []))
    if not all(re.fullmatch(r"[0-9a-f]{6}", address, re.ASCII) for address in addresses):
        raise BadRequest("the parameter icao24 is malformed")
    return addresses


def _parse_box(query: Query) -> Box | None:
    """Return the box that the request has named; None if it has named none. Raises BadRequest for a part of one."""
    texts = [query.get(name) for name, _ in _BOX]
    if texts == [None] * len(_BOX):
        return None
    values = []
    for (name, greatest), text in zip(_BOX, texts, strict=True):
        try:
            value = float(text or "")
        except ValueError:
            raise BadRequest(f"the parameter {name} is missing or malformed") from None
        if not -greatest <= value <= greatest:
            raise BadRequest(f"the parameter {name} is out of range")
        values.append(value)
    box = Box(*values)
    if box.south > box.north or box.west > box.east:
        raise BadRequest("the box ends before it begins")
    return box


def _is_set(query: Query, name: str) -> bool:
    return query.get(name, "").lower() not in ("", "0", "false")


def _reset_connection(request: web.Request) -> None:
    """Reset the connection (TCP RST, where a close would send FIN)."""
    if request.transport is not None:
        sock = request.transport.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        request.transport.abort()
