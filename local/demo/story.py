"""The story itself, told through the same doors that people use: REST and mail."""

import contextlib
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Final

import httpx

from chassis.clock import Clock
from domain.alerts import AlertState
from domain.interests import Direction
from local.demo.options import Options, Wanted
from local.demo.screen import Screen
from local.demo.topics import Measured, measure
from local.errors import LocalError
from local.mailbox.reading import Mail, confirmation_link, mails, text
from local.ports import HOST, Ports
from local.stack import streams_workers
from notifier.mail.alert_header import (
    ALERT_HEADER,
    CAUSE_HEADER,
    AlertHeaderFields,
    parse_alert_header,
    parse_cause_header,
)

EMAIL: Final = "ada@towerwatch.test"
_LOOK_EVERY_S: Final = 0.1
_MAIL_S: Final = 60.0


@dataclass(frozen=True, slots=True)
class Told:
    """How the story ended."""

    mailed: tuple[AlertHeaderFields, ...]
    """In the order of their delivery."""
    latencies_s: tuple[float, ...]
    """From the flight event on Kafka to the delivered mail, real time."""
    measured: Measured


class Story:
    """Tells one story on a stack that runs."""

    def __init__(
        self,
        options: Options,
        clock: Clock,
        require_alive: Callable[[], None],
        maildir: Path,
        kafka: str,
        screen: Screen,
    ) -> None:
        """`require_alive` raises LocalError when the story cannot go on; it is called again and again."""
        self._options = options
        self._clock = clock
        self._require_alive = require_alive
        self._maildir = maildir
        self._kafka = kafka
        self._screen = screen
        self._http = httpx.Client(timeout=15)
        self._seen: list[Mail] = []
        self._shown_states: set[AlertState] = set()

    def tell(self) -> Told:
        """Register, confirm, set interests, and watch until all is covered and mailed. Raises LocalError."""
        ports = self._options.ports
        self._screen.heading("Somebody registers")
        registered = self._post(_url(ports.user_manager_http, "/users"), _account())
        token: str = registered["token"]
        self._screen.say(f"  POST /users → {registered['user']['name']}, {EMAIL}; a mail asks to confirm the address")
        self._confirm()
        self._screen.heading("and says what to watch")
        for wanted in self._options.interests:
            self._post(_url(ports.collector_http, "/interests"), body_of(wanted, self._options.begin), token)
            self._screen.say(f"  POST /interests → {_in_words(wanted)}")
        self._screen.heading(f"The clock runs from {self._options.begin:%-d %B} to {self._options.end:%-d %B %Y}")
        self._watch()
        measured = measure(self._kafka, self._options.begin, self._options.end)
        self._wait_for_mails(measured)
        self._screen.end_progress()
        alerts = [mail for mail in self._seen if ALERT_HEADER in mail.message]
        return Told(
            mailed=tuple(told for mail in alerts for told in _told(mail)),
            latencies_s=tuple(
                (mail.delivered_at - parse_cause_header(str(mail.message[CAUSE_HEADER]))).total_seconds()
                for mail in alerts
            ),
            measured=measured,
        )

    def _post(self, url: str, body: dict[str, object], token: str | None = None) -> dict[str, Any]:
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        deadline = time.monotonic() + 20
        while True:
            self._require_alive()
            try:
                answer = self._http.post(url, json=body, headers=headers)
            except httpx.TransportError as error:
                raise LocalError(f"{url} does not answer ({type(error).__name__})") from None
            if answer.status_code < 400:
                return dict(answer.json())
            if answer.status_code != httpx.codes.SERVICE_UNAVAILABLE or time.monotonic() > deadline:
                raise LocalError(f"POST {url} was answered {answer.status_code}: {answer.json().get('detail')}")
            time.sleep(_LOOK_EVERY_S)

    def _confirm(self) -> None:
        deadline = time.monotonic() + _MAIL_S
        while True:
            links = [link for mail in self._new_mails() if (link := confirmation_link(mail))]
            if links:
                break
            if time.monotonic() > deadline:
                raise LocalError(f"no confirmation mail came within {_MAIL_S:.0f} s")
            time.sleep(_LOOK_EVERY_S)
        for method in ("GET", "POST"):  # the page with its button, and the button
            answer = self._http.request(method, links[0])
            if answer.status_code != httpx.codes.OK:
                raise LocalError(f"the confirmation link was answered {answer.status_code}")
        self._screen.say("  followed the link: the address is confirmed")

    def _new_mails(self) -> list[Mail]:
        self._require_alive()
        new = mails(self._maildir, {mail.key for mail in self._seen})
        for mail in new:
            self._seen.append(mail)
            states = {told.state for told in _told(mail)}
            first_of_kind = not states or not states <= self._shown_states
            self._shown_states |= states
            self._screen.mail(str(mail.message["Subject"]), text(mail) if first_of_kind else None)
        return new

    def _watch(self) -> None:
        """Return once the stream has folded everything up to the story's end."""
        lagging = {(each.airport, part) for each in self._options.interests for part in each.direction.parts}
        # Time flies, so the deadline is on progress: a stack that covers nothing more is stuck.
        stuck_after = 60.0
        last_progress, progressed_at = None, time.monotonic()
        while True:
            self._new_mails()
            airports = self._airports()
            marks = {key: _watermark(airports, *key) for key in lagging}
            if all(mark is not None and mark >= self._options.end for mark in marks.values()) and self._all_set(
                airports
            ):
                return
            now = self._clock.now()
            alerts = sum(len(_told(mail)) for mail in self._seen)
            covered = min((mark for mark in marks.values() if mark is not None), default=None)
            self._screen.progress(
                f"  {now:%a %d %b %H:%M} UTC   covered to {covered:%d %b %H:%M}   {alerts} alerts mailed"
                if covered
                else f"  {now:%a %d %b %H:%M} UTC"
            )
            if marks != last_progress:
                last_progress, progressed_at = marks, time.monotonic()
            if time.monotonic() - progressed_at > stuck_after and now > self._options.end:
                raise LocalError(
                    f"nothing more is covered for {stuck_after:.0f} s; see the logs of collector and streams"
                )
            time.sleep(_LOOK_EVERY_S)

    def _airports(self) -> dict[str, dict[str, Any]]:
        """What the workers know, each of its own airports."""
        airports = {}
        for ports in streams_workers(self._options.ports, self._options.streams_workers).values():
            # A worker may be recovering, or gone; the deadline is on progress.
            with contextlib.suppress(httpx.HTTPError):
                answer = self._http.get(_url(ports.streams_web, "/api/airports?scope=worker")).raise_for_status()
                airports.update({each["icao"]: each for each in answer.json()})
        return airports

    def _all_set(self, airports: dict[str, dict[str, Any]]) -> bool:
        """Whether the stream knows every interest of the story."""
        wanted = [each.airport for each in self._options.interests]
        return all(airports.get(icao, {}).get("interests") == wanted.count(icao) for icao in wanted)

    def _wait_for_mails(self, measured: Measured) -> None:
        deadline = time.monotonic() + _MAIL_S
        while True:
            self._new_mails()
            missing = len(measured.alert_ids) - sum(len(_told(mail)) for mail in self._seen)
            if missing <= 0:
                return
            if time.monotonic() > deadline:
                self._screen.say(f"  {missing} alerts were not mailed within {_MAIL_S:.0f} s")
                return
            self._screen.progress(f"  waiting for {missing} mails")
            time.sleep(_LOOK_EVERY_S)


