"""`python -m local.demo`: start everything, tell the story, say how it went, leave nothing behind."""

import fcntl
import json
import os
import shutil
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final, NoReturn

from chassis.clock import ScaledClock
from local.demo.broker import make_room
from local.demo.expected import Difference, difference, expected_alerts
from local.demo.options import Options, parse_options
from local.demo.screen import Screen
from local.demo.story import Story, Told, percentiles, urls
from local.errors import LocalError
from local.kafka import external_bootstrap_servers
from local.opensky import nycflights
from local.opensky.flights import Timetable
from local.processes import Processes, end_leftovers
from local.stack import (
    SERVICES,
    Secrets,
    begin_streams_worker,
    environment,
    listeners,
    streams_workers,
    wait_until_ready,
    with_mailbox,
    with_replay,
)
from notifier.mail.alert_header import ToldAlert

STORY_S: Final = 40
"""Real seconds that the story's days take."""
FASTEST: Final = 400_000
"""Clock seconds in a real one, at most: a stack on two cores must keep up."""
START_UP_S: Final = 6
"""Real seconds between the clock being set and its reaching the story: the services start meanwhile."""
_A_MAIL_FOR_EACH_ALERT: Final = {"GROUP_WAIT_S": "0", "PERSON_MAILS_PER_HOUR": "0"}
"""Days pass in seconds here: what would be weeks of mails comes in one minute, and is to be seen one by one."""
LAG: Final = timedelta(minutes=10)
"""How long the replay, whose flights are all known, is taken to need."""


