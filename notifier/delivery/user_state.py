"""What the notifier remembers of a person, between one mail and the next. Pure."""

from collections.abc import Collection, Iterable
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Final, Self
from uuid import UUID, uuid5

from google.protobuf.message import DecodeError

from towerwatch.notifier.v1 import state_pb2

HOUR: Final = timedelta(hours=1)

_NAMESPACE: Final = UUID("0f0d2b7e-6b0c-5d55-8a38-2f9f6b1d7c40")
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MILLISECOND: Final = timedelta(milliseconds=1)


def name_of(alert_ids: Iterable[UUID]) -> UUID:
    """What names some alerts together, in whatever order they are given."""
    return uuid5(_NAMESPACE, " ".join(sorted(str(each) for each in alert_ids)))


@dataclass(frozen=True, slots=True)
class Person:
    """One person's mails: the last hour's, the one on its way, and those that wait in the retry topic."""

    mailed_at: tuple[datetime, ...] = ()
    """When mails with alerts were taken, in order, UTC; no more than the limit on them asks for."""
    on_its_way: frozenset[UUID] = frozenset()
    """The alerts of the mail that is being sent, or that waits in the retry topic although the server may have it. Who
    finds them here sends the same mail again, whatever else of them comes, or comes again."""
    put_off: tuple[tuple[UUID, datetime], ...] = ()
    """What waits in the retry topic: the name of its alerts, and until when."""

    def next_mail_at(self, now: datetime, per_hour: int | None) -> datetime:
        """When another mail may go out, of which there may be so many in any hour; `now`: at once."""
        recent = self._recent(now)
        if per_hour is None or len(recent) < per_hour:
            return now
        return recent[-per_hour] + HOUR

    def sending(self, alert_ids: Iterable[UUID]) -> Self:
        """With a mail on its way."""
        return replace(self, on_its_way=frozenset(alert_ids))

    def mailed(self, now: datetime, names: Collection[UUID], per_hour: int | None) -> Self:
        """With a mail that was taken, which told all that waited under these names.

        `per_hour`: as with `next_mail_at`, which needs so many.
        """
        recent = (*self._recent(now), _as_kept(now))[-per_hour:] if per_hour is not None else ()
        return replace(self.rid_of(names), mailed_at=recent)

    def rid_of(self, names: Collection[UUID]) -> Self:
        """With nothing on its way, and without what waited under these names."""
        left = tuple(each for each in self.put_off if each[0] not in names)
        return replace(self, on_its_way=frozenset(), put_off=left)

    def putting_off(self, names: Collection[UUID], until: datetime, now: datetime) -> Self:
        """With what waits, under these names, in the retry topic until then. What is long overdue is forgotten."""
        left = tuple(each for each in self.put_off if each[0] not in names and now - each[1] < HOUR)
        return replace(self, on_its_way=frozenset(), put_off=(*left, *((each, _as_kept(until)) for each in names)))

    def has_put_off_again(self, name: UUID, until: datetime) -> bool:
        """Whether what waited under this name until then waits for longer now, in another record."""
        return any(each == name and _as_kept(until) < later for each, later in self.put_off)

    def is_over(self, now: datetime) -> bool:
        """Whether nothing of it matters any more."""
        return not (self.on_its_way or self._recent(now) or any(now - until < HOUR for _, until in self.put_off))

    def _recent(self, now: datetime) -> tuple[datetime, ...]:
        return tuple(each for each in self.mailed_at if now - each < HOUR)

    def encoded(self) -> bytes:
        """As the table has it, in milliseconds."""
        return state_pb2.PersonState(
            mailed_at=[_milliseconds(each) for each in self.mailed_at],
            on_its_way=sorted(each.bytes for each in self.on_its_way),
            put_off=[state_pb2.PutOff(name=name.bytes, until=_milliseconds(until)) for name, until in self.put_off],
        ).SerializeToString()

    @classmethod
    def decoded(cls, entry: bytes | None) -> Self:
        """From a table's entry; nobody known where there is none, or one of another version that we cannot read."""
        if entry is None:
            return cls()
        try:
            state = state_pb2.PersonState.FromString(entry)
            return cls(
                mailed_at=tuple(_instant(each) for each in state.mailed_at),
                on_its_way=frozenset(UUID(bytes=each) for each in state.on_its_way),
                put_off=tuple((UUID(bytes=each.name), _instant(each.until)) for each in state.put_off),
            )
        except (DecodeError, ValueError, OverflowError):
            return cls()


def _as_kept(moment: datetime) -> datetime:
    """As exactly as the table has it, so that what was written and what is read compare equal."""
    return _instant(_milliseconds(moment))


def _milliseconds(moment: datetime) -> int:
    return (moment - _EPOCH) // _MILLISECOND


def _instant(milliseconds: int) -> datetime:
    return _EPOCH + milliseconds * _MILLISECOND
