"""The demo's scenario, run through the interfaces that people use: REST and mail."""

import contextlib
import statistics
import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Final

import httpx

from chassis.clock import Clock
from domain.alerts import AlertState
from domain.interests import Direction
from local.demo.judgement import find_untold
from local.demo.learning_wait import LearningWait
from local.demo.live_log import NO_ALERTS, LiveLog, RaisedAlerts, count_raised_alerts, read_live_log
from local.demo.live_share import describe_live_share, find_settled
from local.demo.options import Options
from local.demo.plan import DemoPlan
from local.demo.progress import STUCK_AFTER_S, Progress
from local.demo.screen import Screen
from local.demo.topics import DemoTopicContents, read_topic_contents
from local.demo.urls import build_url
from local.demo.wording import build_interest_body, describe_interest, describe_record
from local.errors import LocalError
from local.mailbox.reading import ReceivedMail, find_confirmation_link, get_plain_text, read_mails
from local.stack import assign_worker_ports, build_public_url
from notifier.mail.alert_header import (
    ALERT_HEADER,
    CAUSE_HEADER,
    AlertHeaderFields,
    parse_alert_header,
    parse_cause_header,
)

EMAIL: Final = "ada@towerwatch.test"
_POLL_INTERVAL_S: Final = 0.1
_MAIL_TIMEOUT_S: Final = 60.0
_CORRECTIONS_WAIT: Final = timedelta(hours=27)
"""Corrections wait up to six hours for others, and twenty since the person's last mail of corrections."""


@dataclass(frozen=True, slots=True)
class ScenarioResult:
    """The mailed alerts, the latencies of their mails, and all that was published to Kafka, at a scenario's end."""

    mailed: tuple[AlertHeaderFields, ...]
    """The alerts that were mailed, in the order of delivery."""
    latencies_s: tuple[float, ...]
    """Real seconds from the flight event on Kafka to the delivered mail, one per mail with alerts."""
    published: DemoTopicContents
    delivered_at: tuple[datetime, ...]
    """When the mail of each mailed alert was delivered, in real time."""
    logs: tuple[LiveLog, LiveLog, RaisedAlerts] | None
    """Of a live run: the log once all is settled, the log after the last mail, and how many alerts were raised."""


