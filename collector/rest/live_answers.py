"""The JSON bodies that say what is covered live and how well that agrees with the settled record."""

from collections.abc import Mapping
from datetime import date, datetime

from pydantic import BaseModel, Field

from collector.settled.agreement import DailyAgreement
from collector.settled.coverage_report import LiveReport
from domain.interests import Direction


class LiveStretch(BaseModel):
    """A stretch in which all movements of an airport were found from positions; the end is not part of it."""

    covered_from: datetime
    covered_until: datetime
    is_published: bool = Field(
        description="False if the airport agreed badly with the record then: nothing was judged by this stretch."
    )


class HourlyAgreement(BaseModel):
    """The flights of one hour (UTC) within the stretches of live coverage."""

    recorded: int = Field(description="Flights of the settled record.")
    live: int = Field(description="Movements that were found live.")


class Agreement(BaseModel):
    """How well what was found live on one day (UTC) agrees with the settled record."""

    day: date
    recorded: int = Field(description="Flights of the record within the stretches of live coverage.")
    live: int = Field(description="Movements found live within these stretches.")
    matched: int = Field(description="Those that both have: one aircraft, at most 20 minutes apart.")
    added: int = Field(description="Flights of the whole day that only the record has.")
    retracted: int = Field(description="Movements of the whole day that the record does not have.")
    recall: float | None = Field(description="matched / recorded; null without such flights.")
    precision: float | None = Field(description="matched / live; null without such movements.")
    hours: list[HourlyAgreement] = Field(description="Of the 24 hours of the day, in order.")

    @classmethod
    def build(cls, found: DailyAgreement) -> "Agreement":
        """Build the body from the agreement of one day; recall and precision get three decimal places."""
        return cls(
            day=found.day.date(),
            recorded=found.recorded,
            live=found.live,
            matched=found.matched,
            added=found.added,
            retracted=found.retracted,
            recall=None if found.recall is None else round(found.recall, 3),
            precision=None if found.precision is None else round(found.precision, 3),
            hours=[HourlyAgreement(recorded=recorded, live=live) for recorded, live in found.hourly],
        )


class LiveCoverage(BaseModel):
    """The live coverage of one direction: where movements are found from positions, minutes after they happen."""

    stretches: list[LiveStretch] = Field(description="Of the last days, in order.")
    agreement: list[Agreement] = Field(description="Of the last days that the record decided about, newest first.")
    is_trusted: bool | None = Field(
        description="Null: nothing was heard live on the last days. False if less than 80 percent of the record's "
        "flights were found live on the last three days with such flights: then live coverage is not published, and "
        "windows are judged by the record."
    )

    @classmethod
    def build(cls, report: LiveReport) -> "LiveCoverage":
        """Build the body from what is known of one direction's live coverage."""
        return cls(
            stretches=[
                LiveStretch(covered_from=each.begin, covered_until=each.end, is_published=each.is_published)
                for each in report.stretches
            ],
            agreement=[Agreement.build(each) for each in report.agreements],
            is_trusted=report.is_trusted if report.stretches or report.agreements or not report.is_trusted else None,
        )


class Live(BaseModel):
    """The live coverage of an airport by direction."""

    heard: str | None = Field(
        description="Whether the airport is heard live now, from when on, or why not, in words; null: nothing is "
        "collected live."
    )
    arrivals: LiveCoverage
    departures: LiveCoverage

    @classmethod
    def build(cls, reports: Mapping[Direction, LiveReport], heard: str | None) -> "Live":
        """Build the body from what is known of the live coverage of both directions, and of how it is heard now."""
        return cls(
            heard=heard,
            arrivals=LiveCoverage.build(reports[Direction.ARRIVALS]),
            departures=LiveCoverage.build(reports[Direction.DEPARTURES]),
        )
