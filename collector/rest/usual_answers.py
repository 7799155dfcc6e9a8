"""The JSON bodies about what is usual at an airport, and of the thresholds that are suggested for it."""

from collections.abc import Mapping
from datetime import datetime
from zoneinfo import ZoneInfo

from pydantic import BaseModel, Field

from collector import flights as queries
from domain import suggestions as domain, usual_week
from domain.alerts import Bound
from domain.measures import Measure


class BaseCount(BaseModel):
    """The flights of one base window: the usual count is the median of all of them."""

    window_start: datetime
    flights: int


class UsualCount(BaseModel):
    """The usual number of flights in one window, and the counts of the weeks before that it is the median of."""

    window_start: datetime
    local_start: str = Field(description="The same instant by the airport's clock, with its offset.")
    usual: float | None = Field(
        description="The median of `base`: it may end in .5. Null where fewer than three of the five weeks are known."
    )
    base: list[BaseCount] = Field(
        description="The same window, by the airport's clock, 7, 14, 21, 28 and 35 days before, the latest first; only "
        "those of which all flights are known."
    )

    @classmethod
    def build(cls, window: usual_week.UsualWindow, zone: ZoneInfo) -> "UsualCount":
        """Build the body from a window of a usual week. `zone`: the airport's."""
        return cls(
            window_start=window.start,
            local_start=window.start.astimezone(zone).isoformat(),
            usual=None if window.doubled_usual is None else window.doubled_usual / 2,
            base=[BaseCount(window_start=each.start, flights=each.flights) for each in window.base],
        )


class UsualWeek(BaseModel):
    """The usual numbers of flights at an airport in all windows of the seven days from today on, in order.

    Days and windows begin by the clock of `aligned_to`. It follows from the settled record as it is known now. Windows
    that have begun already were judged by what was usual by the record at that time.
    """

    time_zone: str = Field(description="The airport's time zone, by whose clock the weeks before are found.")
    windows: list[UsualCount] = Field(description="168 of 1h, 28 of 6h, or 7 of 1d.")
    unknown: str | None = Field(description="In words, why nothing is usual in any of the windows; else null.")

    @classmethod
    def build(cls, week: queries.UsualWeek) -> "UsualWeek":
        """Build the body from a usual week."""
        zone = ZoneInfo(week.time_zone)
        return cls(
            time_zone=week.time_zone,
            windows=[UsualCount.build(each, zone) for each in week.windows],
            unknown=week.explain_unknown(),
        )


class Suggestion(BaseModel):
    """A level that would have brought about one mail in a month, a week or a day; or why there is none."""

    level: int | None = Field(description="The value for the member of this name; null: no level would have.")
    mails: int | None = Field(description="Mails that it would have brought in all these days; null without a level.")
    why_none: str | None = Field(description="In words, why there is no such level; else null.")


class LevelSuggestions(BaseModel):
    """Suggestions for one threshold, by how often a mail is wanted."""

    month: Suggestion
    week: Suggestion
    day: Suggestion

    @classmethod
    def build(cls, found: Mapping[domain.Frequency, domain.Suggestion]) -> "LevelSuggestions":
        """Build the body from the suggestions of all frequencies."""
        return cls(
            **{
                frequency.value: Suggestion(level=each.level, mails=each.mails, why_none=each.why_none)
                for frequency, each in found.items()
            }
        )


class MissingLevels(BaseModel):
    """Levels that cannot be suggested for one reason, which a person has to read once."""

    why: str
    levels: list[str] = Field(description="Each as its members are named: `high_percent.month`.")


class Suggestions(BaseModel):
    """Levels for an interest in this airport, direction and window, with these `for_windows` and `repeat`.

    Each follows from the last 35 days alone, whatever thresholds and `effective_from` the request has. The end of a
    breach counts as a mail, too.
    """

    high_value: LevelSuggestions
    low_value: LevelSuggestions
    high_percent: LevelSuggestions
    low_percent: LevelSuggestions
    missing: list[MissingLevels] = Field(description="Why levels are null: each reason once, with the levels.")

    @classmethod
    def build(
        cls, found: Mapping[tuple[Bound, Measure], Mapping[domain.Frequency, domain.Suggestion]]
    ) -> "Suggestions":
        """Build the body from the suggestions of all bounds and measures."""
        by_name = {
            "high_value": found[Bound.HIGH, Measure.FLIGHTS],
            "low_value": found[Bound.LOW, Measure.FLIGHTS],
            "high_percent": found[Bound.HIGH, Measure.PERCENT],
            "low_percent": found[Bound.LOW, Measure.PERCENT],
        }
        missing: dict[str, list[str]] = {}
        for name, suggestions in by_name.items():
            for frequency, each in suggestions.items():
                if (why := each.reason or each.why_none) is not None:
                    missing.setdefault(why, []).append(f"{name}.{frequency.value}")
        return cls(
            **{name: LevelSuggestions.build(suggestions) for name, suggestions in by_name.items()},
            missing=[MissingLevels(why=why, levels=levels) for why, levels in missing.items()],
        )
