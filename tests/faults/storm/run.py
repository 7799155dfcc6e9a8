"""One run of a storm: the story under faults, and the comparison of all that came out of it with the oracle."""

import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from random import Random
from typing import Final
from uuid import UUID

from sqlalchemy import NullPool, create_engine, func, select
from sqlalchemy.exc import SQLAlchemyError

from collector.model import OUTBOX as COLLECTOR_OUTBOX, CoverageRow, EventLogRow, InterestRow
from domain.interests import Direction
from domain.windows import Window
from local.mailbox.reading import read_mails
from local.opensky import nycflights
from local.opensky.flights import Timetable
from tests.faults.storm.faults import BROKER, Storm, draw_schedule
from tests.faults.storm.oracle import (
    ExpectedAlert,
    Mailbox,
    compute_expected,
    compute_expected_of_person,
    find_wrong_count,
    select_mailed,
)
from tests.faults.storm.people import ARRIVALS, DEPARTURES, Person, Rest, StoredInterest, Wish, Wishes
from tests.faults.storm.stack import BARRIER_OF_ALL, DATABASES, REPLICAS, Stack
from tests.notifier.process import is_everything_acknowledged as is_notifier_done
from tests.service_process import ROOT
from tests.streams.process import is_everything_acknowledged as is_stream_done, read_records
from towerwatch.alerts.v1.events_pb2 import AlertRaised
from towerwatch.topics import ALERTS_DEAD_LETTER, ALERTS_RAISED, INTERESTS_CHANGED
from user_manager.deletion.steps import DeletionStep
from user_manager.model import OUTBOX as USER_OUTBOX, Deletion, User

DAY: Final = timedelta(days=1)
DAYS: Final = 7
WITHIN_S: Final = 420.0
"""Seconds without progress in a part of the story, which takes half a minute undisturbed: slowness is no fault."""
_READ_EVERY_S: Final = 0.5
"""Seconds between two looks at what is covered, while the story goes on."""

_NEVER_LOGGED: Final = (
    "event_log.lost", "interests.out_of_step", "unexpected_error", "task.failed", "join.failed", "join.broken",
    "notifier.failed", "recovery.failed",
)  # fmt: skip
"""Events that must not be in any log: the log was never lost, and what is not foreseen is a fault."""


@dataclass(frozen=True, slots=True)
class StormOptions:
    """The parameters of a storm: everything else is drawn from the seed."""

    seed: int
    faults: int = 14
    database: str = "mariadb"
    """`mariadb` or `sqlite`."""

    @property
    def command(self) -> str:
        """The command that repeats the storm."""
        return f"python -m tests.faults.storm --seed {self.seed} --faults {self.faults} --database {self.database}"


@dataclass
class StormReport:
    """The report of a storm: its history, its figures, and the problems of its outcome."""

    options: StormOptions
    folder: Path
    history: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    figures: dict[str, object] = field(default_factory=dict)

    def summarize(self) -> str:
        """Return one line."""
        figures = ", ".join(f"{value} {name}" for name, value in self.figures.items())
        outcome = "exact" if not self.problems else f"{len(self.problems)} PROBLEMS"
        return f"seed {self.options.seed} ({self.options.database}): {outcome}; {figures}"

    def describe(self) -> str:
        """Return the seed, the schedule with its times, the problems, where the logs are, and how to repeat it."""
        return "\n".join(
            [
                self.summarize(), *self.history, *(f"PROBLEM: {each}" for each in self.problems),
                f"logs: {self.folder}", f"repeat: {self.options.command}",
            ]
        )  # fmt: skip


