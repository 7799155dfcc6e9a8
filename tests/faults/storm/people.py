"""The people of a storm: what they wish, drawn from the timetable, and what they do by REST, however often it takes."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from random import Random
from typing import Any, Final
from uuid import UUID, uuid5

import httpx

from domain.interests import Direction
from domain.windows import Window
from local.mailbox.reading import find_confirmation_link, read_mails
from local.opensky.flights import Timetable
from tests.faults.storm.stack import OPERATOR_TOKEN, Stack

DEPARTURES: Final = ("KJFK", "KEWR", "KLGA")
ARRIVALS: Final = ("KATL", "KORD", "KLAX", "KBOS", "KMCO", "KFLL", "KCLT", "KSFO")
_IDS: Final = UUID("5a0e8c9e-0b0e-4b52-9a64-6b6b7b5f3a11")


@dataclass(frozen=True, slots=True)
class Wish:
    """What an interest is to be; `effective_from` is a UTC midnight."""

    airport: str
    direction: Direction
    window: Window
    high: int | None
    low: int | None
    for_windows: int
    repeat: bool
    effective_from: datetime

    def build_body(self) -> dict[str, object]:
        """Build the JSON that sets the interest."""
        return {
            "airport_icao": self.airport,
            "direction": self.direction.value,
            "window": self.window.value,
            "high_value": self.high,
            "low_value": self.low,
            "for_windows": self.for_windows,
            "repeat": self.repeat,
            "effective_from": self.effective_from.isoformat(),
        }


@dataclass
class StoredInterest:
    """A version of an interest as the collector has it, and how many days of flights it was judged on."""

    interest_id: UUID
    version: int
    wish: Wish
    judged_until: datetime | None = None
    """None: to the end of the story. If `is_cut_anywhere`, what is certain is only that it is no later."""
    is_cut_anywhere: bool = False
    """True: it was changed or removed while flights came, after some whole number of days that the log decides."""


@dataclass
class Person:
    """A person, with all versions of all interests that the person ever had."""

    name: str
    wishes: list[Wish] = field(default_factory=list)
    token: str = ""
    user_id: UUID | None = None
    interests: list[StoredInterest] = field(default_factory=list)

    @property
    def email(self) -> str:
        return f"{self.name}@storm.test"


class Wishes:
    """Draws wishes whose levels about a fifth of the windows cross."""

    def __init__(self, timetable: Timetable, chance: Random, begin: datetime, end: datetime) -> None:
        self._timetable, self._chance, self._begin, self._end = timetable, chance, begin, end

    def draw(self, airport: str, direction: Direction, window: Window, since: datetime | None = None) -> Wish:
        """Draw an interest in these windows. `since`: its `effective_from`, else the story's begin."""
        begin = since or self._begin
        starts = [begin + number * window.length for number in range((self._end - begin) // window.length)]
        counts = sorted(len(list_times(self._timetable, airport, direction, at, at + window.length)) for at in starts)
        part = max(len(counts) // self._chance.choice((4, 5, 6)), 1)
        high, low = counts[-part] - self._chance.randint(0, 1), counts[part - 1] + self._chance.randint(0, 1)
        bounds = self._chance.choice(("both", "both", "high", "low"))
        is_both = bounds == "both" and high > low
        return Wish(
            airport, direction, window,
            high=max(high, 0) if is_both or bounds == "high" else None,
            low=max(low, 1) if is_both or bounds != "high" else None,
            for_windows=self._chance.choice((1, 1, 2, 3)),
            repeat=self._chance.random() < 0.4,
            effective_from=begin,
        )  # fmt: skip


def list_times(timetable: Timetable, airport: str, direction: Direction, begin: datetime, end: datetime) -> list[int]:
    """Return the event times (Unix seconds) of all flights of a direction in [begin, end)."""
    first, last = int(begin.timestamp()), int(end.timestamp()) - 1
    times = []
    if direction is not Direction.ARRIVALS:
        times += [each.first_seen for each in timetable.find_departures(airport, first, last)]
    if direction is not Direction.DEPARTURES:
        times += [each.last_seen for each in timetable.find_arrivals(airport, first, last)]
    return sorted(times)


class Rest:
    """The clients of the people: each request is repeated at the other replica until it gets an answer that counts."""

    def __init__(self, stack: Stack, seed: int, tick: Callable[[], None], within_s: float) -> None:
        """`tick` is called between attempts: the storm goes on meanwhile."""
        self._stack, self._seed, self._tick, self._within_s = stack, seed, tick, within_s
        self._http = httpx.Client(verify=False, timeout=4, trust_env=False)
        self._number = 0

    def request(
        self, service: str, method: str, path: str, token: str, expected: tuple[int, ...], body: object = None,
        headers: dict[str, str] | None = None,
    ) -> httpx.Response:  # fmt: skip
        """Send a request until its answer has one of the expected statuses.

        Repeats it without an answer, and after 409, 429 and 5xx. Fails after any other status.
        """
        deadline = time.monotonic() + self._within_s
        seen = "nothing"
        while time.monotonic() < deadline:
            self._tick()
            self._number += 1
            url = self._stack.url(f"{service}_{1 + self._number % 2}") + path
            own = {"Authorization": f"Bearer {token}"} if token else {}
            try:
                answer = self._http.request(method, url, json=body, headers=own | (headers or {}))
            except httpx.TransportError as error:
                seen = type(error).__name__
            else:
                if answer.status_code in expected:
                    return answer
                seen = f"{answer.status_code}: {answer.text[:300]}"
                assert answer.status_code in (409, 429) or answer.status_code >= 500, f"{method} {path}: {seen}"
            time.sleep(0.2)
        raise AssertionError(f"{method} {path} got no answer within {self._within_s:.0f} s; the last one: {seen}")

    def register(self, person: Person) -> None:
        """Register a person."""
        key = str(uuid5(_IDS, f"{self._seed} {person.name}"))
        body = {"email": person.email, "name": person.name.capitalize(), "time_zone": "America/New_York"}
        answer = self.request("user_manager", "POST", "/users", "", (201,), body, {"Idempotency-Key": key}).json()
        person.token, person.user_id = answer["token"], UUID(answer["user"]["user_id"])

    def confirm(self, person: Person) -> None:
        """Wait for the confirmation mail, and follow its link."""
        deadline = time.monotonic() + self._within_s
        while (link := self._find_link(person)) is None:
            assert time.monotonic() < deadline, f"{person.name} got no confirmation mail"
            self._tick()
            time.sleep(0.2)
        path = httpx.URL(link).raw_path.decode()
        # A request that got no answer may have done it: then the next one may be answered otherwise.
        answer = self.request("user_manager", "POST", path, person.token, (200, 400, 404, 410))
        account = self.request("user_manager", "GET", f"/users/{person.email}", person.token, (200,)).json()
        assert account["user"]["confirmed"], f"{person.name}'s link: {answer.status_code}: {answer.text[:300]}"

    def _find_link(self, person: Person) -> str | None:
        """Return the link of the person's first confirmation mail; None: it has not come yet."""
        for mail in read_mails(self._stack.maildir):
            if mail.message["Delivered-To"] == person.email and (link := find_confirmation_link(mail)):
                return link
        return None

    def set_wish(self, person: Person, wish: Wish) -> None:
        """Set an interest, or change it, and store the version that it has then."""
        self.request("collector", "POST", "/interests", person.token, (200, 201), wish.build_body())
        found: list[dict[str, Any]] = self.request("collector", "GET", "/interests", person.token, (200,)).json()[
            "interests"
        ]
        [stored] = [
            each
            for each in found
            if (each["airport_icao"], each["direction"], each["window"])
            == (wish.airport, wish.direction.value, wish.window.value)
        ]
        person.interests.append(StoredInterest(UUID(stored["interest_id"]), stored["version"], wish))

    def remove(self, person: Person, interest: StoredInterest) -> None:
        """Remove an interest."""
        path = f"/interests/{interest.interest_id}"
        self.request("collector", "DELETE", path, person.token, (204, 404))

    def delete(self, person: Person) -> None:
        """Delete a person's account, and wait until the deletion is complete."""
        path = f"/users/{person.email}"
        answer = self.request("user_manager", "DELETE", path, person.token, (204, 202, 401, 404))
        deadline = time.monotonic() + self._within_s
        while True:
            verify = f"/users/verify/{person.email}"
            if not self.request("user_manager", "GET", verify, OPERATOR_TOKEN, (200,)).json()["exists"]:
                return
            assert time.monotonic() < deadline, f"the deletion ({answer.status_code}) was not completed"
            self._tick()
            time.sleep(0.2)
