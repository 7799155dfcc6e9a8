"""The chart of a mail shows the counts: bars of the right height and colour."""

from dataclasses import replace
from io import BytesIO

import pytest
from hypothesis import given, settings, strategies as st
from PIL import Image

from domain.alerts import Bound
from notifier.mail.chart import HEIGHT, WIDTH, MailChart, render_chart

PLAIN = MailChart((12, 15, None, 24), 20, Bound.HIGH, tuple((f"0{hour}:00", "") for hour in range(4)), ("UTC", ""))
PAST = {Bound.HIGH: (255, 155, 94), Bound.LOW: (98, 181, 255)}
BAR = (129, 149, 173)


def decode_pixels(chart: MailChart) -> Image.Image:
    """Return the rendered chart as an RGB image."""
    return Image.open(BytesIO(render_chart(chart))).convert("RGB")


def is_similar(one: tuple[int, int, int], other: tuple[int, int, int]) -> bool:
    """Return True if two colours differ by less than 12 in each channel."""
    return all(abs(a - b) < 12 for a, b in zip(one, other, strict=True))


def measure_bars(chart: MailChart, colour: tuple[int, int, int]) -> list[int]:
    """Return for each window how many pixels in the middle of its bar have this colour."""
    image = decode_pixels(chart)
    step = (WIDTH - 62 - 18) / len(chart.counts)
    columns = [round((62 + step * (at + 0.5)) * 2) + 6 for at in range(len(chart.counts))]
    return [sum(is_similar(image.getpixel((x, y)), colour) for y in range(90, HEIGHT * 2 - 60)) for x in columns]


def test_the_image_has_twice_the_size_of_the_page() -> None:
    """The image has two pixels for each pixel of the page, one background colour in all corners, and under 12 kB."""
    image = decode_pixels(PLAIN)
    assert image.size == (2 * WIDTH, 2 * HEIGHT)
    assert {image.getpixel((x, y)) for x in (0, image.width - 1) for y in (0, image.height - 1)} == {
        image.getpixel((0, 0))
    }
    assert len(render_chart(PLAIN)) < 12_000


@pytest.mark.parametrize(
    ("bound", "past"), [(Bound.HIGH, [False, False, False, True]), (Bound.LOW, [True, True, False, False])]
)
def test_windows_past_the_threshold_stand_out(bound: Bound, past: list[bool]) -> None:
    """Bars past the threshold have the bound's colour, other bars another colour, and unknown counts no bar."""
    chart = replace(PLAIN, bound=bound)
    assert [height > 20 for height in measure_bars(chart, PAST[bound])] == past
    known = [count is not None for count in chart.counts]
    assert [height > 20 for height in measure_bars(chart, BAR)] == [
        a and not b for a, b in zip(known, past, strict=True)
    ]


def test_bars_are_as_high_as_their_counts() -> None:
    """A bar for twice as many flights is twice as high."""
    counts = (10, 20, 40, 80)
    found = measure_bars(replace(PLAIN, counts=counts, threshold=100), BAR)
    assert [round(height / found[0]) for height in found] == [1, 2, 4, 8]


def test_a_threshold_far_away_does_not_flatten_the_counts() -> None:
    """Zero flights are a thin line, and small counts differ visibly, even if the threshold is much higher."""
    low = replace(PLAIN, counts=(0, 3, 6, 9), threshold=10_000, bound=Bound.LOW)
    found = measure_bars(low, PAST[Bound.LOW])
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
    """Charts of 1 to 36 windows, unknown counts and the largest counts are drawn in the usual size."""
    labels = tuple((f"{at % 24:02}:00", f"{at % 24:02}:45") for at in range(len(counts)))
    assert decode_pixels(MailChart(tuple(counts), threshold, bound, labels, ("UTC", "local"))).size == (
        2 * WIDTH,
        2 * HEIGHT,
    )
