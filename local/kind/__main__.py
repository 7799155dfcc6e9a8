"""`python -m local.kind up | demo | down`: Towerwatch in a Kubernetes cluster on this machine."""

import argparse
import math
import os
import ssl
import sys
from datetime import UTC, datetime, timedelta
from typing import Final

import httpx

from local.demo.expected import compute_expected_alerts
from local.demo.options import DEFAULT_INTERESTS, parse_interest
from local.demo.screen import Screen
from local.errors import LocalError
from local.kind import clock, cluster, secrets, story
from local.kind.commands import CONTEXT, capture_command, kubectl_command, require_programs
from local.opensky import nycflights
from local.opensky.flights import Timetable

URL: Final = "https://localhost"
BEGIN: Final = datetime(2013, 2, 8, tzinfo=UTC)
END: Final = datetime(2013, 2, 11, tzinfo=UTC)
COVERED_AFTER: Final = timedelta(hours=16)
"""Time after the end of the last day by which it is covered: its record appears at night, and is whole by morning."""
START_UP_S: Final = 180.0
"""Real seconds until the scenario's clock reaches BEGIN: the pods start meanwhile.

The clock is not held until they are ready, as the local demo's is: the pods have it in their environment, which does
not change after their start. If they need longer, the story begins without them: run it again, with the images there.
"""
SCENARIO_S: Final = 180.0
"""Real seconds from BEGIN to END."""


