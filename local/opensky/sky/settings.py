"""What can be chosen about the sky: its seed, how imperfect reports are, and who is heard."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Final

from local.opensky.sky.airfields import FOOT_M, UNHEARD_FLOOR_M, Airfield


@dataclass(frozen=True, slots=True)
class SkySettings:
    """The choices of which the sky is a function, with its timetable and the time. Shares are from 0 to 1.

    Shares, lengths and oddities are those of real positions over Paris (three hours of 213 aircraft).
    """

    seed: int = 1
    floors_m: Mapping[str, float] = field(default_factory=dict)
    """By ICAO code, the height above the airport below which nobody hears aircraft; 0: on the ground, too.

    Other airports get one of 0, 500, 1,000 and 1,500 ft by chance.
    """
    unheard_airports: frozenset[str] = frozenset()
    """The airports without a receiver nearby: nothing is heard there up to 10,000 ft."""
    pressure_error_m: float = 500 * FOOT_M
    """Barometric altitude reads too high or too low by at most so much."""
    go_around_share: float = 0.02
    """Arrivals that go around once before they land."""
    message_share: float = 0.95
    """Seconds in which any message of an aircraft is received, outside dropouts."""
    position_share: float = 0.75
    """Seconds in which a position of an aircraft is received."""
    dropout_share: float = 0.15
    """Blocks of ten minutes with a stretch in which nothing is received of an aircraft."""
    stale_share: float = 0.28
    """Blocks of two minutes with a stretch in which messages, but no positions, are received of an aircraft."""
    repeated_share: float = 0.6
    """Such stretches in which the last position is repeated; in the others it becomes null after 15 s."""
    spike_share: float = 0.002
    """Reports with an altitude that is thousands of feet off."""
    flicker_share: float = 0.02
    """Reports near the ground whose `on_ground` is wrong."""
    null_share: float = 0.01
    """Reports without velocity, or without altitude, in the air."""
    noise: bool = True
    """False: positions and altitudes are exact."""
    other_traffic: bool = True
    """False: the timetable's flights alone; else also aircraft that only pass, vehicles and a helicopter."""

    def find_floor(self, airfield: Airfield) -> float:
        """Return the height in metres below which nobody hears aircraft at an airport."""
        if airfield.icao in self.unheard_airports:
            return UNHEARD_FLOOR_M
        given = self.floors_m.get(airfield.icao)
        return airfield.find_default_floor(self.seed) if given is None else given

    def make_perfect(self) -> "SkySettings":
        """Return the same sky with reports that are complete and exact, but for the floors of reception."""
        return replace(
            self,
            pressure_error_m=0.0,
            message_share=1.0,
            position_share=1.0,
            dropout_share=0.0,
            stale_share=0.0,
            spike_share=0.0,
            flicker_share=0.0,
            null_share=0.0,
            noise=False,
        )


DEFAULT_SETTINGS: Final = SkySettings()
