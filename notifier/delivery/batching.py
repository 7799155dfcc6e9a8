"""Alerts that wait to be mailed: who is next, and what goes into one mail. Pure: the time is handed in.

A person's fresh alerts wait a little for each other, and for whatever of theirs was put off before: so one mail tells
them together, and in their order. What a mail server may have already is sent alone, as it was.
"""

import heapq
from bisect import insort
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from itertools import count
from typing import Final
from uuid import UUID

from notifier.delivery.retries import LIFETIME, LONGEST
from notifier.delivery.user_state import Person, name_of
from notifier.messages import RaisedAlert

MOST_ALERTS: Final = 200
"""In one mail; what is more comes in the next."""

OVERDUE: Final = timedelta(minutes=2)
"""What waits in the retry topic is waited for no longer than this after its time, or after the first alert that has to
wait for it: it may never come."""

_LONG_AGO: Final = datetime.min.replace(tzinfo=UTC)
_NEVER: Final = datetime.max.replace(tzinfo=UTC)

REUNITED_WITHIN: Final = timedelta(seconds=60)
"""So long after a crash the alerts of a mail that was on its way are waited for, from the first one on. They are read
again at once, and all of them, unless some were put aside."""


@dataclass(frozen=True, slots=True, eq=False)
class Bundle:
    """Alerts of one person that came in one event."""

    raised: tuple[RaisedAlert, ...]
    origin: object
    """The event; nothing here looks at it."""
    since: datetime
    """When the clock of their lifetime began."""
    attempt: int = 0
    """How many times they were tried."""
    not_before: datetime | None = None
    """Of what was put off: until when. None: they are fresh."""
    sealed: bool = False
    """A mail server may have them: they are sent as they are, and nothing joins them."""

    alert_ids: frozenset[UUID] = field(init=False)
    name: UUID | None = field(init=False)
    """Of what was put off: what `Person.put_off` calls them."""
    place: tuple[datetime, ...] = field(init=False)
    """Where they stand among a person's: by time; of one instant what tells of earlier windows goes first, and of the
    same windows what may be tried first."""

    def __post_init__(self) -> None:
        ids = frozenset(each.alert.alert_id for each in self.raised)
        windows = [each.alert.window_start for each in self.raised]
        object.__setattr__(self, "alert_ids", ids)
        object.__setattr__(self, "name", name_of(ids) if self.not_before is not None else None)
        object.__setattr__(self, "place", (self.since, min(windows), max(windows), _time_of(self)))

    @property
    def user_id(self) -> UUID:
        """Whose they are."""
        return self.raised[0].alert.user_id


@dataclass(frozen=True, slots=True, eq=False)
class Mail:
    """What one mail shall tell a person."""

    user_id: UUID
    bundles: tuple[Bundle, ...]
    again: bool
    """A mail server may have this very mail."""
    known: frozenset[UUID] = frozenset()
    """The alerts of a mail that was on its way before. Others that came in the same events are not told with them.
    Empty: all are told."""

    @property
    def raised(self) -> tuple[RaisedAlert, ...]:
        """Its alerts, each once."""
        told = {each.alert.alert_id: each for bundle in self.bundles for each in bundle.raised}
        return tuple(each for alert_id, each in told.items() if not self.known or alert_id in self.known)


@dataclass(frozen=True, slots=True)
class _Entry:
    """A bundle, and when it came."""

    at: datetime
    bundle: Bundle


