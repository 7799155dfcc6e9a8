"""The derivation of the table of runways from OurAirports' tables."""

import gzip
import sys
from pathlib import Path

import pytest

from local import runways
from local.runways import derive_runways, write_table

AIRPORT = {"ident": "LFPO", "type": "large_airport", "elevation_ft": "291"}
RUNWAY = {
    "airport_ident": "LFPO", "closed": "0", "surface": "CON",
    "le_ident": "06", "le_latitude_deg": "48.72", "le_longitude_deg": "2.31692",
    "he_ident": "24", "he_latitude_deg": "48.7355", "he_longitude_deg": "2.36068",
}  # fmt: skip
ROW = {
    "airport": "LFPO", "elevation_ft": "291", "type": "l",
    "le": "06", "le_lat": "48.72", "le_lon": "2.31692", "he": "24", "he_lat": "48.7355", "he_lon": "2.36068",
}  # fmt: skip


@pytest.mark.parametrize(
    ("airport", "runway", "expected"),
    [
        ({}, {}, [ROW]),
        ({"ident": "FR-0001", "icao_code": "LFPO"}, {"airport_ident": "FR-0001"}, [ROW]),
        ({"ident": "FR-0001"}, {"airport_ident": "FR-0001"}, []),
        ({"type": "heliport"}, {}, []),
        ({"type": "closed"}, {}, []),
        ({"elevation_ft": ""}, {}, []),
        ({}, {"closed": "1"}, []),
        ({}, {"surface": "WATER"}, []),
        ({}, {"le_ident": "H1"}, []),
        ({}, {"le_ident": "06H"}, []),
        ({}, {"le_latitude_deg": ""}, []),
        ({}, {"he_latitude_deg": "48.72", "he_longitude_deg": "2.31692"}, []),
        ({}, {"he_latitude_deg": "49.72"}, []),
    ],
)
def test_a_runway_needs_two_thresholds_at_an_airport_with_a_code(
    airport: dict[str, str], runway: dict[str, str], expected: list[dict[str, str]]
) -> None:
    """Helipads, closed and water runways, and lines that are too short or too long are left out."""
    assert list(derive_runways([AIRPORT | airport], [RUNWAY | runway])) == expected


def test_the_same_rows_give_the_same_file() -> None:
    """The compressed file holds no time, so that only a change of the data changes it."""
    assert write_table([ROW]) == write_table([ROW])
    assert gzip.decompress(write_table([ROW])).decode().splitlines()[1].startswith("LFPO,291,l,06,48.72,")


def test_a_table_that_lacks_a_column_is_refused_with_one_sentence(tmp_path: Path) -> None:
    """The two files given the wrong way round are such tables."""
    (tmp_path / "airports.csv").write_text(",".join(AIRPORT) + "\n")
    (tmp_path / "runways.csv").write_text("a,b\n1,2\n")
    with pytest.raises(SystemExit) as ended:
        runways.main([str(tmp_path / "runways.csv"), str(tmp_path / "airports.csv"), str(tmp_path / "out")])
    assert "a table lacks the column" in str(ended.value)
    assert not (tmp_path / "out").exists() or sys.platform == "win32"
