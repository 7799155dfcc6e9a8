"""The JSON bodies about the windows of an interest: what was counted, what was alerted, and why."""

from collections.abc import Sequence
from datetime import datetime
from enum import StrEnum
from uuid import UUID

from pydantic import BaseModel, Field

from collector import window_verdicts as verdicts, windows as queries
from collector.interest_state import InterestState, StateKind
from collector.interest_versions import FormerVersion
from collector.rest.interest_answers import Interest
from collector.rest.usual_answers import BaseCount
from collector.settled.learning import LearningEnds
from collector.unheard import explain_unheard
from collector.window_verdicts import WhyUnknown
from domain import interests as domain
from domain.airports import find_airport
from domain.alerts import Bound
from domain.calendar import find_calendar


class AlertKind(StrEnum):
    """The state of a threshold in a window that an alert reports."""

    FIRING = "firing"
    RESOLVED = "resolved"
    STILL = "still"
    WITHDRAWN = "withdrawn"


class FreshnessKind(StrEnum):
    """The source of the newest known flights of the airport."""

    LIVE = "live"
    RECORD = "record"
    NONE = "none"


class WatchedAirport(BaseModel):
    """The airport of an interest."""

    icao: str
    iata: str | None = Field(description="Null if it has none.")
    name: str | None = Field(description="Null for a code that was retired.")
    city: str | None = Field(description="Null if it is not known.")
    country: str | None = Field(description="Two letters (ISO 3166-1); null for a code that was retired.")
    time_zone: str = Field(description="IANA name.")

    @classmethod
    def build(cls, icao: str) -> "WatchedAirport":
        """Build the body of an airport, or of a code that no airport has any more."""
        found = find_airport(icao)
        return cls(
            icao=icao,
            iata=(found.iata or None) if found else None,
            name=None if found is None else found.name,
            city=(found.city or None) if found else None,
            country=(found.country or None) if found else None,
            time_zone=find_calendar(icao).time_zone,
        )


class State(BaseModel):
    """The present state of an interest, by the last window that its present version judged."""

    kind: StateKind = Field(
        description="`firing` or `normal` by the last window that was judged; `paused` until effective_from; "
        "`learning` while what is usual is not known; `unknown` if none of the last windows was judged."
    )
    bound: Bound | None = Field(description="The threshold that is breached; null unless firing.")
    window_start: datetime | None = Field(description="Of the last window that was judged; null if none was.")
    flights: int | None = Field(description="Flights in it.")
    text: str

    @classmethod
    def build(cls, interest: Interest, state: InterestState) -> "State":
        """Build the body; of an interest in percent that is not judged yet, with the reason."""
        kind, text = state.kind, ""
        if kind is StateKind.UNKNOWN and interest.learning is not None:
            kind, text = StateKind.LEARNING, interest.learning
        elif kind is StateKind.UNKNOWN:
            text = "None of the last windows was judged since the interest was set or changed."
        elif kind is StateKind.PAUSED:
            text = f"Paused: windows that start before {interest.effective_from:%Y-%m-%d %H:%M} (UTC) are not judged."
        window = state.window
        if window is not None:
            breach = "in breach" if kind is StateKind.FIRING else "normal"
            text = f"The window of {window.start:%Y-%m-%d %H:%M} (UTC) is {breach}: {window.text}"
        return cls(
            kind=kind,
            bound=state.bound,
            window_start=None if window is None else window.start,
            flights=None if window is None else window.flights,
            text=text,
        )


class Freshness(BaseModel):
    """The time up to which the airport's flights are known."""

    kind: FreshnessKind = Field(
        description="`live`: positions go beyond the night's record, and are less than 30 minutes old; `record`: "
        "they do not; `none`: nothing is known of a direction of the interest."
    )
    known_until: datetime | None = Field(
        description="The end of what is known of all directions: of the positions if `live`, else of the night's "
        "record, where there is one. After it there may be hours that are known from positions. Null: nothing is known."
    )
    unheard_since: datetime | None = Field(
        description="Begin of the first day of which flights were asked for, if the source never had one; else null."
    )
    text: str

    @classmethod
    def build(cls, airport: str, freshness: queries.Freshness) -> "Freshness":
        """Build the body from what is known of the airport (ICAO code)."""
        until, unheard = freshness.known_until, freshness.unheard_since
        if until is None:
            kind = FreshnessKind.NONE
            text = "Nothing is known yet." if unheard is None else explain_unheard(airport, unheard)
        elif freshness.is_live:
            kind = FreshnessKind.LIVE
            text = f"Live: known from positions until {until:%Y-%m-%d %H:%M} (UTC)."
        else:
            kind = FreshnessKind.RECORD
            # Positions that ended a while ago may have pauses in between: all is known to the record's end only.
            until = freshness.recorded_until or until
            text = f"Known until {until:%Y-%m-%d %H:%M} (UTC)."
        return cls(kind=kind, known_until=until, unheard_since=unheard, text=text)


class WindowAlert(BaseModel):
    """An alert about a window, as it was raised."""

    alert_id: UUID
    bound: Bound
    state: AlertKind
    flights: int = Field(description="Flights in the window when it was raised.")
    version: int = Field(description="The version of the interest that raised it.")
    withdrawn_state: AlertKind | None = Field(description="What `withdrawn` takes back; else null.")
    corrects_alert_id: UUID | None = Field(description="The alert that `withdrawn` takes back; else null.")

    @classmethod
    def build(cls, said: verdicts.SaidAlert) -> "WindowAlert":
        """Build the body from an alert and the one that it takes back."""
        alert, withdrawn = said.alert, said.alert.withdrawn_state
        return cls(
            alert_id=alert.alert_id,
            bound=alert.bound,
            state=AlertKind(alert.state.value.lower()),
            flights=alert.count,
            version=alert.version,
            withdrawn_state=None if withdrawn is None else AlertKind(withdrawn.value.lower()),
            corrects_alert_id=None if said.corrects is None else said.corrects.alert_id,
        )


