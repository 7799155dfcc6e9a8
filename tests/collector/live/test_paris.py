"""The detector on an hour of real positions around Paris, whole and in parts."""

import pytest

from benchmarks.live_accuracy import PARIS, compare_recording
from collector.live.airfields import load_airfields


@pytest.mark.parametrize(
    ("step", "precision", "recall"),
    [(10, 0.97, 0.95), (30, 0.97, 0.95), (60, 0.97, 0.95), (90, 0.97, 0.9)],
)
def test_the_hour_is_counted(step: float, precision: float, recall: float) -> None:
    """Departures and arrivals each, at every interval at which an airport may be covered; none at a wrong airport."""
    scores = compare_recording(PARIS, step, load_airfields())
    for score in scores.values():
        assert score.precision >= precision, score.false
        assert score.recall >= recall, score.missed
        missed = {each.icao24 for each in score.missed}
        assert [each for each in score.false if each.icao24 in missed] == []
