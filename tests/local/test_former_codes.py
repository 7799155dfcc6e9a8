"""The derivation of former codes: what older tables of airports have and the newest one has under another code."""

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from local.former_codes import AirportTable, FormerCodeRow, KnownAirport, derive_former_codes, load_table
from tests.service_process import ROOT

HEADER = "icao,iata,name,city,subd,country,elevation,lat,lon,tz,lid\n"


def airport(icao: str, iata: str = "", name: str = "Field", latitude: float = 43.06, longitude: float = 74.47):
    """Return an airport at Bishkek, unless said otherwise."""
    return icao, KnownAirport(icao, iata, name, latitude, longitude)


def table(version: str, *airports: tuple[str, KnownAirport]) -> AirportTable:
    """Return a table of `airportsdata` in a version; of OpenFlights without one."""
    return AirportTable(f"airportsdata {version}" if version else "OpenFlights airports.dat", version, dict(airports))


@pytest.mark.parametrize(
    ("old", "new", "current"),
    [
        (airport("UAFM", "FRU"), airport("UCFM", "FRU", "Manas"), "UCFM"),  # the same IATA code and place
        (airport("UAFM", "", "Manas"), airport("UCFM", "", "Manas"), "UCFM"),  # the same name and place
        (airport("UAFM", "", "MANAS"), airport("UCFM", "", "Manas"), "UCFM"),  # in other letters
        (airport("UAFM", "FRU"), airport("UCFM", "FRU", "x", 43.09, 74.50), "UCFM"),  # 4 km: a new runway
        (airport("UAFM", "FRU"), airport("UCFM", "FRU", "x", 43.16, 74.47), ""),  # 11 km: another airport
        (airport("LPCV", "COV"), airport("LTDB", "COV", "x", 36.9, 35.0), ""),  # the IATA code was given to another
        (airport("UAFM", "", "Field"), airport("UCFM", "", "Field", 10.0, 10.0), None),  # a common name elsewhere
        (airport("UAFM", "", "Manas"), airport("UCFM", "", "Osh"), None),  # neighbours
        (airport("EDDI", "THF", "Tempelhof"), airport("EDDB", "BER", "Berlin"), ""),  # closed: its name is kept
        (airport("UCFM", "FRU"), airport("UCFM", "FRU", "Manas"), None),  # still in use
        (airport("ZZZZ", "", "Pad"), airport("UCFM", "FRU", "Manas"), None),  # closed, and without airline traffic
        (airport("UAFX", "FRU", "Manas"), airport("UCFM", "", "Manas"), "UCFM"),  # the IATA code is gone, too
    ],
)  # fmt: skip
def test_a_former_code_is_of_the_same_airport(old, new, current: str | None) -> None:
    """The same IATA code or name, and at most five kilometres; None: no row, empty: a row with the name alone."""
    found = derive_former_codes([table("20200101", old), table("20260101", new)])
    assert [(each.former, each.current) for each in found] == ([] if current is None else [(old[0], current)])


def test_a_row_says_from_which_version_on_it_holds_and_where_it_comes_from() -> None:
    """The newest table with the former code is its source; versions that have neither or both do not count."""
    old, new = airport("UAFM", "FRU", "Manas"), airport("UCFM", "FRU", "Manas")
    tables = [table("20240101", new), table("20200101", old), table("20230101", old, new), table("20250101", new)]
    row = FormerCodeRow("UAFM", "UCFM", "Manas", "FRU", "0.0", "20240101", "airportsdata 20230101")
    assert derive_former_codes(tables) == [row]
    before = [table("", old), table("20240101", new)]
    assert [(each.since, each.source) for each in derive_former_codes(before)] == [
        ("20240101", "OpenFlights airports.dat")
    ]


def write_wheel(folder: Path, version: str, *rows: str) -> Path:
    """Write a wheel of `airportsdata` with these rows."""
    path = folder / f"airportsdata-{version}-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as wheel:
        wheel.writestr("airportsdata/airports.csv", HEADER + "".join(f"{row}\n" for row in rows))
    return path


def run_command(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    """Run the command, as README of the table says."""
    command = [sys.executable, "-m", "local.former_codes", *map(str, arguments)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=240, check=False)


def test_the_command_prints_the_table(tmp_path: Path) -> None:
    """From real files: wheels and a file of OpenFlights."""
    openflights = tmp_path / "airports.dat"
    openflights.write_text(
        '2912,"Manas International Airport","Bishkek","Kyrgyzstan","FRU","UAFM",43.06,74.47,2,6,"U","x","airport",""\n'
        '3,"No code","City","Land","\\N","\\N",1.0,2.0,0,0,"U","x","airport",""\n',
        encoding="utf-8",
    )
    newest = write_wheel(tmp_path, "20260101", "UCFM,FRU,Manas,Bishkek,,KG,2090,43.0613,74.4776,Asia/Bishkek,")
    assert load_table(openflights).airports.keys() == {"UAFM"}
    done = run_command(newest, openflights)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines() == [
        "former,current,name,iata,km,since,source",
        "UAFM,UCFM,Manas International Airport,FRU,0.6,20260101,OpenFlights airports.dat",
    ]


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ([], "name the tables to compare"),
        (["nowhere.whl"], "nowhere.whl is no wheel of airportsdata"),
        (["airportsdata-20260101-py3-none-any.whl"], "No such file"),
        (["uv.lock"], "a table cannot be read"),
    ],
)
def test_a_wrong_call_is_one_sentence(given: list[str], sentence: str) -> None:
    """It says what is wrong, and shows no stack trace."""
    done = run_command(*given)
    assert done.returncode == 1
    assert sentence in done.stderr
    assert "Traceback" not in done.stderr
