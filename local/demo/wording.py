"""What the demo sends and says of its interests and of its source's record."""

from collections.abc import Collection

from domain.interests import Direction, Interest
from domain.windows import AlignedTo
from local.demo.plan import DemoPlan
from local.opensky.record_options import encode_time


def build_interest_body(interest: Interest) -> dict[str, object]:
    """Build the JSON body of `POST /interests` that sets an interest."""
    return {
        "airport_icao": interest.airport,
        "direction": interest.direction.value,
        "window": interest.window.value,
        "aligned_to": interest.aligned_to.value,
        "high_value": interest.high,
        "low_value": interest.low,
        "high_percent": interest.high_percent,
        "low_percent": interest.low_percent,
        "for_windows": interest.for_windows,
        "repeat": interest.repeat,
        "effective_from": interest.effective_from.isoformat(),
    }


def describe_record(plan: DemoPlan, unheard: Collection[str]) -> list[str]:
    """Return lines that say when the replay's record of each day appears in this run, and what it lacks.

    `unheard`: the airports of the interests of which no flight is ever recorded.
    """
    schedule = plan.schedule
    times = encode_time(schedule.record_after)
    if schedule.second_part_after is not None:
        times += f" and, the other half of it, at {encode_time(schedule.record_after + schedule.second_part_after)}"
    lines = [f"The source records the flights of each day in the night after it, at {times} UTC"]
    lines += [f"The record of {day:%-d %B} comes a day late" for day in sorted(schedule.late_days)]
    lines += [
        f"The record of {day:%-d %B} never comes: the day becomes a gap, a week after its end"
        for day in sorted(schedule.missing_days)
    ]
    if schedule.departures_live:
        lines.append("The source gives departures of today, too; they prove nothing")
    lines += [
        f"No flight of {airport} is ever recorded, so no alert is said about it, and one mail says that nobody hears it"
        for airport in sorted(unheard)
    ]
    return lines


def describe_interest(interest: Interest) -> str:
    """Return an interest in words for the console: its thresholds, direction, window length, airport and run."""
    limits = [f"more than {interest.high}"] if interest.high is not None else []
    if interest.high_percent is not None:
        limits.append(f"more than {interest.high_percent} % of the usual")
    limits += [f"fewer than {interest.low}"] if interest.low is not None else []
    if interest.low_percent is not None:
        limits.append(f"fewer than {interest.low_percent} % of the usual")
    what = "arrivals and departures" if interest.direction is Direction.BOTH else interest.direction.value
    run = f", {interest.for_windows} windows in a row" if interest.for_windows > 1 else ""
    clock = " by its clock" if interest.aligned_to is AlignedTo.AIRPORT else ""
    return f"{' or '.join(limits)} {what} in {interest.window.value}{clock} at {interest.airport}{run}"