class InterestWindow(BaseModel):
    """One window of an interest: what was counted, what was alerted, and why."""

    window_start: datetime
    window_end: datetime
    local_start: str = Field(description="The start by the airport's clock, with its offset.")
    flights: int | None = Field(
        description="Flights so far in a window that is open; null where not all are known, unless those that are "
        "known are a breach already."
    )
    is_closed: bool = Field(description="Whether all its flights are known.")
    is_live: bool = Field(description="Whether the night's record has not confirmed it yet, and may correct it.")
    why_unknown: WhyUnknown | None = Field(
        description="Why it is not judged; null if it is, or if it is open and will be. `not_collected`: nothing is "
        "known of it yet. `gap`: a part is not known, and will not be unless the gap is filled. `before_coverage`: it "
        "starts before the first flights that are known. `before_effective_from`: before the interest is in effect. "
        "`changed_before_judged`: the interest was changed before all of the window was known. In percent: "
        "`usual_unknown`: fewer than three of the five weeks before were known; `usual_too_small`: fewer than five "
        "flights are usual; `usual_not_reached`: it is not fixed yet."
    )
    version: int | None = Field(
        description="The version of the interest that it belongs to; null before the first window of the first one."
    )
    usual: float | None = Field(description="What is usual in it, of an interest in percent; it may end in .5.")
    base: list[BaseCount] = Field(
        description="The same window of the weeks before, as far as all its flights are known now; of an interest in "
        "percent."
    )
    breached: list[Bound] = Field(description="The thresholds that are breached, as many windows in a row as it takes.")
    alerts: list[WindowAlert] = Field(description="In the order of raising, also those of former versions.")
    text: str = Field(description="Why something was said, or why not: a sentence for each threshold.")

    @classmethod
    def build(cls, window: verdicts.JudgedWindow) -> "InterestWindow":
        """Build the body from a judged window."""
        return cls(
            window_start=window.start,
            window_end=window.end,
            local_start=window.local_start.isoformat(),
            flights=window.flights,
            is_closed=window.is_closed,
            is_live=window.is_live,
            why_unknown=window.why_unknown,
            version=window.version,
            usual=None if window.doubled_usual is None else window.doubled_usual / 2,
            base=[BaseCount(window_start=start, flights=flights) for start, flights in window.base],
            breached=list(window.breached),
            alerts=[WindowAlert.build(each) for each in window.alerts],
            text=window.text,
        )


class FormerInterest(BaseModel):
    """A version of an interest that is in force no more."""

    interest_id: UUID
    airport_icao: str
    direction: domain.Direction
    window: str
    aligned_to: str
    version: int
    high_value: int | None
    low_value: int | None
    high_percent: int | None
    low_percent: int | None
    for_windows: int
    repeat: bool
    effective_from: datetime
    since: datetime = Field(description="When it was set.")
    until: datetime = Field(description="When it was changed or removed.")

    @classmethod
    def build(cls, former: FormerVersion) -> "FormerInterest":
        """Build the body from a former version, without the user's id."""
        interest = former.interest
        return cls(
            interest_id=interest.interest_id,
            airport_icao=interest.airport,
            direction=interest.direction,
            window=interest.window.value,
            aligned_to=interest.aligned_to.value,
            version=interest.version,
            high_value=interest.high,
            low_value=interest.low,
            high_percent=interest.high_percent,
            low_percent=interest.low_percent,
            for_windows=interest.for_windows,
            repeat=interest.repeat,
            effective_from=interest.effective_from,
            since=former.since,
            until=former.until,
        )


class FormerInterests(BaseModel):
    """The former versions of a person's interests that are kept, also of removed ones, the oldest first."""

    versions: list[FormerInterest]

    @classmethod
    def build(cls, former: Sequence[FormerVersion]) -> "FormerInterests":
        """Build the body from former versions."""
        return cls(versions=[FormerInterest.build(each) for each in former])


class InterestWindows(BaseModel):
    """An interest with its state, how fresh what is known is, and its windows in a range, in order of time."""

    interest: Interest
    airport: WatchedAirport
    state: State
    freshness: Freshness
    windows: list[InterestWindow]
    former_versions: list[FormerInterest] = Field(
        description="The versions that were in force in this range before the present one, the oldest first; of many "
        "the latest twelve, and windows of before are shown as judged by none."
    )
    earliest_begin: datetime = Field(description="The earliest `begin` that may be asked for.")

    @classmethod
    def build(cls, found: queries.InterestWindows, ends: LearningEnds) -> "InterestWindows":
        """Build the body; `ends`: until when the interest learns, if it does."""
        interest = Interest.build(found.interest, ends)
        return cls(
            interest=interest,
            airport=WatchedAirport.build(found.interest.airport),
            state=State.build(interest, found.state),
            freshness=Freshness.build(found.interest.airport, found.freshness),
            windows=[InterestWindow.build(each) for each in found.windows],
            former_versions=[FormerInterest.build(each) for each in found.former_versions],
            earliest_begin=found.earliest_begin,
        )
