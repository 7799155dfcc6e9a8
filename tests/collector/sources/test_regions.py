"""Tests of regions: prices by area, edges, and the antimeridian."""

import pytest

from collector.sources.regions import OWN_RECEIVERS, WORLD, Box, Circle, find_midpoint, measure_distance_km


@pytest.mark.parametrize(
    ("box", "price"),
    [
        (Box(0, 0, 500, 500), 1), (Box(0, 0, 500, 501), 2), (Box(0, 0, 1_000, 1_000), 2), (Box(0, 0, 1_000, 1_001), 3),
        (Box(0, 0, 2_000, 2_000), 3), (Box(0, 0, 2_000, 2_001), 4), (Box(-9_000, -18_000, 9_000, 18_000), 4),
    ],
)  # fmt: skip
def test_a_box_costs_what_its_area_does(box: Box, price: int) -> None:
    """Up to 25 square degrees one credit, 100 two, 400 three, more four; an account's own receivers cost nothing."""
    assert box.compute_price() == price
    assert (WORLD.compute_price(), OWN_RECEIVERS.compute_price()) == (4, 0)


@pytest.mark.parametrize("longitude", [180.0, -180.0, 540.0])
def test_the_antimeridian_is_in_the_boxes_on_both_sides(longitude: float) -> None:
    """However it is written."""
    assert Box(0, 17_900, 100, 18_000).contains(0.5, longitude)
    assert Box(0, -18_000, 100, -17_900).contains(0.5, longitude)
    assert not Box(0, -17_999, 100, 17_999).contains(0.5, longitude)


@pytest.mark.parametrize(
    "edges",
    [(100, 0, 100, 5), (0, 5, 5, 0), (-9_001, 0, 0, 5), (0, -18_001, 5, 0), (0, 0, 9_001, 5), (0, 0, 5, 18_001)],
)
def test_a_box_without_area_or_off_the_globe_is_refused(edges: tuple[int, int, int, int]) -> None:
    """Also one whose west is east of its east: nobody has said what the source would make of it."""
    with pytest.raises(ValueError, match="is no box"):
        Box(*edges)


@pytest.mark.parametrize("radius", [0, 251])
def test_a_circle_is_one_that_services_take(radius: int) -> None:
    """Up to 250 nautical miles."""
    with pytest.raises(ValueError, match="is no circle"):
        Circle(48.9, 2.5, radius)


def test_distances_are_great_circles() -> None:
    """Paris and New York are 5,830 km from each other, and the point halfway is as far from both."""
    paris, new_york = (49.01, 2.55), (40.64, -73.78)
    middle = find_midpoint(*paris, *new_york)
    assert measure_distance_km(*paris, *new_york) == pytest.approx(5_833, abs=10)
    assert measure_distance_km(*paris, *middle) == pytest.approx(measure_distance_km(*middle, *new_york), abs=0.01)
    assert find_midpoint(10.0, 20.0, -10.0, -160.0) == (10.0, 20.0)
