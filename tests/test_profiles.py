"""Which examples the properties draw, as `tests/conftest.py` decides."""

import os
import subprocess
import sys

import pytest

from tests.service_process import ROOT

_DRAW = """
from hypothesis import core, given, settings, strategies
import tests.conftest
settings.load_profile({profile!r})
core.global_force_seed = {seed}
drawn = []
@given(strategies.integers(0, 10**9))
def draw(number):
    drawn.append(number)
draw()
print(drawn)
"""


def draw(profile: str, seed: int | None, *, is_ci: bool) -> str:
    """Return the examples that a property draws in a process of its own, as text."""
    environment = {name: value for name, value in os.environ.items() if name != "CI"}
    environment |= {"CI": "true"} if is_ci else {}
    program = _DRAW.format(profile=profile, seed=seed)
    return subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, env=environment, check=True, text=True, stdout=subprocess.PIPE
    ).stdout


@pytest.mark.parametrize("is_ci", [True, False])
def test_the_examples_of_a_day_are_those_of_its_seed(is_ci: bool) -> None:
    """Each day has examples of its own, and whoever repeats its seed, in CI or not, has the same.

    Where CI is set, Hypothesis' own default is to draw the same examples always; profiles inherit it.
    """
    day = draw("fresh", 20130213, is_ci=is_ci)
    assert day == draw("fresh", 20130213, is_ci=not is_ci)
    assert day != draw("fresh", 20130214, is_ci=is_ci)


def test_where_ci_is_set_examples_stay_the_same_by_default() -> None:
    """A run of a part, of the faults or on MySQL, is judged by its change alone."""
    assert draw("ci", None, is_ci=True) == draw("ci", None, is_ci=True)
