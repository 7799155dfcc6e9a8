"""`python -m local.kind up | demo | down`: Towerwatch in a Kubernetes cluster on this machine."""

import argparse
import os
import ssl
import sys
from datetime import UTC, datetime, timedelta
from typing import Final

import httpx

from local.demo.expected import expected_alerts
from local.demo.options import DEFAULT_INTERESTS, parse_interest
from local.demo.screen import Screen
from local.errors import LocalError
from local.kind import clock, cluster, secrets, story
from local.kind.commands import kubectl, require, run_quietly
from local.opensky import nycflights
from local.opensky.flights import Timetable

URL: Final = "https://localhost"
BEGIN: Final = datetime(2013, 2, 8, tzinfo=UTC)
END: Final = datetime(2013, 2, 11, tzinfo=UTC)
LAG: Final = timedelta(minutes=10)
"""DEPARTURES_LAG and ARRIVALS_LAG of the overlay."""
START_UP_S: Final = 180.0
STORY_S: Final = 180.0


def main() -> int:
    """0 when done; 1 when the story ended otherwise than the timetable says; 2 when it cannot be done, with why."""
    parser = argparse.ArgumentParser(prog="python -m local.kind", description=__doc__, allow_abbrev=False)
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("up", help="make the cluster, or bring it up to date")
    commands.add_parser("down", help="delete the cluster with its data")
    demo = commands.add_parser("demo", help="tell the demo's story in the cluster, and compare its mails")
    demo.add_argument("--empty", action="store_true", help="first delete what is in the cluster: it must be empty")
    commands.add_parser("secrets", help="only make the secrets that the overlay needs")
    chosen = parser.parse_args()
    try:
        match chosen.command:
            case "up":
                cluster.up()
                _show()
            case "down":
                cluster.down()
            case "demo":
                return _demo(empty=chosen.empty)
            case "secrets":
                made = secrets.make(cluster.SECRETS)
                print(f"{'made' if made else 'left as they are'}: {cluster.SECRETS}")
    except LocalError as error:
        print(f"kind: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130
    return 0


def _demo(*, empty: bool) -> int:
    require("docker", "kind", "kubectl")
    screen = Screen()
    if not cluster.exists():
        cluster.up()
    elif not empty:
        raise LocalError(
            "the story needs a cluster without data, as it compares every mail: `make kind-demo ARGS=--empty` "
            "deletes all accounts, interests and flights in it first"
        )
    cluster.empty()
    now = datetime.now(UTC)
    clock.write(cluster.CLOCK, clock.for_story(BEGIN, END, LAG, now + timedelta(seconds=START_UP_S), STORY_S))
    cluster.apply(restart=False)
    interests = [parse_interest(text) for text in DEFAULT_INTERESTS]
    timetable = Timetable(nycflights.load(nycflights.find_cache_directory(os.environ)))
    expected = [alert for wanted in interests for alert in expected_alerts(timetable, wanted, BEGIN, END)]
    trust = ssl.create_default_context(cafile=str(cluster.SECRETS / secrets.CERTIFICATE))
    with httpx.Client(base_url=URL, verify=trust, timeout=15, trust_env=False) as people:
        doors = story.Doors(
            people,
            mails=lambda: _in_pod("mailbox", "python", "-m", "local.kind.mails", "/var/lib/mailbox/mail"),
            airports=lambda: _in_pod("streams", "python", "-c", _AIRPORTS),
        )
        wrong = story.tell(doors, interests, BEGIN, expected, screen)
    for name, alerts in (("missing", wrong.missing), ("unexpected", wrong.unexpected)):
        for alert in alerts:
            screen.say(f"  {name}: {alert}")
    if not wrong:
        screen.say(f"  every expected mail came, {len(expected)} alerts, and no other")
    _show()
    return 1 if wrong else 0


# Of the worker that is asked, and of all the others by it.
_AIRPORTS: Final = """
from urllib.request import urlopen
with urlopen("http://127.0.0.1:8080/api/airports", timeout=10) as answer:
    print(answer.read().decode())
"""


def _in_pod(deployment: str, *command: str) -> str:
    """What a command prints in a pod of a Deployment. Raises LocalError."""
    done = run_quietly(*kubectl("--namespace", cluster.NAMESPACE, "exec", f"deployment/{deployment}", "--", *command))
    if done.returncode != 0:
        raise LocalError(f"a pod of {deployment} cannot be asked: {done.stderr.strip()}")
    return done.stdout


def _show() -> None:
    password = cluster.SECRETS / "operators.password"
    workers = " ".join(kubectl("--namespace", cluster.NAMESPACE, "port-forward", "service/streams", "8080"))
    Screen().table(
        [
            ("accounts", f"{URL}/docs/accounts"),
            ("interests and flights", f"{URL}/docs/flights"),
            ("Prometheus", f"{URL}/prometheus/  ({secrets.OPERATOR}; the password is in {password})"),
            ("the workers' pages", f"http://127.0.0.1:8080/overview, after: {workers}"),
            ("the certificate, to trust", str(cluster.SECRETS / secrets.CERTIFICATE)),
        ]
    )


if __name__ == "__main__":
    sys.exit(main())
