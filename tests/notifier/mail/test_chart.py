"""The chart: what is drawn is what was counted."""

from dataclasses import replace
from io import BytesIO

import pytest
from hypothesis import given, settings, strategies as st
from PIL import Image

from domain.alerts import Bound
from notifier.mail.chart import HEIGHT, WIDTH, Chart, drawn

PLAIN = Chart((12, 15, None, 24), 20, Bound.HIGH, tuple((f"0{hour}:00", "") for hour in range(4)), ("UTC", ""))
PAST = {Bound.HIGH: (255, 155, 94), Bound.LOW: (98, 181, 255)}
BAR = (129, 149, 173)


def shown(chart: Chart) -> Image.Image:
    return Image.open(BytesIO(drawn(chart))).convert("RGB")


def near(one: tuple[int, int, int], other: tuple[int, int, int]) -> bool:
    return all(abs(a - b) < 12 for a, b in zip(one, other, strict=True))


def heights(chart: Chart, colour: tuple[int, int, int]) -> list[int]:
    """Of each window the pixels of this colour, down the middle of its bar."""
    image = shown(chart)
    step = (WIDTH - 62 - 18) / len(chart.counts)
    columns = [round((62 + step * (at + 0.5)) * 2) + 6 for at in range(len(chart.counts))]
    return [sum(near(image.getpixel((x, y)), colour) for y in range(90, HEIGHT * 2 - 60)) for x in columns]


def test_it_has_the_size_that_the_page_gives_it() -> None:
    """Two pixels for each of the page's, and ground of its own in every corner."""
    image = shown(PLAIN)
    assert image.size == (2 * WIDTH, 2 * HEIGHT)
    assert {image.getpixel((x, y)) for x in (0, image.width - 1) for y in (0, image.height - 1)} == {
        image.getpixel((0, 0))
    }
    assert len(drawn(PLAIN)) < 12_000


@pytest.mark.parametrize(
    ("bound", "past"), [(Bound.HIGH, [False, False, False, True]), (Bound.LOW, [True, True, False, False])]
)
def test_windows_past_the_threshold_stand_out(bound: Bound, past: list[bool]) -> None:
    """In the bound's colour; the others in another, and what is not known in none."""
    chart = replace(PLAIN, bound=bound)
    assert [height > 20 for height in heights(chart, PAST[bound])] == past
    known = [count is not None for count in chart.counts]
    assert [height > 20 for height in heights(chart, BAR)] == [a and not b for a, b in zip(known, past, strict=True)]


def test_bars_are_as_high_as_their_counts() -> None:
    """Twice the flights, twice the height."""
    counts = (10, 20, 40, 80)
    found = heights(replace(PLAIN, counts=counts, threshold=100), BAR)
    assert [round(height / found[0]) for height in found] == [1, 2, 4, 8]


def test_a_threshold_far_away_does_not_flatten_the_counts() -> None:
    """Zero flights are a line, and a few flights can be told from another, whatever the level is."""
    low = replace(PLAIN, counts=(0, 3, 6, 9), threshold=10_000, bound=Bound.LOW)
    found = heights(low, PAST[Bound.LOW])
    assert found[0] < 10
    assert found[1] > 20
    assert found[3] > 2 * found[1]


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.none() | st.integers(0, 2**32 - 1), min_size=1, max_size=36),
    st.integers(0, 2**32 - 1),
    st.sampled_from(Bound),
)
def test_any_counts_can_be_drawn(counts: list[int | None], threshold: int, bound: Bound) -> None:
    """From one window to many, from none to the most flights."""
    labels = tuple((f"{at % 24:02}:00", f"{at % 24:02}:45") for at in range(len(counts)))
    assert shown(Chart(tuple(counts), threshold, bound, labels, ("UTC", "local"))).size == (2 * WIDTH, 2 * HEIGHT)
