"""The JSON bodies of the REST answers about interests; they also are the API's schemas."""

from collections.abc import Iterator
from datetime import datetime
from typing import Final
from uuid import UUID

from pydantic import BaseModel, Field

from collector.rest.requests import (
    ALIGNED_TO_DESCRIPTION,
    FOR_WINDOWS_DESCRIPTION,
    HIGH_DESCRIPTION,
    HIGH_PERCENT_DESCRIPTION,
    LOW_DESCRIPTION,
    LOW_PERCENT_DESCRIPTION,
    REPEAT_DESCRIPTION,
)
from collector.settled.learning import LearningEnds, explain_learning
from domain import interests as domain
from domain.airports import explain_retired_code
from domain.interests import Direction
from domain.windows import AlignedTo, Window

_HAD_BEFORE: Final = (
    "You had an interest in this airport, direction, window and clock before; a person has one of each, so it is now "
    "what stands here."
)


class Interest(BaseModel):
    """An interest: the thresholds on an airport's traffic that a person is notified about.

    Airport, direction, window and clock (`aligned_to`) never change.
    """

    interest_id: UUID
    airport_icao: str
    direction: Direction
    window: Window
    aligned_to: AlignedTo = Field(description=ALIGNED_TO_DESCRIPTION)
    high_value: int | None = Field(description=HIGH_DESCRIPTION)
    low_value: int | None = Field(description=LOW_DESCRIPTION)
    high_percent: int | None = Field(description=HIGH_PERCENT_DESCRIPTION)
    low_percent: int | None = Field(description=LOW_PERCENT_DESCRIPTION)
    for_windows: int = Field(description=FOR_WINDOWS_DESCRIPTION)
    repeat: bool = Field(description=REPEAT_DESCRIPTION)
    effective_from: datetime = Field(description="Windows that start before are not judged.")
    version: int = Field(description="Grows with every change.")
    learning_until: datetime | None = Field(
        default=None,
        description="Windows that start before are not judged by percent, because what is usual there is not known. "
        "Those after are judged at the earliest: it moves on while the source is unavailable, or if it does not give a "
        "day that is needed. Null for an interest in flights, and once it is known.",
    )
    learning: str | None = Field(
        default=None, description="The same in words, with the reason; null where `learning_until` is null."
    )
    notice: str | None = Field(
        default=None,
        exclude_if=lambda notice: notice is None,
        description="Sentences about an airport whose code was retired, and what to do, and about a change that "
        "was just made: that a threshold is in another measure now, and from when on it is judged. Left out if there "
        "are none.",
    )

    @classmethod
    def build(cls, interest: domain.Interest, learning_ends: LearningEnds) -> "Interest":
        """Build the body from the domain's interest, without the user's id, and the time until which it learns."""
        until = learning_ends.get(interest.interest_id)
        return cls(
            interest_id=interest.interest_id,
            airport_icao=interest.airport,
            direction=interest.direction,
            window=interest.window,
            aligned_to=interest.aligned_to,
            high_value=interest.high,
            low_value=interest.low,
            high_percent=interest.high_percent,
            low_percent=interest.low_percent,
            for_windows=interest.for_windows,
            repeat=interest.repeat,
            effective_from=interest.effective_from,
            version=interest.version,
            learning_until=until,
            learning=None if until is None else explain_learning(interest.airport, until, learning_ends.failed_at),
            notice=explain_retired_code(interest.airport),
        )

    @classmethod
    def build_changed(
        cls, interest: domain.Interest, former: domain.Interest, learning_ends: LearningEnds, *, is_timed: bool
    ) -> "Interest":
        """Build the body of an interest that was changed, with the sentences that say what the change brings about.

        They say that a threshold is in another measure now, and from when on the interest is judged, if the person did
        not say that (`is_timed`). If the airport's code was retired, it has the sentence about that alone: no window
        will be judged. `former`: the interest before the change.
        """
        body = cls.build(interest, learning_ends)
        if body.notice is not None:
            return body
        sentences = list(_list_changed_measures(interest, former))
        if interest.effective_from > former.effective_from and not is_timed:
            sentences.append(
                f"Windows that start before {interest.effective_from:%-d %b %H:%M} UTC are not judged any more, so an "
                "alert about them that has not come yet does not come; send effective_from to have earlier "
                "windows judged."
            )
        return body.model_copy(update={"notice": " ".join(sentences) or None})


def _list_changed_measures(interest: domain.Interest, former: domain.Interest) -> Iterator[str]:
    """Yield a sentence for each bound whose threshold was in flights and is in percent now, or the other way round."""
    for bound, flights, percent, former_flights, former_percent in (
        ("High", interest.high, interest.high_percent, former.high, former.high_percent),
        ("Low", interest.low, interest.low_percent, former.low, former.low_percent),
    ):
        if flights is not None and former_percent is not None:
            yield f"{bound} is {flights} flights now, in place of {former_percent} percent of what is usual."
        if percent is not None and former_flights is not None:
            yield f"{bound} is {percent} percent of what is usual now, in place of {former_flights} flights."


class SetInterest(Interest):
    """An interest that was just set, with the statement that its airport is unheard, if it is."""

    notice: str | None = Field(
        description="In words, if the airport's code was retired, if the source has given no flight of it so far, or "
        "if you had the interest before; else null."
    )

    @classmethod
    def build_with_notice(
        cls, interest: domain.Interest, notice: str | None, learning_ends: LearningEnds, is_new: bool
    ) -> "SetInterest":
        """Build the body from the domain's interest and the statement about its airport.

        `is_new`: False if the person had the interest before, which the notice then says.
        """
        if not is_new and explain_retired_code(interest.airport) is None:
            notice = f"{notice} {_HAD_BEFORE}" if notice else _HAD_BEFORE
        return cls(**Interest.build(interest, learning_ends).model_dump(exclude={"notice"}), notice=notice)


class Interests(BaseModel):
    """All interests of a person, oldest first."""

    interests: list[Interest]
