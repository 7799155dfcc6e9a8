"""The JSON body of the scheduler's state: built here from the state; it also is the API's schema."""

from collections.abc import Mapping
from datetime import UTC, datetime

from pydantic import BaseModel, Field

from collector.live.reports import FeedReport
from collector.live.status import LiveState
from collector.rest.answers import Evidence
from collector.settled import status
from domain.interests import Direction


class PlannedQuestion(BaseModel):
    """An API call that the collector will make to the source, for the flights of [begin, end)."""

    airport_icao: str
    direction: Direction
    begin: datetime
    end: datetime
    credits: int = Field(description="Its price, if it were asked now.")
    correction: bool = Field(description="Whether it was collected before, and is again for late flights.")

    @classmethod
    def build(cls, question: status.PlannedCall) -> "PlannedQuestion":
        """Build the body from an API call of the scheduler's plan."""
        return cls(
            airport_icao=question.airport,
            direction=question.direction,
            begin=question.begin,
            end=question.end,
            credits=question.price,
            correction=question.correction,
        )


class FlowCoverage(BaseModel):
    """The progress of the collection of one airport and direction that at least one interest needs."""

    airport_icao: str
    direction: Direction
    interests: int
    people: int = Field(description="The people with these interests; they pay its credits together.")
    covered_from: datetime | None = Field(description="Null where nothing is collected yet.")
    covered_until: datetime | None = Field(description="Null where nothing is collected yet.")
    goes_on_at: datetime = Field(description="Where the next collection begins; what lies between becomes a gap.")
    due_until: datetime = Field(description="End of the days whose record at the source is proven to be complete.")
    asked_at: datetime | None = Field(description="When the source was last asked, whatever came of it.")
    lag_seconds: float = Field(description="From where the next collection begins up to now.")
    waiting_for: str | None = Field(description="What the next day waits for, in words; null: for no evidence.")
    waits_for_credits: str | None = Field(
        description="In words, if the next day is due and waits for credits: how many calls come first; else null."
    )

    @classmethod
    def build(cls, flow: status.TargetCoverage) -> "FlowCoverage":
        """Build the body from the scheduler's coverage of one airport and direction."""
        return cls(
            airport_icao=flow.airport,
            direction=flow.direction,
            interests=flow.interests,
            people=flow.people,
            covered_from=flow.covered_from,
            covered_until=flow.covered_until,
            goes_on_at=flow.goes_on_at,
            due_until=flow.due_until,
            asked_at=flow.asked_at,
            lag_seconds=flow.lag_s,
            waiting_for=flow.waiting_for,
            waits_for_credits=flow.waits_for_credits,
        )


class ForeignAnswers(BaseModel):
    """The number of answers of one kind that somebody else, such as a proxy, gave in the source's name."""

    kind: str
    answers: int
    last_at: datetime


class LiveFeed(BaseModel):
    """A feed of positions: a group of sources that are polled at one pace, and merged by aircraft."""

    name: str = Field(description="opensky, own (the account's receivers), receivers or services.")
    last_poll_at: datetime | None = Field(description="When the last poll that counts was answered; null: none yet.")
    aircraft: int = Field(description="In that poll.")
    interval_seconds: float = Field(description="From one poll to the next.")
    live_airports: list[str] = Field(description="Those that it hears without a pause, and so covers.")
    settled_airports: Mapping[str, str] = Field(
        description="By ICAO code: why another airport with interests is not watched by this feed, in a sentence."
    )
    error: str | None = Field(description="Why the last poll failed, in a sentence; null: it did not.")

    @classmethod
    def build(cls, report: FeedReport) -> "LiveFeed":
        """Build the body from a feed's report."""
        at = report.last_poll_at
        return cls(
            name=report.feed,
            last_poll_at=None if at is None else datetime.fromtimestamp(at, UTC),
            aircraft=report.aircraft,
            interval_seconds=report.interval_s,
            live_airports=list(report.live),
            settled_airports=report.settled,
            error=report.error,
        )


class LiveCollection(BaseModel):
    """What is collected live, from positions."""

    feeds: list[LiveFeed] = Field(description="Empty: no source of positions is set, or LIVE is off.")
    budget: int | None = Field(description="Credits of the day (UTC) for positions; null: OpenSky is not asked.")
    left: int | None = Field(description="Those that are left today.")

    @classmethod
    def build(cls, state: LiveState) -> "LiveCollection":
        """Build the body from the state of live collection."""
        return cls(feeds=[LiveFeed.build(each) for each in state.feeds], budget=state.budget, left=state.left)


class Scheduler(BaseModel):
    """The scheduler's state: the day's credits, the planned calls, and the coverage of each airport and direction."""

    at: datetime
    budget: int = Field(description="Credits of the day (UTC).")
    spent: int = Field(description="What a call in flight costs is in it, and is given back if the call fails.")
    left: int
    due: int = Field(description="Questions that are due.")
    plan: list[PlannedQuestion] = Field(description="The first of them, in their order.")
    deferred_until: datetime | None = Field(
        description="Collection waits until then, for credits or because the source wants a pause; null: it does not."
    )
    coverage: list[FlowCoverage]
    evidence: list[Evidence] = Field(description="About the source's records of the last days, newest first.")
    clock_error_seconds: float | None = Field(
        description="How far the service's clock was ahead of the source's at the last comparison; null: none yet."
    )
    clock_compared_at: datetime | None
    foreign_answers: list[ForeignAnswers] = Field(description="By kind; the kind of the latest answer comes first.")
    retired_airports: list[str] = Field(
        description="Codes with interests that no airport has any more: nothing is collected there."
    )
    error: str | None = Field(
        description="Why the last call of the source failed, and when, in words; null: it did not, or none was made."
    )
    live: LiveCollection

    @classmethod
    def build(cls, state: status.SchedulerState, live: LiveState) -> "Scheduler":
        """Build the body from the scheduler's state, in its order, and from that of live collection."""
        return cls(
            at=state.at,
            budget=state.budget,
            spent=state.spent,
            left=state.left,
            due=state.due,
            plan=[PlannedQuestion.build(question) for question in state.plan],
            deferred_until=state.deferred_until,
            coverage=[FlowCoverage.build(flow) for flow in state.coverage],
            evidence=[Evidence.build(record) for record in state.records],
            clock_error_seconds=state.clock.error_s if state.clock else None,
            clock_compared_at=state.clock.at if state.clock else None,
            foreign_answers=[
                ForeignAnswers(kind=each.kind, answers=each.answers, last_at=each.last_at)
                for each in state.foreign_answers
            ],
            retired_airports=list(state.retired_airports),
            error=None if state.failure is None else state.failure.explain(state.at),
            live=LiveCollection.build(live),
        )
