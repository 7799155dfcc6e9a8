"""`python -m local.demo`: starts the local stack, runs the scenario, prints a report, and stops the stack."""

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
from pathlib import Path
from typing import Final, NoReturn

if __name__ == "__main__":  # the imports take seconds; until `main`, Ctrl-C ends the process without a stack trace
    signal.signal(signal.SIGINT, signal.SIG_DFL)

from chassis.clock import HeldClock, ScaledClock
from chassis.process import keep_files_private
from local.demo.broker import ensure_no_topics
from local.demo.expected import ExpectedStory, compare_alerts, compute_expected_story
from local.demo.live_credits import compute_live_credits
from local.demo.live_report import DeliveredAlert, LiveRun, LiveTruth, print_live_report
from local.demo.options import Options, parse_options
from local.demo.plan import DemoPlan, plan_demo
from local.demo.screen import Screen
from local.demo.sign_in_link import request_sign_in_link
from local.demo.story import EMAIL, Scenario, ScenarioResult, compute_median_and_p99
from local.demo.urls import build_mailbox_url, list_urls
from local.errors import LocalError
from local.kafka import find_external_bootstrap_servers
from local.opensky import nycflights
from local.opensky.flights import Timetable
from local.processes import ProcessSupervisor, kill_leftovers
from local.stack import (
    GATEWAY,
    SERVICES,
    Secrets,
    assign_worker_ports,
    build_environment,
    build_public_url,
    list_port_names,
    start_streams_worker,
    wait_until_ready,
    with_mailbox,
    with_positions,
    with_replay,
)
from notifier.mail.alert_header import AlertHeaderFields

_ONE_MAIL_PER_ALERT: Final = {
    "GROUP_WAIT_S": "0",
    "PERSON_MAILS_PER_HOUR": "0",
    "CORRECTIONS_QUIET_S": "5",
    "CORRECTIONS_WAIT_S": "30",
    "CORRECTIONS_PAUSE_S": "0",
}
"""Notifier settings without grouping: weeks of alerts come in one minute here, and each shall be seen by itself."""