def main() -> int:
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background job begins with Ctrl-C ignored
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _end)
    screen = Screen()
    try:
        options = parse_options(sys.argv[1:])
        with _alone_in(options.data):
            return _run(options, screen)
    except LocalError as error:
        screen.end_progress()
        print(f"demo: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        screen.end_progress()
        return 130


def _end(number: int, _frame: object) -> NoReturn:
    sys.exit(128 + number)


@contextmanager
def _alone_in(data: Path) -> Iterator[None]:
    """One demo at a time in a folder. The kernel lets go of the lock however we end."""
    data.parent.mkdir(parents=True, exist_ok=True)
    with data.with_name(f"{data.name}.lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise LocalError("a demo is running already; end it with Ctrl-C first") from None
        yield


def _run(options: Options, screen: Screen) -> int:
    data = options.data
    external = external_bootstrap_servers(os.environ)
    names = (*(() if external else ("kafka",)), "opensky", "mailbox", *SERVICES)
    end_leftovers(data)
    workers = streams_workers(options.ports, options.streams_workers)
    options.ports.require_free(listeners(names))
    for ports in workers.values():
        ports.require_free(("streams_web",))
    if external:
        make_room(external, reset=options.reset_topics)
    shutil.rmtree(data, ignore_errors=True)
    data.mkdir(parents=True)

    settings = environment(options.ports, data, Secrets.random(), external)
    settings = with_mailbox(with_replay(settings, options.ports), options.ports)
    settings |= _A_MAIL_FOR_EACH_ALERT
    if len(workers) > 1:
        settings["SESSION_TIMEOUT_S"] = "6"  # the others take over sooner; brokers allow no less
    with Processes(settings, data) as processes:
        screen.say("Starting a broker, four services, a replay of real flights and a mailbox …")
        if not external:
            screen.say("  Kafka (fetched from Maven Central when it is started for the first time)")
            processes.begin("kafka")
            wait_until_ready(processes, ("kafka",), options.ports, data)
        clock = _clock(options)
        processes.set_environment(_clock_environment(clock))
        for name in names:
            if name not in ("kafka", "streams"):
                processes.begin(name)
        for name, ports in workers.items():
            begin_streams_worker(processes, name, ports, data)
        timetable = Timetable(nycflights.load(nycflights.find_cache_directory(os.environ)))
        expected = [
            alert
            for wanted in options.interests
            for alert in expected_alerts(timetable, wanted, options.begin, options.end)
        ]
        del timetable
        wait_until_ready(processes, names, options.ports, data)
        for ports in workers.values():
            wait_until_ready(processes, ("streams",), ports, data)
        several = tuple(workers) if len(workers) > 1 else ()

        def require_alive() -> None:
            for name in processes.restart_ended(several):
                screen.say(f"  {name} had ended and is begun again; another worker has its airports meanwhile")
            processes.require_alive(but=several)

        names = (*(name for name in names if name not in workers), *workers)
        screen.say(f"  ready: {', '.join(names)}; logs in {data / 'logs'}")
        kafka = settings["KAFKA_BOOTSTRAP_SERVERS"]
        told = Story(options, clock, require_alive, data / "mail", kafka, screen).tell()
        wrong = difference(expected, told.mailed)
        _report(screen, options, told, len(expected), wrong)
        if options.json is not None:
            options.json.write_text(json.dumps([_as_json(each) for each in told.mailed], indent=1) + "\n")
        if not options.once:
            _stay(require_alive, options, screen)
        return 1 if wrong else 0


def _clock(options: Options) -> ScaledClock:
    """The story's clock: it stands still once all of the story can be known, so no later flight is ever told of."""
    length = (options.end - options.begin).total_seconds()
    rate = min(length / STORY_S, FASTEST)
    anchor = datetime.now(UTC) + timedelta(seconds=START_UP_S)
    return ScaledClock(options.begin, rate, anchor, options.end + LAG)


def _clock_environment(clock: ScaledClock) -> dict[str, str]:
    return {
        "CLOCK_START": clock.start.isoformat(),
        "CLOCK_RATE": repr(clock.rate),
        "CLOCK_ANCHOR": clock.anchor.isoformat(),
        "CLOCK_STOP": clock.stop.isoformat() if clock.stop else "",
        # Some two collections a second.
        "POLL_INTERVAL": _iso(max(clock.rate * 0.5, 900.0)),
        "DEPARTURES_LAG": _iso(LAG.total_seconds()),
        "ARRIVALS_LAG": _iso(LAG.total_seconds()),
        "ALLOW_TEST_ADDRESSES": "true",
    }


def _iso(duration_s: float) -> str:
    """A duration as ISO 8601 has it."""
    return f"PT{duration_s:.0f}S"


def _report(screen: Screen, options: Options, told: Told, expected: int, wrong: Difference) -> None:
    screen.heading("The story in figures")
    latency = percentiles(told.latencies_s)
    screen.table(
        [
            ("flights", f"{told.measured.flights:,} in {told.measured.batches:,} batches"),
            ("alerts", f"{len(told.measured.alert_ids):,}"),
            ("mails", f"{len(told.mailed):,} of {expected:,} expected"),
            (
                "from flight event to delivered mail",
                f"median {latency[0]:.2f} s, 99th percentile {latency[1]:.2f} s" if latency else "no mail, no figure",
            ),
        ]
    )
    for name, alerts in (("missing", wrong.missing), ("unexpected", wrong.unexpected)):
        for alert in alerts:
            screen.say(f"  {name}: {json.dumps(_as_json(alert))}")
    if not wrong:
        screen.say("  every expected mail came, and no other")
    if options.json is not None:
        screen.say(f"  what was mailed: {options.json}")


def _as_json(alert: ToldAlert) -> dict[str, object]:
    return {**asdict(alert), "window_start": alert.window_start.strftime("%Y-%m-%dT%H:%M:%SZ")}


def _stay(require_alive: Callable[[], None], options: Options, screen: Screen) -> None:
    screen.heading("Still up, until Ctrl-C")
    screen.table(urls(options.ports, options.streams_workers))
    try:
        while True:
            require_alive()
            time.sleep(0.5)
    except KeyboardInterrupt:
        screen.say()


if __name__ == "__main__":
    sys.exit(main())
