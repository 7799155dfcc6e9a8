"""The demo's story, told to the cluster as people would: through the gateway, and by the mails that come."""

import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

import httpx

from local.demo.expected import Difference, difference
from local.demo.options import Wanted
from local.demo.screen import Screen
from local.demo.story import body_of
from local.errors import LocalError
from notifier.mail.alert_header import AlertHeaderFields, parse_alert_header

EMAIL: Final = "ada@towerwatch.test"
_LOOK_EVERY_S: Final = 1.0
_PATIENCE_S: Final = 180.0
"""How long nothing may get on."""


@dataclass(frozen=True, slots=True)
class Doors:
    """How the story reaches the cluster."""

    people: httpx.Client
    """With the gateway's address as its base URL."""
    mails: Callable[[], str]
    """What `local.kind.mails` prints in the mailbox's pod."""
    airports: Callable[[], str]
    """What a worker of the stream answers to /api/airports."""


def tell(
    doors: Doors, interests: Sequence[Wanted], begin: datetime, expected: Sequence[AlertHeaderFields], screen: Screen
) -> Difference:
    """Register, confirm, set `interests` from `begin` on, and wait until every `expected` alert is mailed.

    Returns how what was mailed differs from it. Raises LocalError when nothing gets on any more.
    """
    screen.heading("Somebody registers")
    account = {"email": EMAIL, "name": "Ada", "time_zone": "America/New_York"}
    token = str(_post(doors.people, "/users", account)["token"])
    link = _until(lambda: next((mail["link"] for mail in _mails(doors) if mail["link"]), None), "no confirmation mail")
    path = httpx.URL(link).raw_path.decode("ascii")
    for method in ("GET", "POST"):  # the page with its button, and the button
        answer = doors.people.request(method, path)
        if answer.status_code != httpx.codes.OK:
            raise LocalError(f"the confirmation link was answered {answer.status_code}")
    screen.say(f"  {EMAIL} is confirmed, by the link in a mail")
    for wanted in interests:
        _post(doors.people, "/interests", body_of(wanted, begin), token)
    screen.say(f"  {len(interests)} interests are set")
    screen.heading("The clock runs")
    mailed = _watch(doors, len(expected), screen)
    screen.end_progress()
    return difference(list(expected), mailed)


def _watch(doors: Doors, expected: int, screen: Screen) -> tuple[AlertHeaderFields, ...]:
    """Return what was mailed, once it is as much as is expected, or nothing more is covered or mailed."""
    seen: object = None
    since = time.monotonic()
    shown = 0
    while True:
        mails = _mails(doors)
        for mail in mails[shown:]:
            screen.say(f"  ✉ {mail['subject']}")
        shown = len(mails)
        told = tuple(parse_alert_header(value) for mail in mails for value in mail["alerts"])
        if len(told) >= expected:
            return told
        airports = json.loads(doors.airports())
        marks = [each[part]["watermark"] for each in airports for part in ("arrivals", "departures")]
        if (marks, len(told)) != seen:
            seen, since = (marks, len(told)), time.monotonic()
        if time.monotonic() - since > _PATIENCE_S:
            screen.say(f"  nothing has got on for {_PATIENCE_S:.0f} s")
            return told
        covered = min((mark for mark in marks if mark), default="nothing yet")
        screen.progress(f"  covered to {covered}   {len(told)} of {expected} alerts mailed")
        time.sleep(_LOOK_EVERY_S)


def _mails(doors: Doors) -> list[dict[str, Any]]:
    return list(json.loads(doors.mails()))


def _until(look: Callable[[], str | None], otherwise: str) -> str:
    deadline = time.monotonic() + _PATIENCE_S
    while (found := look()) is None:
        if time.monotonic() > deadline:
            raise LocalError(f"{otherwise} within {_PATIENCE_S:.0f} s")
        time.sleep(_LOOK_EVERY_S)
    return found


def _post(people: httpx.Client, path: str, body: Mapping[str, object], token: str | None = None) -> dict[str, Any]:
    """Repeated while the gateway or the service is not ready (502, 503, 504), as a client of people would."""
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    deadline = time.monotonic() + _PATIENCE_S
    while True:
        try:
            answer = people.post(path, json=body, headers=headers)
        except httpx.TransportError as error:
            said, passing = f"not answered ({type(error).__name__})", True
        else:
            if answer.status_code < 400:
                return dict(answer.json())
            said = f"answered {answer.status_code}: {answer.text[:200]}"
            passing = answer.status_code in (502, 503, 504)
        if not passing or time.monotonic() > deadline:
            raise LocalError(f"POST {path} was {said}")
        time.sleep(_LOOK_EVERY_S)