class Scenario:
    """The scenario of one demo run, on a stack that is ready: a person registers, sets interests and gets mails.

    `register`, `set_interests` and then `run` do all of it, once, and print each step. The mails are read from
    the mailbox's Maildir.
    """

    def __init__(
        self,
        options: Options,
        clock: Clock,
        require_alive: Callable[[], None],
        maildir: Path,
        kafka: str,
        screen: Screen,
    ) -> None:
        """`require_alive` raises LocalError if the scenario cannot go on; it is called before every step and poll.

        `kafka`: bootstrap servers.
        """
        self._options = options
        self._clock = clock
        self._require_alive = require_alive
        self._maildir = maildir
        self._kafka = kafka
        self._screen = screen
        self._http = httpx.Client(timeout=15, trust_env=False)  # no proxy for this machine
        self._received: list[ReceivedMail] = []
        self._shown_states: set[AlertState] = set()

    def register(self) -> str:
        """Register the person, confirm the address, and return the person's token; print every step and mail.

        Raises LocalError if a request is rejected, or if the confirmation mail does not come.
        """
        ports = self._options.ports
        self._screen.print_heading("Somebody registers")
        registered = self._post(f"{build_public_url(ports)}/users", _build_account_body())
        token: str = registered["token"]
        self._screen.print_line(
            f"  POST /users → {registered['user']['name']}, {EMAIL}; a mail asks to confirm the address"
        )
        self._confirm_address(token)
        return token

    def set_interests(self, token: str) -> None:
        """Set the interests of the person, whose token this is, and print them.

        Raises LocalError if a request is rejected.
        """
        self._screen.print_heading("and says what to watch")
        for interest in self._options.interests:
            self._post(f"{build_public_url(self._options.ports)}/interests", build_interest_body(interest), token)
            self._screen.print_line(f"  POST /interests → {describe_interest(interest)}")

    def run(self, token: str, plan: DemoPlan, unheard: Collection[str]) -> ScenarioResult:
        """Wait until all days are covered and all raised alerts are mailed, on a clock that runs by now.

        `token`: that of the registered person; `unheard`: the airports of which no flight is ever recorded, so that
        nothing is said about them. Prints every step and mail. Returns the mailed alerts also if some are still missing
        after the timeout. Raises LocalError if nothing more is covered.
        """
        for line in describe_record(plan, unheard):
            self._screen.print_line(f"  {line}")
        self._screen.print_heading(f"The clock runs from {self._options.begin:%-d %B} to {self._options.end:%-d %B %Y}")
        if plan.is_learning:
            self._wait_until_learned(token, plan, unheard)
        settled, raised = None, NO_ALERTS
        if plan.is_live:
            self._wait_until_settled(token, plan, unheard)
            settled, raised = self._wait_for_alerts(plan, unheard)
        else:
            self._wait_until_covered(plan, unheard)
        published = read_topic_contents(self._kafka, self._options.begin, self._options.end)
        if settled is None:
            self._wait_for_mails(lambda mailed: len(published.alert_ids) - len(mailed))
        else:
            self._wait_for_mails(lambda mailed: len(find_untold(settled.alerts, mailed)))
        self._screen.end_progress()
        alerts = [mail for mail in self._received if ALERT_HEADER in mail.message]
        return ScenarioResult(
            mailed=tuple(alert for mail in alerts for alert in _parse_alerts(mail)),
            latencies_s=tuple(
                (mail.delivered_at - parse_cause_header(str(mail.message[CAUSE_HEADER]))).total_seconds()
                for mail in alerts
            ),
            published=published,
            delivered_at=tuple(mail.delivered_at for mail in alerts for _ in _parse_alerts(mail)),
            logs=(settled, read_live_log(self._kafka), raised) if settled is not None else None,
        )

    def _post(self, url: str, body: dict[str, object], token: str | None = None) -> dict[str, Any]:
        """POST a JSON body and return the answer's JSON, retrying on 503 for 20 seconds.

        Raises LocalError for any other error status, and at once if the service does not answer. `token`: sent as
        bearer token; None: the request is anonymous.
        """
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
            time.sleep(_POLL_INTERVAL_S)

    def _confirm_address(self, token: str) -> None:
        """Wait for the confirmation mail, and confirm the address by its link (GET, then POST).

        The requests carry the person's token, which thereby stays valid. Raises LocalError if no such mail comes within
        `_MAIL_TIMEOUT_S`, or if the link is not answered with 200.
        """
        deadline = time.monotonic() + _MAIL_TIMEOUT_S
        while True:
            links = [link for mail in self._receive_new_mails() if (link := find_confirmation_link(mail))]
            if links:
                break
            if time.monotonic() > deadline:
                raise LocalError(
                    f"no confirmation mail came within {_MAIL_TIMEOUT_S:.0f} s; "
                    "see the logs of user_manager and notifier"
                )
            time.sleep(_POLL_INTERVAL_S)
        for method in ("GET", "POST"):  # the page with its button, and the button
            answer = self._http.request(method, links[0], headers={"Authorization": f"Bearer {token}"})
            if answer.status_code != httpx.codes.OK:
                raise LocalError(
                    f"the confirmation link was answered {answer.status_code}; see the log of user_manager"
                )
        self._screen.print_line("  followed the link: the address is confirmed")

    def _receive_new_mails(self) -> list[ReceivedMail]:
        """Read the mails that have arrived since the last call, print and remember them, and return them.

        The text is printed only of a mail with an alert state that was not shown before, or without an alert; the
        subject always. Raises LocalError if a process of the stack has ended.
        """
        self._require_alive()
        new = read_mails(self._maildir, {mail.key for mail in self._received})
        for mail in new:
            self._received.append(mail)
            states = {alert.state for alert in _parse_alerts(mail)}
            first_of_kind = not states or not states <= self._shown_states
            self._shown_states |= states
            self._screen.print_mail(str(mail.message["Subject"]), get_plain_text(mail) if first_of_kind else None)
        return new

    def _wait_until_covered(self, plan: DemoPlan, unheard: Collection[str]) -> None:
        """Wait until the stream has all interests and has folded all flights of the scenario's days.

        If the last days have no record, or an airport is unheard, waits until the clock stops, so that a wrong alert
        about them has enough time to come. Prints mails that arrive meanwhile, and shows the progress. Raises
        LocalError if the clock has stopped and no watermark has advanced for a minute.
        """
        keys = self._list_keys(unheard)
        must_reach_stop = bool(unheard) or plan.must_reach_stop
        progress = Progress(self._clock, plan.stop)
        while True:
            self._receive_new_mails()
            airports = self._fetch_airports()
            marks = {key: _find_watermark(airports, *key) for key in keys}
            is_covered = all(mark is not None and mark >= plan.covered_until for mark in marks.values())
            now = self._clock.now()
            has_stopped = now >= plan.stop
            if is_covered and self._has_all_interests(airports) and (has_stopped or not must_reach_stop):
                return
            alerts = sum(len(_parse_alerts(mail)) for mail in self._received)
            covered = min((mark for mark in marks.values() if mark is not None), default=None)
            self._screen.show_progress(
                f"  {now:%a %d %b %H:%M} UTC   covered to {covered:%d %b %H:%M}   {alerts} alerts mailed"
                if covered
                else f"  {now:%a %d %b %H:%M} UTC"
            )
            progress.require(marks)
            time.sleep(_POLL_INTERVAL_S)

    def _wait_until_settled(self, token: str, plan: DemoPlan, unheard: Collection[str]) -> None:
        """Wait until the night's record has covered all of the scenario's days that are recorded, and it is published.

        Prints mails that arrive meanwhile, and shows the progress. Raises LocalError if the clock has stopped and the
        record has covered nothing more for a minute.
        """
        keys = self._list_keys(unheard)
        progress = Progress(self._clock, plan.stop)
        while True:
            self._receive_new_mails()
            coverage = self._fetch_coverage(token, {airport for airport, _ in keys})
            settled = find_settled(coverage)
            has_stopped = self._clock.now() >= plan.stop
            must_reach_stop = bool(unheard) or plan.must_reach_stop
            if all(settled.get(key, plan.begin) >= plan.covered_until for key in keys) and (
                has_stopped or not must_reach_stop
            ):
                return
            progress.require(settled)
            alerts = sum(len(_parse_alerts(mail)) for mail in self._received)
            live = describe_live_share(coverage, keys, plan.begin, min(self._clock.now(), plan.covered_until))
            self._screen.show_progress(f"  {self._clock.now():%a %d %b %H:%M} UTC   {alerts} alerts mailed{live}")
            time.sleep(_POLL_INTERVAL_S)

    def _wait_until_learned(self, token: str, plan: DemoPlan, unheard: Collection[str]) -> None:
        """Wait until the weeks before the story are collected or it begins; print mails that arrive meanwhile."""
        wanted, is_over = LearningWait(self._options.interests, plan, unheard), False
        while not is_over and self._clock.now() < plan.learned_by:
            self._receive_new_mails()
            self._screen.show_progress(f"  {self._clock.now():%a %d %b %H:%M} UTC   collecting the weeks before")
            time.sleep(_POLL_INTERVAL_S)
            is_over = wanted.is_over(self._fetch_coverage(token, wanted.airports))
        self._screen.end_progress()
        self._screen.print_line(f"  {wanted.describe_end(is_over)}")

    def _list_keys(self, unheard: Collection[str]) -> set[tuple[str, Direction]]:
        """Return the airports and directions that are watched and heard."""
        return {
            (interest.airport, part)
            for interest in self._options.interests
            if interest.airport not in unheard
            for part in interest.direction.parts
        }

    def _wait_for_alerts(self, plan: DemoPlan, unheard: Collection[str]) -> tuple[LiveLog, RaisedAlerts]:
        """Wait until all is settled in the log, too, and the alerts are raised that follow from it; return both.

        After a minute in which no more was published or raised, returns what is there. Raises LocalError if a process
        has ended.
        """
        keys = self._list_keys(unheard)
        last, progressed_at = None, time.monotonic()
        while True:
            self._receive_new_mails()
            log = read_live_log(self._kafka)
            is_settled = log.is_settled(keys, plan.covered_until)
            raised = count_raised_alerts(self._kafka) if is_settled else NO_ALERTS
            if is_settled and raised.are_all_there:
                return log, raised
            if (log.settled_until, raised) != last:
                last, progressed_at = (log.settled_until, raised), time.monotonic()
            if time.monotonic() - progressed_at > STUCK_AFTER_S:
                return log, raised
            self._screen.show_progress("  waiting for the alerts of the last night")
            time.sleep(_POLL_INTERVAL_S)

    def _fetch_coverage(self, token: str, airports: Collection[str]) -> dict[str, dict[str, Any]]:
        """Fetch the coverage of airports from the collector, by ICAO code; what it does not answer now is missing."""
        found = {}
        for icao in sorted(airports):
            with contextlib.suppress(httpx.HTTPError):
                url = f"{build_public_url(self._options.ports)}/flights/{icao}/coverage"
                found[icao] = (
                    self._http.get(url, headers={"Authorization": f"Bearer {token}"}).raise_for_status().json()
                )
        return found

    def _fetch_airports(self) -> dict[str, dict[str, Any]]:
        """Fetch the airports as the pages show them, by ICAO code, from every worker; each returns its own airports.

        The airports of a worker that does not answer, or answers with an error, are missing.
        """
        airports = {}
        for ports in assign_worker_ports(self._options.ports, self._options.streams_workers).values():
            # A worker may be recovering, or have ended; the deadline is on progress.
            with contextlib.suppress(httpx.HTTPError):
                answer = self._http.get(build_url(ports.streams_web, "/api/airports?scope=worker")).raise_for_status()
                airports.update({each["icao"]: each for each in answer.json()})
        return airports

    def _has_all_interests(self, airports: dict[str, dict[str, Any]]) -> bool:
        """Return True if each airport has as many interests as the scenario sets there, False if some are missing."""
        icaos = [each.airport for each in self._options.interests]
        return all(airports.get(icao, {}).get("interests") == icaos.count(icao) for icao in icaos)

    def _wait_for_mails(self, count_missing: Callable[[Sequence[AlertHeaderFields]], int]) -> None:
        """Wait until no mail is missing; after a while, print how many are missing and return.

        That is a minute, and as long as corrections may wait for each other by the stack's clock. `count_missing`: says
        how many are missing if these alerts were mailed. Prints mails that arrive meanwhile, and shows the progress.
        Raises LocalError if a process has ended.
        """
        timeout_s = _MAIL_TIMEOUT_S + self._clock.real_seconds(_CORRECTIONS_WAIT)
        deadline = time.monotonic() + timeout_s
        while True:
            self._receive_new_mails()
            missing = count_missing([alert for mail in self._received for alert in _parse_alerts(mail)])
            if missing <= 0:
                return
            if time.monotonic() > deadline:
                self._screen.print_line(f"  {missing} alerts were not mailed within {timeout_s:.0f} s")
                return
            self._screen.show_progress(f"  waiting for {missing} mails")
            time.sleep(_POLL_INTERVAL_S)


