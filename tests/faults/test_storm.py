"""The whole stack in a storm: all comes out exactly as the brute-force model of the rule says of the timetable."""

from pathlib import Path

import pytest

from tests.faults.storm.run import StormOptions, StormRun
from tests.mariadb_fixture import require_installed

pytestmark = [pytest.mark.faults, pytest.mark.timeout(2_400)]


@pytest.mark.parametrize(
    ("seed", "database"),
    [
        pytest.param(16, "mariadb", marks=pytest.mark.mariadb),
        pytest.param(17, "sqlite", marks=pytest.mark.long),
    ],
)
def test_a_storm_of_the_whole_stack_comes_out_exact(seed: int, database: str, tmp_path: Path) -> None:
    """Two of each service, broker, database, mail server and source are killed, frozen and misled by a seeded schedule.

    Every alert that the flights of a week call for is raised and mailed in one mail, and no other: none after a
    deletion, none of an interest that was removed. Only a mail itself may come twice, under its Message-ID. In the
    end interests are in step, everything is acknowledged, `verify` finds no difference, and no log has a stack trace.
    Repeat it, or run other seeds, with `python -m tests.faults.storm`.
    """
    if database == "mariadb":
        require_installed()
    report = StormRun(StormOptions(seed, database=database), tmp_path).run()
    assert not report.problems, report.describe()
    print(report.summarize())