def percentiles(latencies_s: tuple[float, ...]) -> tuple[float, float] | None:
    """Median and 99th percentile (nearest rank), or None without values."""
    if not latencies_s:
        return None
    ordered = sorted(latencies_s)
    return statistics.median(ordered), ordered[max(-(-99 * len(ordered) // 100) - 1, 0)]


def _told(mail: Mail) -> list[AlertHeaderFields]:
    return [parse_alert_header(str(value)) for value in mail.message.get_all(ALERT_HEADER, [])]


def _watermark(airports: dict[str, dict[str, Any]], icao: str, direction: Direction) -> datetime | None:
    text_of = airports.get(icao, {}).get(direction.value, {}).get("watermark")
    return datetime.fromisoformat(text_of) if text_of else None


def _url(port: int, path: str) -> str:
    return f"http://{HOST}:{port}{path}"


def _account() -> dict[str, object]:
    return {"email": EMAIL, "name": "Ada", "time_zone": "America/New_York"}


def body_of(wanted: Wanted, effective_from: datetime) -> dict[str, object]:
    """What is posted to /interests."""
    return {
        "airport_icao": wanted.airport,
        "direction": wanted.direction.value,
        "window": wanted.window.value,
        "high_value": wanted.high,
        "low_value": wanted.low,
        "for_windows": wanted.for_windows,
        "repeat": wanted.repeat,
        "effective_from": effective_from.isoformat(),
    }


def _in_words(wanted: Wanted) -> str:
    limits = [f"more than {wanted.high}"] if wanted.high is not None else []
    limits += [f"fewer than {wanted.low}"] if wanted.low is not None else []
    what = "arrivals and departures" if wanted.direction is Direction.BOTH else wanted.direction.value
    run = f", {wanted.for_windows} windows in a row" if wanted.for_windows > 1 else ""
    return f"{' or '.join(limits)} {what} in {wanted.window.value} at {wanted.airport}{run}"


def urls(ports: Ports, workers: int) -> list[tuple[str, str]]:
    """What is worth a look while the stack is up."""
    others = list(streams_workers(ports, workers).values())[1:]
    return [
        ("airports, as the stream sees them", _url(ports.streams_web, "/overview")),
        *(("the same, of another worker", _url(each.streams_web, "/overview")) for each in others),
        ("the same as JSON", _url(ports.streams_web, "/api/airports")),
        ("what can be done with accounts", _url(ports.user_manager_http, "/docs")),
        ("metrics of the collector", _url(ports.collector_http, "/metrics")),
        ("metrics of the notifier", _url(ports.notifier_web, "/metrics")),
    ]