class StormRun:
    """A storm: its people, its stack, its faults. `run` runs the story and returns the report."""

    def __init__(self, options: StormOptions, folder: Path, say: Callable[[str], None] = lambda _: None) -> None:
        """`say`: gets each line of the history."""
        self._report = StormReport(options, folder)
        self._say = say
        self._chance = Random(f"storm {options.seed}")
        self._timetable = Timetable(nycflights.load(nycflights.find_cache_directory(os.environ)))
        self._begin = datetime(2013, 1, 8, tzinfo=UTC) + self._chance.randrange(340) * DAY
        self._end = self._begin + DAYS * DAY
        self._break = self._begin + self._chance.choice((2, 3, 4)) * DAY
        self._wishes = Wishes(self._timetable, self._chance, self._begin, self._end)
        self._people = self._draw_people()
        self._changes = {name: self._draw_change(name, which) for name, which in (("dan", 0), ("ivy", 1))}
        self._delete_at = self._break + self._chance.choice((1, 2)) * DAY
        settings = {"GROUP_WAIT_S": self._chance.choice(("0", "0.3", "1"))}
        self._stack = Stack(
            folder, self._begin + timedelta(hours=6), self._end, options.database == "mariadb", settings,
            options.seed, self._chance.choice((0.05, 0.15, 0.25)),
        )  # fmt: skip
        schedule = draw_schedule(self._chance, options.faults, options.database == "mariadb")
        self._storm = Storm(self._stack, schedule, self._note)
        self._rest = Rest(self._stack, options.seed, self._tick, WITHIN_S)
        self._engines = {}
        self._looked_at = 0.0
        self._paced_at = 0.0
        self._is_story_running = False
        self._covered: datetime | None = None
        self._deleted_covered_until: datetime | None = None

    def _draw_people(self) -> dict[str, Person]:
        """Draw what each person wishes from the begin on."""
        one, two = self._chance.sample(DEPARTURES, 2)
        first, second, third = self._chance.sample(ARRIVALS, 3)
        self._third = third
        draw, out, into, both = self._wishes.draw, Direction.DEPARTURES, Direction.ARRIVALS, Direction.BOTH
        hour, quarter, day = Window.ONE_HOUR, Window.SIX_HOURS, Window.ONE_DAY
        wishes = {
            "ann": [draw(one, out, hour), draw(two, both, quarter)],
            "bob": [draw(first, into, day), draw(one, out, hour)],
            "cat": [draw(one, out, day), draw(first, into, quarter)],
            "dan": [draw(two, out, quarter), draw(second, into, day)],  # changes the first
            "eve": [draw(one, out, quarter), draw(second, into, quarter)],  # removes the second
            "fay": [draw(one, out, hour), draw(second, into, quarter)],  # is deleted
            "gus": [draw(one, out, hour), draw(third, into, day)],  # comes later
            "hal": [],  # never confirms
            "ivy": [draw(one, out, hour), draw(one, out, quarter)],  # removes and changes them while flights come
        }
        self._first_airport = one
        return {name: Person(name, found) for name, found in wishes.items()}

    def _draw_change(self, name: str, which: int) -> Wish:
        """Draw the second version of an interest, which is effective from the break on."""
        old = self._people[name].wishes[which]
        return self._wishes.draw(old.airport, old.direction, old.window, self._break)

    def _note(self, line: str) -> None:
        self._report.history.append(line)
        self._say(line)

    def _tick(self) -> None:
        """Let the storm go on, and the story as far as what is covered allows."""
        self._storm.tick()
        if self._is_story_running and time.monotonic() >= self._paced_at + _READ_EVERY_S:
            self._pace_story()
            self._paced_at = time.monotonic()

    def run(self) -> StormReport:
        """Run the story, compare the outcome, and return the report; it also lists every failure."""
        began = time.monotonic()
        self._note(f"the story: {self._begin:%F} to {self._end:%F}, a break at {self._break:%F}")
        try:
            with self._stack.running():
                self._run_story()
                self._compare()
                self._stop_all()
        except Exception as error:  # noqa: BLE001 - the report says it, with the history
            self._report.problems.append(f"{type(error).__name__}: {error}")
            if os.environ.get("STORM_DEBUG"):
                import traceback

                traceback.print_exc()
        self._read_logs()
        self._report.figures["s"] = round(time.monotonic() - began)
        return self._report

    # The story.

    def _run_story(self) -> None:
        """Let people act and flights come in order, while faults happen, until everything is quiet again."""
        stack, rest, people = self._stack, self._rest, self._people
        stack.set_barrier(self._break.date())
        self._wait(lambda: all(stack.is_ready(name) for name in REPLICAS), "readiness of all services")
        self._storm.begin(0)
        for name in ("ann", "bob", "cat", "dan", "eve", "fay", "hal", "ivy"):
            rest.register(people[name])
        for name in ("ann", "bob", "cat", "dan", "eve", "fay", "ivy"):
            rest.confirm(people[name])
            for wish in people[name].wishes:
                rest.set_wish(people[name], wish)
        self._note(f"all interests are set; {self._describe_time()}")
        self._wait_until_over()
        self._storm.begin(1)
        self._start_story()
        self._wait_until_covered(self._begin + self._chance.choice((0, 1)) * DAY)
        self._change_while_flights_come()
        self._wait_until_covered(self._break)
        self._wait_until_over()
        self._stop_story()
        self._wait_until_quiet("flights before the break")
        self._note(f"the break begins; {self._describe_time()}")
        self._change_people()
        self._wait_until_quiet("changes in the break")
        self._note(f"the break is over; {self._describe_time()}")
        self._storm.begin(2)
        stack.set_barrier(BARRIER_OF_ALL)
        self._start_story()
        self._wait_until_covered(self._delete_at)
        rest.delete(people["fay"])
        # Alerts that are raised for flights that come later are for nobody.
        self._deleted_covered_until = max(self._wait_for_coverage().values())
        self._note(f"fay is deleted; {self._describe_time()}")
        self._wait_until_covered(self._end)
        self._note(f"all is covered; {self._describe_time()}")
        self._wait_until_over()
        ended = time.monotonic()
        self._wait_until_quiet("all flights")
        self._wait(lambda: all(stack.is_ready(name) for name in REPLICAS), "readiness of all services")
        self._wait_until_quiet("all flights")
        self._wait_until_compared(time.time())
        self._report.figures["s until quiet"] = round(time.monotonic() - ended)

    def _change_while_flights_come(self) -> None:
        """Let ivy remove an interest and change the other one."""
        ivy = self._people["ivy"]
        for each in ivy.interests:
            each.judged_until, each.is_cut_anywhere = self._break, True
        self._rest.remove(ivy, ivy.interests[0])
        self._rest.set_wish(ivy, self._changes["ivy"])
        self._note(f"ivy has removed an interest and changed another; {self._describe_time()}")

    def _change_people(self) -> None:
        """Let dan change an interest, eve remove one, and gus come."""
        people, rest = self._people, self._rest
        dan, eve, gus = people["dan"], people["eve"], people["gus"]
        dan.interests[0].judged_until = self._break
        rest.set_wish(dan, self._changes["dan"])
        eve.interests[1].judged_until = self._break
        rest.remove(eve, eve.interests[1])
        rest.register(gus)
        rest.confirm(gus)
        for wish in gus.wishes:
            rest.set_wish(gus, wish)

    def _wait_until_over(self) -> None:
        self._wait(lambda: self._storm.is_over, "end of the faults")

    def _describe_time(self) -> str:
        return f"the story's time is {self._stack.story.now():%F %T}"

    def _wait(self, is_done: Callable[[], bool], what: str, read_progress: Callable[[], object] = lambda: None) -> None:
        """Wait until `is_done` returns True, while the storm goes on; fail WITHIN_S after the last progress."""
        deadline, seen = time.monotonic() + WITHIN_S, read_progress()
        while not is_done():
            assert time.monotonic() < deadline, f"{what}: no progress within {WITHIN_S:.0f} s; {self._explain()}"
            self._tick()
            time.sleep(0.05)
            if (progress := read_progress()) != seen:
                deadline, seen = time.monotonic() + WITHIN_S, progress

    def _explain(self) -> str:
        """Return what is known of the stack's state, for the message of a failure."""
        ready = [name for name in REPLICAS if not self._stack.is_ready(name)]
        coverage = {f"{airport} {part}": f"{until:%F %H}" for (airport, part), until in self._read_coverage().items()}
        return f"not ready: {ready}; covered: {coverage}; outboxes: {self._count_outboxes()}; {self._describe_time()}"

    def _list_flows(self) -> set[tuple[str, str]]:
        """Return the airports and directions that somebody wants flights of now."""
        found = set()
        for person in self._people.values():
            if person is self._people["fay"] and self._deleted_covered_until is not None:
                continue
            for interest in person.interests:
                if interest.judged_until is None:
                    found |= {(interest.wish.airport, part.value) for part in interest.wish.direction.parts}
        return found

    def _start_story(self) -> None:
        """Let the story's clock run from now on."""
        self._is_story_running, self._covered = True, None
        self._pace_story()

    def _stop_story(self) -> None:
        """Let the story's clock stand from now on."""
        self._is_story_running = False
        self._stack.story.stop()

    def _pace_story(self) -> None:
        """Tell the story's clock up to when all flows are covered, so that it does not run too far ahead of that.

        Before the break the oldest day is the story's first, whatever is covered: a person who comes in the break asks
        for it again. While the database does not answer, the clock keeps what it was told last.
        """
        coverage = self._read_coverage()
        if coverage:
            self._covered = min(coverage.get(flow, self._begin) for flow in self._list_flows())
        covered = self._covered or self._begin
        is_gus_here = bool(self._people["gus"].interests)
        self._stack.story.go_on(covered, covered if is_gus_here else self._begin)

    def _wait_until_covered(self, until: datetime) -> None:
        """Wait until the collector has covered all flows up to an instant, while the story's clock runs."""
        self._pace_story()  # flows may have come since the last look
        self._wait(
            lambda: self._covered is not None and self._covered >= until,
            f"coverage up to {until:%F}",
            lambda: self._covered,
        )

    def _wait_for_coverage(self) -> dict[tuple[str, str], datetime]:
        """Wait until the database answers, and return up to when each airport and direction is covered."""
        found: dict[tuple[str, str], datetime] = {}

        def has_answer() -> bool:
            """Ask once more; return False if the database is not there."""
            found.update(self._read_coverage())
            return bool(found)

        self._wait(has_answer, "an answer of the collector's database")
        return found

    def _wait_until_quiet(self, what: str) -> None:
        """Wait until all outboxes are empty, and all is acknowledged by stream and notifier, twice in a row."""
        quiet = 0

        def is_quiet() -> bool:
            nonlocal quiet
            if time.monotonic() < self._looked_at + 1:
                return False
            self._looked_at = time.monotonic()
            servers = self._stack.broker.bootstrap_servers
            try:
                found = (
                    not self._storm.disturbs(BROKER)
                    and sum(self._count_outboxes().values()) == 0
                    and is_stream_done(servers)
                    and is_notifier_done(servers)
                    and sum(self._count_outboxes().values()) == 0
                )
            except Exception:  # noqa: BLE001 - the broker has just begun
                found = False
            quiet = quiet + 1 if found else 0
            return quiet >= 2

        self._wait(is_quiet, f"quiet after {what}")

    def _wait_until_compared(self, since: float) -> None:
        """Wait until the collector has compared its interests with the stream's, and they were in step."""

        def is_in_step() -> bool:
            with self._read("collector") as connection:
                row = connection.execute(select(EventLogRow.compared_at, EventLogRow.out_of_step)).first()
            return row is not None and row.compared_at > since and row.out_of_step == 0

        self._wait(is_in_step, "comparison of the interests, in step")

    # The databases.

    def _read(self, service: str):  # type: ignore[no-untyped-def]
        """Open a connection of the test's own, which gives up soon if the server is frozen."""
        if service not in self._engines:
            is_own = self._stack.mariadb is not None
            options = {"connect_timeout": 2, "read_timeout": 3} if is_own else {"timeout": 2}
            self._engines[service] = create_engine(
                self._stack.database_url(service), poolclass=NullPool, connect_args=options
            )
        return self._engines[service].connect()

    def _read_coverage(self) -> dict[tuple[str, str], datetime]:
        """Return up to when each airport and direction is covered; empty if the database is not there."""
        query = select(CoverageRow.airport, CoverageRow.direction, CoverageRow.covered_until)
        try:
            with self._read("collector") as connection:
                return {(row.airport, row.direction): row.covered_until for row in connection.execute(query)}
        except SQLAlchemyError:
            return {}

    def _count_outboxes(self) -> dict[str, int]:
        """Return how many events wait in each outbox; -1 if that is unknown."""
        found = {}
        for service, outbox in zip(DATABASES, (USER_OUTBOX, COLLECTOR_OUTBOX), strict=True):
            try:
                with self._read(service) as connection:
                    found[service] = connection.execute(select(func.count()).select_from(outbox.rows)).scalar_one()
            except SQLAlchemyError:
                found[service] = 1_000_000
        return found

    # The outcome.

    def _require(self, is_right: bool, problem: str) -> None:
        if not is_right:
            self._report.problems.append(problem)

    def _compare(self) -> None:
        """Compare everything that came out with what had to."""
        servers = self._stack.broker.bootstrap_servers
        mails = read_mails(self._stack.maildir)
        boxes = Mailbox.by_address(mails)
        raised: dict[UUID, set[UUID]] = {}
        for record in read_records(servers, ALERTS_RAISED):
            alert = AlertRaised.FromString(record.value)
            raised.setdefault(UUID(alert.user_id), set()).add(UUID(alert.alert_id))
        for person in self._people.values():
            for interest in person.interests:
                if interest.is_cut_anywhere:
                    self._find_cut(person, interest, raised.get(person.user_id, set()))
        expected = {
            name: compute_expected_of_person(self._timetable, person, self._begin, self._end)
            for name, person in self._people.items()
        }
        for name, person in self._people.items():
            assert person.user_id is not None
            box = boxes.pop(person.email, Mailbox(()))
            if name == "fay":
                self._compare_deleted(person, expected[name], raised.pop(person.user_id, set()), box)
            else:
                self._compare_person(person, expected[name], raised.pop(person.user_id, set()), box)
            self._require(box.count_other_mails() == 1, f"{name} got {box.count_other_mails()} mails without an alert")
            twice = box.find_alerts_in_two_mails()
            self._require(not twice, f"{name} got alerts in two different mails: {twice}")
            wrong = [each for header in box.list_headers() if (each := find_wrong_count(self._timetable, header))]
            self._require(not wrong, f"{name} got {len(wrong)} wrong counts: {wrong[:3]}")
            order = box.find_wrong_order()
            self._require(not order, f"{name} got the end of a breach before its begin: {order[:3]}")
        self._require(not boxes, f"mails to nobody: {sorted(boxes)}")
        self._require(not raised, f"alerts of nobody: {raised}")
        repeated = sum(box.count_repeated_mails() for box in Mailbox.by_address(mails).values())
        ends = sum(len(each.ends) for each in self._stack.processes.values())
        possible = 2 * (len(self._storm.done) + ends)
        self._require(repeated <= possible, f"{repeated} mails were repeated, in {possible // 2} faults")
        dead = read_records(servers, ALERTS_DEAD_LETTER)
        reasons = Counter(str(dict(each.headers).get("reason")) for each in dead)
        self._require(not dead, f"dead letters: {reasons}")
        self._compare_deletion()
        self._verify()
        self._report.figures |= {
            "alerts": sum(len(each) for each in expected.values()),
            "mails": len(mails),
            "repeated": repeated,
            "faults": len(self._storm.done),
            "ended by themselves": ends,
            "circuits opened by a stopped clock": self._storm.circuits_opened,
        }

    def _find_cut(self, person: Person, interest: StoredInterest, raised: set[UUID]) -> None:
        """Find after how many whole days of flights an interest was changed or removed, by what was raised of it."""

        def compute_ids(until: datetime) -> set[UUID]:
            """Compute the ids of the alerts that follow from the flights up to an instant."""
            interest.judged_until = until
            return {each.alert_id for each in compute_expected(self._timetable, interest, self._begin, self._end)}

        of_interest = raised & compute_ids(self._break)
        for days in range((self._break - self._begin) // DAY + 1):
            if compute_ids(self._begin + days * DAY) == of_interest:
                return
        self._require(False, f"{person.name}: what was raised of a changed interest is that of no whole number of days")

    def _compare_person(self, person: Person, expected: set[ExpectedAlert], raised: set[UUID], box: Mailbox) -> None:
        """Compare what was raised and what was mailed with what had to be."""
        ids = {each.alert_id: each.mailed for each in expected}
        missing, extra = [ids[each] for each in ids.keys() - raised], raised - ids.keys()
        self._require(not missing, f"{person.name}: {len(missing)} alerts were not raised: {missing[:3]}")
        self._require(not extra, f"{person.name}: {len(extra)} alerts were raised and not due: {sorted(extra)[:3]}")
        mailed, wanted = {select_mailed(header) for header in box.list_headers()}, set(ids.values())
        lost, wrong = wanted - mailed, mailed - wanted
        self._require(not lost, f"{person.name}: {len(lost)} alerts were not mailed: {sorted(lost)[:3]}")
        self._require(not wrong, f"{person.name}: {len(wrong)} alerts were mailed and not due: {sorted(wrong)[:3]}")

    def _compare_deleted(self, person: Person, expected: set[ExpectedAlert], raised: set[UUID], box: Mailbox) -> None:
        """Compare what a person got who was deleted: a part of what was due by then, and nothing of later flights."""
        assert self._deleted_covered_until is not None
        extra = raised - {each.alert_id for each in expected}
        self._require(not extra, f"{person.name}: {len(extra)} alerts were raised and not due: {sorted(extra)[:3]}")
        due = compute_expected_of_person(self._timetable, person, self._begin, self._deleted_covered_until)
        early = compute_expected_of_person(self._timetable, person, self._begin, self._break)
        mailed = {select_mailed(header) for header in box.list_headers()}
        wrong = mailed - {each.mailed for each in due}
        self._require(not wrong, f"{person.name} got mail after the deletion: {sorted(wrong)[:3]}")
        lost = {each.mailed for each in early} - mailed
        self._require(not lost, f"{person.name}: {len(lost)} alerts of the days before were not mailed")

    def _compare_deletion(self) -> None:
        """Check that nothing is left of the deleted person in any service or in the log of interests."""
        user_id = self._people["fay"].user_id
        with self._read("user_manager") as connection:
            users = connection.execute(select(func.count()).where(User.user_id == user_id)).scalar_one()
            steps = set(connection.execute(select(Deletion.step).where(Deletion.user_id == user_id)).scalars())
        with self._read("collector") as connection:
            interests = connection.execute(select(func.count()).where(InterestRow.user_id == user_id)).scalar_one()
        self._require(users == 0, "the deleted account is still there")
        self._require(interests == 0, "interests of the deleted person are still there")
        # What comes after these steps only looks once more, minutes and a day later.
        left_over = {DeletionStep.DELETE_INTERESTS, DeletionStep.ERASE_ACCOUNT} & steps
        self._require(not left_over, f"steps of the deletion are not done: {left_over}")
        last = {record.key: record.value for record in read_records(
            self._stack.broker.bootstrap_servers, INTERESTS_CHANGED)}  # fmt: skip
        gone = [f"{each.wish.airport}/{each.interest_id}".encode() for each in self._people["fay"].interests]
        left = [key for key in gone if last.get(key) is not None]
        self._require(not left, f"interests of the deleted person are still in the log: {left}")

    def _verify(self) -> None:
        """Run `python -m streams verify`."""
        process = self._stack.processes["streams_1"]
        done = subprocess.run(
            [sys.executable, "-m", "streams", "verify"], cwd=ROOT, env=os.environ | process.environment,
            capture_output=True, text=True, timeout=120, check=False,
        )  # fmt: skip
        self._require(done.returncode == 0, f"verify: {done.stdout}{done.stderr[-2000:]}")

    def _stop_all(self) -> None:
        """Stop all services at once; each must end in order, as each that was stopped by SIGTERM before."""
        for name in REPLICAS:
            self._stack.processes[name].begin_end(signal.SIGTERM)
        for name in REPLICAS:
            self._stack.processes[name].wait_for_end(signal.SIGTERM)
        for process in self._stack.processes.values():
            for end in process.ends:
                self._note(f"{process.name} {end}")
                self._require("SIGTERM" not in end, f"{process.name} {end}")

    def _read_logs(self) -> None:
        """Look for stack traces in the logs of all services, and for events that no fault of a storm calls for."""
        for name in REPLICAS:
            log = self._report.folder / f"{name}.log"
            text = log.read_text(errors="replace") if log.exists() else ""
            for wrong in ("Traceback", *_NEVER_LOGGED):
                self._require(wrong not in text, f"{text.count(wrong)} times {wrong} in {log}")
