"""Flights for the tests of the sky, by hand and by hypothesis."""

from typing import Final

from hypothesis import strategies as st

from local.opensky.flights import TimetableFlight

T0: Final = 1_360_713_600
"""2013-02-13T00:00Z in Unix seconds."""

AIRPORTS: Final = ("KJFK", "KEWR", "KLGA", "KBOS", "KPHL", "KATL", "KDEN", "PHNL", "KTEB", "TIST")
"""Large and small ones, near each other and far away, high above the sea and beside it."""


def make_flight(
    departure: str | None = "KJFK",
    arrival: str | None = "KBOS",
    *,
    first_seen: int = T0 + 7_200,
    duration: int = 4_200,
    icao24: str = "a00001",
) -> TimetableFlight:
    """Return a flight of some seconds; by default from New York to Boston at two o'clock."""
    return TimetableFlight(first_seen, first_seen + duration, icao24, "TW1", departure, arrival)


@st.composite
def flights(draw: st.DrawFn) -> TimetableFlight:
    """Draw a flight between two airports, or round one; some take hours longer than they need, some are impossible.

    Of some flights one airport is not known.
    """
    departure, arrival = draw(st.sampled_from(AIRPORTS)), draw(st.sampled_from(AIRPORTS))
    unknown = draw(st.sampled_from(("none", "none", "none", "departure", "arrival")))
    duration = draw(st.integers(600, 20_000) | st.integers(20_000, 70_000))
    first_seen = T0 + draw(st.integers(0, 30 * 86_400))
    return TimetableFlight(
        first_seen,
        first_seen + duration,
        f"a{draw(st.integers(1, 0x5F7C7)):05x}",
        "TW1",
        None if unknown == "departure" else departure,
        None if unknown == "arrival" else arrival,
    )