@dataclass(slots=True)
class _Box:
    """One person's. Some have thousands of alerts at once, so what a due time is made of is kept as they come."""

    person: Person
    entries: list[_Entry] = field(default_factory=list)
    """In their places; those of one place as they came."""
    on_its_way: Mail | None = None
    due: datetime | None = None
    came: datetime = _NEVER
    """When the first came."""
    gathered: datetime = _NEVER
    """When the first will have waited long enough for others."""
    held_until: datetime = _LONG_AGO
    """The latest time before which something that was put off must not be tried."""
    names: set[UUID | None] = field(default_factory=set)
    """Of what was put off."""
    sealed: list[Bundle] = field(default_factory=list)
    known: list[_Entry] = field(default_factory=list)
    """Those that hold alerts of the mail that was on its way before."""

    def put(self, entry: _Entry, group_wait: timedelta) -> None:
        insort(self.entries, entry, key=lambda each: each.bundle.place)
        self._reckon_in(entry, group_wait)

    def leave(self, gone: Iterable[Bundle], person: Person, group_wait: timedelta) -> None:
        left = set(map(id, gone))
        self.entries = [each for each in self.entries if id(each.bundle) not in left]
        self.look_at(person, group_wait)

    def look_at(self, person: Person, group_wait: timedelta) -> None:
        """Reckon anew, with what is remembered of the person now."""
        self.person = person
        self.came, self.gathered, self.held_until = _NEVER, _NEVER, _LONG_AGO
        self.names, self.sealed, self.known = set(), [], []
        for entry in self.entries:
            self._reckon_in(entry, group_wait)

    def missed_until(self) -> Iterator[datetime]:
        """Until when to wait for each of what was put off and is not read yet; its time may also have passed while no
        worker was there."""
        for name, until in self.person.put_off:
            if name not in self.names and self.came - until < LIFETIME:
                yield min(max(until, self.came), self.came + LONGEST) + OVERDUE

    def _reckon_in(self, entry: _Entry, group_wait: timedelta) -> None:
        at, bundle = entry.at, entry.bundle
        self.came = min(self.came, at)
        if bundle.not_before is None:
            self.gathered = min(self.gathered, at + group_wait)
        else:
            self.gathered = min(self.gathered, bundle.not_before)
            self.held_until = max(self.held_until, bundle.not_before)
            self.names.add(bundle.name)
        if bundle.sealed:
            self.sealed.append(bundle)
        if self.person.on_its_way and not self.person.on_its_way.isdisjoint(bundle.alert_ids):
            self.known.append(entry)


