"""Paths over the ground."""

from itertools import pairwise
from typing import Final

import pytest
from hypothesis import given, strategies as st

from local.opensky.sky.geometry import (
    Path,
    Point,
    Pose,
    StraightLeg,
    compute_bearing,
    compute_distance,
    compute_turn,
    move_point,
    plan_circle,
    plan_circuit,
    plan_turns,
)

KJFK: Final = Point(40.6398, -73.7789)
EGLL: Final = Point(51.4706, -0.4619)

tracks = st.floats(0.0, 359.9)
points = st.builds(Point, st.floats(-60.0, 70.0), st.floats(-179.0, 179.0))
poses = st.builds(Pose, st.floats(-55.0, 55.0), st.floats(-179.0, 179.0), tracks)


def test_distance_and_bearing_of_two_known_airports() -> None:
    """New York to London is 5,540 km, and begins to the north-east (great circle on a sphere)."""
    assert compute_distance(KJFK, EGLL) == pytest.approx(5_540_000, rel=0.003)
    assert compute_bearing(KJFK, EGLL) == pytest.approx(51.4, abs=0.2)


@given(points, tracks, st.floats(10.0, 5e6))
def test_a_moved_point_is_as_far_away_as_it_was_moved(start: Point, bearing: float, distance: float) -> None:
    """`move_point` and `compute_distance` agree, and so does a leg between both points."""
    end = move_point(start, bearing, distance)
    leg = StraightLeg(start, end)
    assert compute_distance(start, end) == pytest.approx(distance, rel=1e-6, abs=0.01)
    assert compute_distance(leg.locate(0.0).point, start) < 0.1
    assert compute_distance(leg.locate(leg.length).point, end) < 0.1
    assert abs(compute_turn(leg.locate(0.0).track, bearing)) < 0.1


@given(poses, tracks, st.floats(100.0, 30_000.0) | st.floats(20_000.0, 1.5e6), tracks)
def test_turns_lead_from_one_pose_to_the_other_without_a_jump(
    start: Pose, bearing: float, distance: float, track: float
) -> None:
    """Each leg begins where and as the one before ends; the first and the last touch the poses, however near."""
    end = Pose(*move_point(start.point, bearing, distance), track)
    legs = plan_turns(start, end, 3_500.0, 3_500.0)
    joints = [start, *(pose for leg in legs for pose in (leg.locate(0.0), leg.locate(leg.length))), end]
    for before, after in zip(joints[::2], joints[1::2], strict=True):
        assert compute_distance(before.point, after.point) < 20.0
        assert abs(compute_turn(before.track, after.track)) < 3.01


@given(poses, st.floats(5_000.0, 12_000.0), st.floats(8_000.0, 20_000.0), st.sampled_from([1.0, -1.0]))
def test_a_circuit_comes_back_to_its_line(start: Pose, ahead: float, back: float, sign: float) -> None:
    """It ends `back` metres behind its begin, in the direction of its begin, without a jump on its way."""
    path = Path(plan_circuit(start, ahead, back, 2_300.0, sign))
    steps = [path.locate(path.length * step / 500) for step in range(501)]
    assert compute_distance(steps[-1].point, move_point(start.point, start.track, -back)) < 30.0
    assert abs(compute_turn(steps[-1].track, start.track)) < 1.0
    for before, after in pairwise(steps):
        assert compute_distance(before.point, after.point) < path.length / 500 + 60.0


@given(poses, st.floats(1_000.0, 6_000.0))
def test_a_circle_ends_where_it_began(start: Pose, radius: float) -> None:
    """It begins at the pose, in its direction."""
    circle = plan_circle(start, radius)
    for distance in (0.0, circle.length):
        assert compute_distance(circle.locate(distance).point, start.point) < 1.0
        assert abs(compute_turn(circle.locate(distance).track, start.track)) < 0.01