def main() -> int:
    """Run up, down, demo or secrets. Return 0 for success, 1 for missing or unexpected mails, 2 for an error.

    Before 2, one sentence on standard error gives the reason. 130 after Ctrl-C.
    """
    parser = argparse.ArgumentParser(prog="python -m local.kind", description=__doc__, allow_abbrev=False)
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("up", help="make the cluster, or bring it up to date")
    commands.add_parser("down", help="delete the cluster with its data")
    demo = commands.add_parser("demo", help="tell the demo's story in the cluster, and compare its mails")
    demo.add_argument("--empty", action="store_true", help="first delete what is in the cluster: it must be empty")
    demo.add_argument(
        "--given-cluster",
        action="store_true",
        help=f"use the cluster of kubectl's context {CONTEXT} as it is: its image and gateway must be there",
    )
    demo.add_argument(
        "--starts-in",
        type=_parse_seconds,
        default=START_UP_S,
        metavar="SECONDS",
        help="time until the scenario begins, by which all pods must be ready (%(default)g)",
    )
    commands.add_parser("secrets", help="only make the secrets that the overlay needs")
    chosen = parser.parse_args()
    try:
        match chosen.command:
            case "up":
                cluster.bring_up()
                _print_addresses()
            case "down":
                cluster.tear_down()
            case "demo":
                return _run_demo(empty=chosen.empty, is_given=chosen.given_cluster, starts_in_s=chosen.starts_in)
            case "secrets":
                made = secrets.make_secrets(cluster.SECRETS)
                print(f"{'made' if made else 'left as they are'}: {cluster.SECRETS}")
    except LocalError as error:
        print(f"kind: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130
    return 0


def _parse_seconds(text: str) -> float:
    """Parse a number of seconds between a minute and a day. Raises ArgumentTypeError for anything else."""
    try:
        seconds = float(text)
    except ValueError:
        seconds = math.nan
    if not 60 <= seconds <= 86_400:
        raise argparse.ArgumentTypeError(f"{text!r} is no number of seconds from 60 to 86400")
    return seconds


def _run_demo(*, empty: bool, is_given: bool, starts_in_s: float) -> int:
    """Run the scenario in an empty cluster, and print every difference between expected and mailed alerts.

    Creates kind's cluster if it does not exist. Deletes Towerwatch's namespace, writes the scenario's clock, and
    deploys anew; the cluster keeps this clock afterwards. Returns 0 if exactly the expected mails came, else 1.
    `empty`: delete the data of a cluster in use. `is_given`: the cluster is not kind's and exists; Docker and kind are
    not needed. Raises LocalError if a step fails, or if the cluster is in use and `empty` is False.
    """
    require_programs(*(("kubectl",) if is_given else ("docker", "kind", "kubectl")))
    screen = Screen()
    if is_given:
        in_use = cluster.namespace_exists()
    else:
        in_use = cluster.cluster_exists()
        if not in_use:
            cluster.bring_up()
    if in_use and not empty:
        raise LocalError(
            "the story needs a cluster without data, as it compares every mail: --empty (`make kind-demo ARGS=--empty`)"
            " deletes all accounts, interests and flights in it first"
        )
    if is_given:
        secrets.make_secrets(cluster.SECRETS)
    cluster.delete_namespace()
    now = datetime.now(UTC)
    clock.write_clock(
        cluster.CLOCK,
        clock.make_scenario_clock(BEGIN, END, COVERED_AFTER, now + timedelta(seconds=starts_in_s), SCENARIO_S),
    )
    cluster.deploy_overlay(restart=False)
    interests = [parse_interest(text, BEGIN) for text in DEFAULT_INTERESTS]
    timetable = Timetable(nycflights.load(nycflights.find_cache_directory(os.environ)))
    expected = [alert for interest in interests for alert in compute_expected_alerts(timetable, interest, END)]
    trust = ssl.create_default_context(cafile=str(cluster.SECRETS / secrets.CERTIFICATE))
    with httpx.Client(base_url=URL, verify=trust, timeout=15, trust_env=False) as people:
        clients = story.ClusterClients(
            people,
            fetch_mails=lambda: _run_in_pod("mailbox", "python", "-m", "local.kind.mails", "/var/lib/mailbox/mail"),
            fetch_airports=lambda: _run_in_pod("streams", "python", "-c", _FETCH_AIRPORTS),
        )
        difference = story.run_scenario(clients, interests, expected, screen)
    for name, alerts in (("missing", difference.missing), ("unexpected", difference.unexpected)):
        for alert in alerts:
            screen.print_line(f"  {name}: {alert}")
    if not difference:
        screen.print_line(f"  every expected mail came, {len(expected)} alerts, and no other")
    _print_addresses()
    return 1 if difference else 0


# The worker that is requested returns the airports of all workers.
_FETCH_AIRPORTS: Final = """
from urllib.request import ProxyHandler, build_opener
with build_opener(ProxyHandler({})).open("http://127.0.0.1:8080/api/airports", timeout=10) as answer:
    print(answer.read().decode())
"""


def _run_in_pod(deployment: str, *command: str) -> str:
    """Run a command in one pod of a Deployment in the cluster, and return its standard output.

    Raises LocalError, with the standard error, if the command fails or no pod can run it.
    """
    done = capture_command(
        *kubectl_command("--namespace", cluster.NAMESPACE, "exec", f"deployment/{deployment}", "--", *command)
    )
    if done.returncode != 0:
        raise LocalError(f"a pod of {deployment} cannot be asked: {done.stderr.strip()}")
    return done.stdout


def _print_addresses() -> None:
    """Print the URLs of the cluster, and where its password and certificate are."""
    password = cluster.SECRETS / "operators.password"
    forward = kubectl_command("--namespace", cluster.NAMESPACE, "port-forward")
    workers, mails = " ".join((*forward, "service/streams", "8080")), " ".join((*forward, "service/mailbox", "8026"))
    Screen().print_table(
        [
            ("Towerwatch, for people", f"{URL}/"),
            ("accounts", f"{URL}/docs/accounts"),
            ("interests and flights", f"{URL}/docs/flights"),
            ("Prometheus", f"{URL}/prometheus/  ({secrets.OPERATOR}; the password is in {password})"),
            ("the workers' pages", f"http://127.0.0.1:8080/overview, after: {workers}"),
            ("mails", f"http://127.0.0.1:8026/, after: {mails}"),
            ("the certificate, to trust", str(cluster.SECRETS / secrets.CERTIFICATE)),
        ]
    )


if __name__ == "__main__":
    sys.exit(main())
