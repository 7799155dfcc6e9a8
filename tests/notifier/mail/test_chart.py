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


def test_live_windows_are_hollow_unless_they_are_in_breach() -> None:
    """Only the outline has the bar's colour, and the legend is there; a count in breach, and an unknown one, stay."""
    chart = replace(PLAIN, live=(False, True, True, True))
    filled, hollow, unknown, _ = measure_bars(chart, BAR)
    assert filled > 20
    assert 0 < hollow < 20
    assert unknown == 0
    assert measure_bars(chart, PAST[Bound.HIGH])[3] > 20
    legend = (124, 28, 160, 54)
    assert decode_pixels(chart).crop(legend).tobytes() != decode_pixels(PLAIN).crop(legend).tobytes()
    breached = replace(PLAIN, live=(False, False, False, True))
    assert decode_pixels(breached).tobytes() == decode_pixels(PLAIN).tobytes()


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


def test_a_bar_is_in_breach_of_the_percent_of_what_is_usual_in_its_own_window() -> None:
    """Half of 30 is 15, half of 20 is 10: 12 breaches one alone. Nights, and windows without a usual, never are."""
    chart = replace(PLAIN, counts=(12, 12, 0, 4), threshold=15, bound=Bound.LOW, percent=50, usual=(60, 40, 9, None))
    assert chart.list_levels() == [15, 10, None, None]
    assert [height > 20 for height in measure_bars(chart, PAST[Bound.LOW])] == [True, False, False, False]
    assert [height > 20 for height in measure_bars(chart, BAR)] == [False, True, False, True]
    high = replace(chart, counts=(46, 45, 30, 31), bound=Bound.HIGH, percent=150)
    assert [height > 20 for height in measure_bars(high, PAST[Bound.HIGH])] == [True, True, False, False]


def test_what_is_usual_is_as_high_as_such_a_count() -> None:
    """A field behind the bar from the base line, at its level also where the bar is lower; none without a usual."""
    image = decode_pixels(
        replace(PLAIN, counts=(0, 40, 0, 40), threshold=1, bound=Bound.LOW, percent=1, usual=(80, 40, None, None))
    )
    step = (WIDTH - 62 - 18) / 4
    edges = [round((62 + step * (at + 0.06)) * 2) for at in range(4)]  # beside the bar
    field = [sum(is_similar(image.getpixel((x, y)), (51, 63, 79)) for y in range(90, HEIGHT * 2 - 66)) for x in edges]
    assert field[0] > 50
    assert abs(field[0] - 2 * field[1]) <= 10
    assert field[2:] == [0, 0]


@settings(max_examples=60, deadline=None)
@given(
    st.lists(
        st.tuples(st.none() | st.integers(0, 2**32 - 1), st.none() | st.integers(0, 2**32)), min_size=1, max_size=36
    ),
    st.integers(0, 2**32 - 1),
    st.sampled_from(Bound),
)
def test_any_usual_can_be_drawn(windows: list[tuple[int | None, int | None]], percent: int, bound: Bound) -> None:
    """Also the largest, and percents that are far above all counts."""
    counts, usual = zip(*windows, strict=True)
    labels = tuple((f"{at % 24:02}:00", "") for at in range(len(counts)))
    chart = MailChart(counts, 5, bound, labels, ("UTC", ""), percent, usual)
    assert decode_pixels(chart).size == (2 * WIDTH, 2 * HEIGHT)


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