def compute_median_and_p99(latencies_s: tuple[float, ...]) -> tuple[float, float] | None:
    """Return the median and the 99th percentile of the latencies, in any order; None without values.

    The median of an even number of values is the mean of the middle two; the 99th percentile is by nearest rank, that
    is, one of the values.
    """
    if not latencies_s:
        return None
    ordered = sorted(latencies_s)
    return statistics.median(ordered), ordered[max(-(-99 * len(ordered) // 100) - 1, 0)]


def _parse_alerts(mail: ReceivedMail) -> list[AlertHeaderFields]:
    """Parse the alerts that a mail reports from its headers, in their order; none for a mail of another kind."""
    return [parse_alert_header(str(value)) for value in mail.message.get_all(ALERT_HEADER, [])]


def _find_watermark(airports: dict[str, dict[str, Any]], icao: str, direction: Direction) -> datetime | None:
    """Return the instant up to which a direction (not BOTH) of an airport is covered; None if not covered yet.

    `airports`: as the pages' JSON shows them, by ICAO code; None, too, if the airport is missing there.
    """
    watermark = airports.get(icao, {}).get(direction.value, {}).get("watermark")
    return datetime.fromisoformat(watermark) if watermark else None


def _build_account_body() -> dict[str, object]:
    return {"email": EMAIL, "name": "Ada", "time_zone": "America/New_York"}