def main() -> int:
    """Run the demo and return the exit status: 0 if exactly the expected mails came, 1 if not, 2 if it could not run.

    Before 2, one sentence on standard error gives the reason. 130 after Ctrl-C.
    """
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background job begins with Ctrl-C ignored
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _exit_on_signal)
    screen = Screen()
    try:
        keep_files_private()
        options = parse_options(sys.argv[1:])
        with _lock_folder(options.data):
            return _run_demo(options, screen)
    except LocalError as error:
        screen.end_progress()
        print(f"demo: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        screen.end_progress()
        return 130


def _exit_on_signal(number: int, _frame: object) -> NoReturn:
    """Handle a signal: exit with the status that shells give to it."""
    sys.exit(128 + number)


@contextmanager
def _lock_folder(data: Path) -> Iterator[None]:
    """Hold the folder's lock for the block. Raises LocalError at once if another demo holds it.

    The lock is a file beside the folder, for the demo deletes the folder. The kernel releases the lock however this
    process ends.
    """
    data.parent.mkdir(parents=True, exist_ok=True)
    with data.with_name(f"{data.name}.lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise LocalError("a demo is running already; end it with Ctrl-C first") from None
        yield


def _run_demo(options: Options, screen: Screen) -> int:
    """Start the stack, run the scenario, print the report, and stop the stack.

    Before the start, kills leftovers of an earlier run and deletes the data folder; with `options.reset_topics` also
    deletes the topics of an external broker. After the report, writes the mailed alerts to `options.json`, and unless
    `options.once` keeps the stack running until Ctrl-C. Returns 0 if exactly the expected mails came, else 1. Raises
    LocalError if a port is in use, or if the stack or the scenario fails.

    The clock of the stack stands still until all is ready and the interests are set, however long that takes.
    """
    data = options.data
    plan = plan_demo(
        options.begin,
        options.end,
        options.schedule,
        is_live=options.is_live,
        learning_targets=options.learning_targets,
    )
    external = find_external_bootstrap_servers(os.environ)
    names = (*(() if external else ("kafka",)), "opensky", "mailbox", *SERVICES, GATEWAY)
    kill_leftovers(data)
    workers = assign_worker_ports(options.ports, options.streams_workers)
    options.ports.require_free(list_port_names(names))
    for ports in workers.values():
        ports.require_free(("streams_web",))
    if external:
        ensure_no_topics(external, reset=options.reset_topics)
    shutil.rmtree(data, ignore_errors=True)
    data.mkdir(parents=True)

    settings = build_environment(options.ports, data, Secrets.random(), external)
    settings = with_mailbox(with_replay(settings, options.ports, plan.schedule), options.ports)
    settings |= _ONE_MAIL_PER_ALERT
    if plan.is_live:
        settings = with_positions(settings, compute_live_credits(options.interests), options.state_faults)
    if len(workers) > 1:
        settings["SESSION_TIMEOUT_S"] = "6"  # the others take over sooner; brokers allow no less
    with ProcessSupervisor(settings, data) as processes:
        screen.print_line("Starting a broker, four services, a replay of real flights and a mailbox …")
        if not external:
            screen.print_line("  Kafka (fetched from Maven Central when it is started for the first time)")
            processes.start("kafka")
            wait_until_ready(processes, ("kafka",), options.ports, data)
        clock = HeldClock(plan.start, plan.rate, data / "clock-anchor", plan.stop)
        processes.add_environment(_build_clock_environment(plan, data / "clock-anchor"))
        for name in names:
            if name not in ("kafka", "streams"):
                processes.start(name)
        for name, ports in workers.items():
            start_streams_worker(processes, name, ports, data)
        timetable = Timetable(nycflights.load(nycflights.find_cache_directory(os.environ)))
        story = compute_expected_story(timetable, options.interests, plan)
        truth = LiveTruth(timetable, options.interests, plan)
        del timetable
        wait_until_ready(processes, names, options.ports, data)
        for ports in workers.values():
            wait_until_ready(processes, ("streams",), ports, data)
        restartable = tuple(workers) if len(workers) > 1 else ()

        def require_alive() -> None:
            """Restart ended stream workers, if there are several; raise LocalError if another process has ended."""
            for name in processes.restart_ended(restartable):
                screen.print_line(f"  {name} had ended and is begun again; another worker has its airports meanwhile")
            processes.require_alive(but=restartable)

        names = (*(name for name in names if name not in workers), *workers)
        screen.print_line(f"  ready: {', '.join(names)}; logs in {data / 'logs'}")
        screen.print_line(f"  people {build_public_url(options.ports)}/  (a link that signs in there comes at the end)")
        screen.print_line(f"  mails  {build_mailbox_url(options.ports)}  (new ones appear there by themselves)")
        kafka = settings["KAFKA_BOOTSTRAP_SERVERS"]
        scenario = Scenario(options, clock, require_alive, data / "mail", kafka, screen)
        token = scenario.register()
        scenario.set_interests(token)
        running = clock.release()
        result = scenario.run(token, story.plan, story.unheard)
        is_right = (
            _report_live(screen, truth, result, running) if plan.is_live else _report_settled(screen, story, result)
        )
        if options.json is not None:
            options.json.write_text(json.dumps([_encode_alert(each) for each in result.mailed], indent=1) + "\n")
            screen.print_line(f"  what was mailed: {options.json}")
        if not options.once:
            link = request_sign_in_link(build_public_url(options.ports), EMAIL, data / "mail", require_alive)
            _wait_for_ctrl_c(require_alive, options, screen, link)
        return 0 if is_right else 1


def _build_clock_environment(plan: DemoPlan, anchor_path: Path) -> dict[str, str]:
    """Build the environment variables of the clock, of the poll interval that must fit its rate, and of test addresses.

    `anchor_path`: the file that releases the clock. All other settings keep their defaults.
    """
    return {
        "CLOCK_START": plan.start.isoformat(),
        "CLOCK_RATE": repr(plan.rate),
        "CLOCK_ANCHOR_PATH": str(anchor_path.absolute()),
        "CLOCK_STOP": plan.stop.isoformat(),
        "POLL_INTERVAL": _encode_duration(plan.poll_interval.total_seconds()),
        "ALLOW_TEST_ADDRESSES": "true",
    }


def _encode_duration(duration_s: float) -> str:
    """Encode a duration in ISO 8601's format."""
    return f"PT{duration_s:.0f}S"


def _report_settled(screen: Screen, story: ExpectedStory, result: ScenarioResult) -> bool:
    """Print the numbers of flights, alerts and mails, the latencies, and every missing or unexpected alert.

    Returns True if exactly the expected alerts were mailed, else False.
    """
    difference = compare_alerts(story.alerts, result.mailed)
    screen.print_heading("The story in figures")
    screen.print_table(
        [
            ("flights", f"{result.published.flights:,} in {result.published.batches:,} batches"),
            ("alerts", f"{len(result.published.alert_ids):,}"),
            ("mails", f"{len(result.mailed):,} of {len(story.alerts):,} expected"),
            ("from flight event to delivered mail", _describe_latencies(result)),
        ]
    )
    for name, alerts in (("missing", difference.missing), ("unexpected", difference.unexpected)):
        for alert in alerts:
            screen.print_line(f"  {name}: {json.dumps(_encode_alert(alert))}")
    if not difference:
        screen.print_line("  every expected mail came, and no other")
    return not difference


def _report_live(screen: Screen, truth: LiveTruth, result: ScenarioResult, clock: ScaledClock) -> bool:
    """Print the figures of a live run, and what was wrong; return True if nothing was, else False."""
    if result.logs is None:
        raise LocalError("the run was live, and has no log")
    settled, last, raised = result.logs
    delivered = [
        DeliveredAlert(alert, clock.start + (at - clock.anchor) * clock.rate)
        for alert, at in zip(result.mailed, result.delivered_at, strict=True)
    ]
    verdict = truth.judge(LiveRun(settled, last, raised, delivered))
    screen.print_heading("The story in figures")
    print_live_report(screen, verdict, settled, _describe_latencies(result))
    return not verdict.faults


def _describe_latencies(result: ScenarioResult) -> str:
    """Return the latencies of the mails in words."""
    latency = compute_median_and_p99(result.latencies_s)
    return f"median {latency[0]:.2f} s, 99th percentile {latency[1]:.2f} s" if latency else "no mail, no figure"


def _encode_alert(alert: AlertHeaderFields) -> dict[str, object]:
    return {**asdict(alert), "window_start": alert.window_start.strftime("%Y-%m-%dT%H:%M:%SZ")}


def _wait_for_ctrl_c(require_alive: Callable[[], None], options: Options, screen: Screen, link: str) -> None:
    """Print the stack's URLs and keep it running until Ctrl-C, with a call of `require_alive` twice a second.

    `link` signs in to the pages as the person of the story. Raises what `require_alive` raises:
    LocalError if a process has ended that is not restarted.
    """
    screen.print_heading("Still up, until Ctrl-C")
    screen.print_line(
        "Open this to see the pages as Ada does, who watched (once, for 15 minutes; then it asks for another mail):"
    )
    screen.print_line(f"  {link}")
    screen.print_table(list_urls(options.ports, options.streams_workers))
    try:
        while True:
            require_alive()
            time.sleep(0.5)
    except KeyboardInterrupt:
        screen.end_progress()


if __name__ == "__main__":
    sys.exit(main())