class Waiting:
    """Who waits, and who is next. At most one mail of a person is on its way at a time."""

    def __init__(self, group_wait: timedelta) -> None:
        """`group_wait`: how long the first of a person's alerts waits for others. Zero: each is a mail of its own."""
        self._group_wait = group_wait
        self._boxes: dict[UUID, _Box] = {}
        self._queue: list[tuple[datetime, int, UUID]] = []
        self._order = count()
        self._alerts = 0

    def __len__(self) -> int:
        """The alerts that wait or are on their way."""
        return self._alerts

    @property
    def oldest(self) -> datetime | None:
        """When the alert came that has been here longest. Costs a look at each person."""
        return min((box.came for box in self._boxes.values()), default=None)

    def add(self, bundle: Bundle, now: datetime, person: Person) -> Bundle:
        """Let alerts wait; they do so as what this returns. `person`: as remembered."""
        if bundle.not_before is not None:  # whatever a clock that was wrong has put there
            bundle = replace(bundle, not_before=min(bundle.not_before, now + LONGEST))
        box = self._boxes.setdefault(bundle.user_id, _Box(person))
        box.put(_Entry(now, bundle), self._group_wait)
        self._alerts += len(bundle.raised)
        self._reckon(bundle.user_id, box)
        return bundle

    def next(self, now: datetime) -> Mail | None:
        """The mail that is due longest; None when none is. It is on its way until it is `done`, or goes `back`."""
        while self._queue and self._queue[0][0] <= now:
            due, _, user_id = heapq.heappop(self._queue)
            box = self._boxes.get(user_id)
            if box is None or box.due != due:
                continue
            box.due = None
            mail = self._composed(user_id, box, now)
            if mail is not None:
                box.on_its_way = mail
                return mail
        return None

    @property
    def next_at(self) -> datetime | None:
        """When the next mail is due, if nothing comes meanwhile; None when nothing waits. It may turn out later."""
        return self._queue[0][0] if self._queue else None

    def rest(self, mail: Mail) -> tuple[tuple[Bundle, ...], ...]:
        """What else waits of the person whose mail is on its way: in sets that may become one mail later."""
        box = self._boxes.get(mail.user_id)
        if box is None or box.on_its_way is not mail:
            return ()
        among = set(map(id, mail.bundles))
        rest = [each.bundle for each in box.entries if id(each.bundle) not in among]
        alone = [bundle for bundle in rest if bundle.sealed or not self._group_wait]
        together = tuple(bundle for bundle in rest if not bundle.sealed and self._group_wait)
        return (*((bundle,) for bundle in alone), *((together,) if together else ()))

    def done(self, mail: Mail, gone: Iterable[Bundle], person: Person) -> None:
        """The mail is on its way no longer. What of it is `gone` waits no longer either; the rest does.

        `person`: as remembered since.
        """
        box = self._boxes.get(mail.user_id)
        if box is None or box.on_its_way is not mail:  # everything was forgotten meanwhile
            return
        before = sum(len(each.bundle.raised) for each in box.entries)
        box.leave(gone, person, self._group_wait)
        self._alerts -= before - sum(len(each.bundle.raised) for each in box.entries)
        box.on_its_way = None
        if box.entries:
            self._reckon(mail.user_id, box)
        else:
            del self._boxes[mail.user_id]

    def back(self, mail: Mail) -> None:
        """It was not tried, and waits on."""
        box = self._boxes.get(mail.user_id)
        if box is not None and box.on_its_way is mail:
            box.on_its_way = None
            self._reckon(mail.user_id, box)

    def forget(self) -> None:
        """All of it: it is, or comes, in other hands."""
        self._boxes.clear()
        self._queue.clear()
        self._alerts = 0

    def _reckon(self, user_id: UUID, box: _Box) -> None:
        """Queue a person for when their next mail is due."""
        due = None if box.on_its_way is not None else self._due(box)
        if due != box.due:
            box.due = due
            if due is not None:
                heapq.heappush(self._queue, (due, next(self._order), user_id))

    def _due(self, box: _Box) -> datetime:
        known = box.person.on_its_way
        if known:
            first = min((each.at for each in box.known), default=box.came)
            again = _made_again([each.bundle for each in box.known], known)
            if again:
                return max(first, *(each.not_before or first for each in again))
            return max((first + REUNITED_WITHIN, *box.missed_until()))
        if box.sealed:
            return min(map(_time_of, box.sealed))
        # Nothing of a person's goes out before what was put off, so that it comes in its order: whom a server turned
        # away it would turn away again.
        return max(box.gathered, box.came, box.held_until, *box.missed_until())

    def _composed(self, user_id: UUID, box: _Box, now: datetime) -> Mail | None:
        known = box.person.on_its_way
        if known:
            again = _made_again([each.bundle for each in box.known], known)
            if again:
                return Mail(user_id, again, again=True, known=known)
            # Some have become dead letters, or old.
            box.look_at(replace(box.person, on_its_way=frozenset()), self._group_wait)
            self._reckon(user_id, box)
            return None
        sealed = [bundle for bundle in box.sealed if _time_of(bundle) <= now]
        if sealed:
            return Mail(user_id, (min(sealed, key=_time_of),), again=True)
        if not self._group_wait:
            return Mail(user_id, (box.entries[0].bundle,), again=False)
        return Mail(user_id, tuple(_together(each.bundle for each in box.entries)), again=False)


def _time_of(bundle: Bundle) -> datetime:
    return bundle.not_before or bundle.since


def _made_again(bundles: Iterable[Bundle], known: frozenset[UUID]) -> tuple[Bundle, ...]:
    """What a mail that told these alerts can be made of; nothing, where some are not here. Of the events that hold them
    those that hold others besides are taken only if it must be."""
    every = tuple(bundle for bundle in bundles if bundle.alert_ids & known)
    alone = tuple(bundle for bundle in every if bundle.alert_ids <= known)
    for some in (alone, every):
        if known <= frozenset[UUID]().union(*(each.alert_ids for each in some)):
            return some
    return ()


def _together(bundles: Iterable[Bundle]) -> Iterator[Bundle]:
    """As many, from the first on, as one mail can tell; one at least."""
    alerts = 0
    for bundle in bundles:
        alerts += len(bundle.raised)
        if alerts > MOST_ALERTS and alerts > len(bundle.raised):
            return
        yield bundle
