"""The demo's scenario on the cluster, run as people would use it: through the gateway, and by the mails."""

import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import httpx

from domain.interests import Interest
from local.demo.expected import AlertDifference, compare_alerts
from local.demo.screen import Screen
from local.demo.wording import build_interest_body
from local.errors import LocalError
from notifier.mail.alert_header import AlertHeaderFields, parse_alert_header

EMAIL: Final = "ada@towerwatch.test"
_POLL_INTERVAL_S: Final = 1.0
_STUCK_AFTER_S: Final = 180.0
"""Seconds without progress after which the scenario waits no longer."""


@dataclass(frozen=True, slots=True)
class ClusterClients:
    """The clients by which the scenario reaches the cluster: of the gateway, of the mailbox, and of a stream worker."""

    gateway: httpx.Client
    """An HTTP client with the gateway's address as its base URL, for the requests that people send."""
    fetch_mails: Callable[[], str]
    """Returns all mails in the mailbox as JSON: the output of `local.kind.mails` in the mailbox's pod."""
    fetch_airports: Callable[[], str]
    """Returns the airports of all workers as JSON: a stream worker's answer to /api/airports."""


def run_scenario(
    clients: ClusterClients, interests: Sequence[Interest], expected: Sequence[AlertHeaderFields], screen: Screen
) -> AlertDifference:
    """Register, confirm, set `interests`, wait until as many alerts are mailed as expected, and compare them.

    Prints every step and mail. Returns the difference between the mailed alerts and the expected ones, also if the wait
    for the alerts has timed out. Raises LocalError if a request is rejected or the confirmation mail does not come.
    """
    screen.print_heading("Somebody registers")
    account = {"email": EMAIL, "name": "Ada", "time_zone": "America/New_York"}
    token = str(_post(clients.gateway, "/users", account)["token"])
    link = _poll_until_found(
        lambda: next((mail["link"] for mail in _fetch_mails(clients) if mail["link"]), None), "no confirmation mail"
    )
    path = httpx.URL(link).raw_path.decode("ascii")
    for method in ("GET", "POST"):  # the page with its button, and the button
        # With the token, which thereby stays valid.
        answer = clients.gateway.request(method, path, headers={"Authorization": f"Bearer {token}"})
        if answer.status_code != httpx.codes.OK:
            raise LocalError(f"the confirmation link was answered {answer.status_code}")
    screen.print_line(f"  {EMAIL} is confirmed, by the link in a mail")
    for interest in interests:
        _post(clients.gateway, "/interests", build_interest_body(interest), token)
    screen.print_line(f"  {len(interests)} interests are set")
    screen.print_heading("The clock runs")
    mailed = _wait_for_alerts(clients, len(expected), screen)
    screen.end_progress()
    return compare_alerts(list(expected), mailed)


def _wait_for_alerts(clients: ClusterClients, expected: int, screen: Screen) -> tuple[AlertHeaderFields, ...]:
    """Wait until as many alerts are mailed as expected, or nothing progresses any more; return the mailed alerts.

    Prints the subject of each mail that arrives, and shows the progress. The wait ends, without an error, after
    `_STUCK_AFTER_S` in which no watermark has advanced and no alert was mailed.
    """
    last_progress: object = None
    progressed_at = time.monotonic()
    shown = 0
    while True:
        mails = _fetch_mails(clients)
        for mail in mails[shown:]:
            screen.print_line(f"  ✉ {mail['subject']}")
        shown = len(mails)
        alerts = tuple(parse_alert_header(value) for mail in mails for value in mail["alerts"])
        if len(alerts) >= expected:
            return alerts
        airports = json.loads(clients.fetch_airports())
        marks = [each[part]["watermark"] for each in airports for part in ("arrivals", "departures")]
        if (marks, len(alerts)) != last_progress:
            last_progress, progressed_at = (marks, len(alerts)), time.monotonic()
        if time.monotonic() - progressed_at > _STUCK_AFTER_S:
            screen.print_line(f"  nothing has got on for {_STUCK_AFTER_S:.0f} s")
            return alerts
        covered = min((mark for mark in marks if mark), default="nothing yet")
        screen.show_progress(f"  covered to {covered}   {len(alerts)} of {expected} alerts mailed")
        time.sleep(_POLL_INTERVAL_S)


def _fetch_mails(clients: ClusterClients) -> list[dict[str, Any]]:
    """Fetch all mails of the mailbox, in the order of delivery, as `local.kind.mails` encodes them."""
    return list(json.loads(clients.fetch_mails()))


def _poll_until_found(find: Callable[[], str | None], error: str) -> str:
    """Call `find` once a second until it returns a text, and return the text.

    Raises LocalError with `error`, the begin of a sentence, after `_STUCK_AFTER_S`.
    """
    deadline = time.monotonic() + _STUCK_AFTER_S
    while (found := find()) is None:
        if time.monotonic() > deadline:
            raise LocalError(f"{error} within {_STUCK_AFTER_S:.0f} s")
        time.sleep(_POLL_INTERVAL_S)
    return found


def _post(gateway: httpx.Client, path: str, body: Mapping[str, object], token: str | None = None) -> dict[str, Any]:
    """POST a JSON body through the gateway and return the answer's JSON.

    Retries for `_STUCK_AFTER_S` while the gateway or the service is not ready (no answer, 502, 503, 504), as a person's
    client would. Raises LocalError after that, and at once for any other error status. `token`: sent as bearer token.
    """
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    deadline = time.monotonic() + _STUCK_AFTER_S
    while True:
        try:
            answer = gateway.post(path, json=body, headers=headers)
        except httpx.TransportError as error:
            result, is_transient = f"not answered ({type(error).__name__})", True
        else:
            if answer.status_code < 400:
                return dict(answer.json())
            result = f"answered {answer.status_code}: {answer.text[:200]}"
            is_transient = answer.status_code in (502, 503, 504)
        if not is_transient or time.monotonic() > deadline:
            raise LocalError(f"POST {path} was {result}")
        time.sleep(_POLL_INTERVAL_S)
