"""The command-line options of the sky."""

import argparse

import pytest

from local.opensky.sky.airfields import FOOT_M
from local.opensky.sky.geometry import Point
from local.opensky.sky.receiver import DEFAULT_RANGE_NM, Receiver
from local.opensky.sky_options import add_sky_options, build_sky_settings
from local.opensky.state_faults import StateFault, StateFaultPlan


def parse(*options: str) -> argparse.Namespace:
    """Parse the options."""
    parser = argparse.ArgumentParser(exit_on_error=False)
    add_sky_options(parser)
    return parser.parse_args(options)


def test_without_options_the_sky_has_its_defaults() -> None:
    """No receiver, no faults, seed 1."""
    options = parse()
    assert options.receiver is None
    assert options.state_faults == options.receiver_faults == StateFaultPlan()
    assert (build_sky_settings(options).seed, build_sky_settings(options).floors_m) == (1, {})


def test_each_option_reaches_the_sky() -> None:
    """Floors may be given for several airports, in either case of the letters."""
    options = parse(
        "--sky-seed", "9", "--heard-from", "KJFK=0", "--heard-from", "kbos=1500", "--receiver", "40.68,-73.94",
        "--state-faults", "old@2013-02-08T14:00Z+5", "--receiver-faults", "3:1",
    )  # fmt: skip
    settings = build_sky_settings(options)
    assert settings.seed == 9
    assert settings.floors_m == {"KJFK": 0.0, "KBOS": 1_500 * FOOT_M}
    assert options.receiver == Receiver(Point(40.68, -73.94), DEFAULT_RANGE_NM)
    assert [spell.fault for spell in options.state_faults.spells] == [StateFault.OLD]
    assert options.receiver_faults == StateFaultPlan(seed=3, rate=1.0)
    assert parse("--receiver=-33.9,18.6,80").receiver == Receiver(Point(-33.9, 18.6), 80.0)


@pytest.mark.parametrize(
    ("option", "word"),
    [
        ("--sky-seed=x", "whole number"),
        ("--heard-from=KJFK", "KJFK=500"),
        ("--heard-from=ZZZZ=5", "no airport"),
        ("--heard-from=KJFK=99999", "10000"),
        ("--receiver=40.68", "no position"),
        ("--receiver=north,west", "no position"),
        ("--receiver=95,0", "no position"),
        ("--receiver=nan,0", "no position"),
        ("--receiver=40,-73,0", "250"),
        ("--receiver=40,-73,1,1", "no position"),
        ("--state-faults=storm", "SEED"),
    ],
)
def test_an_invalid_option_is_refused_with_a_sentence(option: str, word: str) -> None:
    """The sentence says what is wanted."""
    with pytest.raises(argparse.ArgumentError) as refused:
        parse(option)
    assert word in str(refused.value)
