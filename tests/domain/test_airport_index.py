"""Tests of the index of airports that the pages' search reads."""

import gzip
import json

from hypothesis import given, strategies as st

from domain.airport_index import AirportSize, build_airport_index, load_sizes
from domain.airports import Airport, find_airport, read_airports
from local.airport_sizes import derive_sizes, read_runways

COLUMNS = ("icao", "iata", "name", "city", "country", "zone")
MOST_BYTES = 250_000
"""More would take long on a phone; it is 194 kB today."""


def test_the_index_holds_the_airports_that_people_look_for():
    """Each airport with an IATA code or a known runway is in it once, with what the table of airports says of it."""
    index = build_airport_index(read_airports(), load_sizes())
    rows = list(zip(*(index[column] for column in COLUMNS), strict=True))
    sizes = load_sizes()
    assert {row[0] for row in rows} == {each.icao for each in read_airports() if each.iata or each.icao in sizes}
    assert len({row[0] for row in rows}) == len(rows) > 9_000
    for icao, iata, name, city, country, zone in rows:
        known = find_airport(icao)
        assert known == Airport(icao, name, city, index["zones"][zone], iata, country)
    kennedy = rows[index["icao"].index("KJFK")]
    assert kennedy[:5] == ("KJFK", "JFK", "John F Kennedy International Airport", "New York", "US")


def test_the_best_known_airports_come_first():
    """All large airports come before all others; of London's, Heathrow and Gatwick are first."""
    index = build_airport_index(read_airports(), load_sizes())
    sizes = load_sizes()
    large = [icao in sizes and sizes[icao].kind == "l" for icao in index["icao"]]
    assert large == sorted(large, reverse=True)
    assert index["large"] == sum(large) > 300
    assert [icao for icao, name in zip(index["icao"], index["name"], strict=True) if name.startswith("London ")][
        :2
    ] == ["EGLL", "EGKK"]


def test_the_index_is_small_over_the_wire():
    """Compressed as servers do it, the index stays below 250 kB."""
    index = build_airport_index(read_airports(), load_sizes())
    text = json.dumps(index, ensure_ascii=False, separators=(",", ":")).encode()
    assert len(gzip.compress(text, 9)) < MOST_BYTES


def test_the_table_of_sizes_is_that_of_the_runways():
    """The committed table is what follows from the collector's runways; nothing in it is written by hand."""
    derived = {row["airport"]: AirportSize(row["kind"], int(row["runways_m"])) for row in derive_sizes(read_runways())}
    assert derived == load_sizes()


AIRPORTS = st.lists(
    st.builds(
        Airport,
        icao=st.text("ABC", min_size=4, max_size=4),
        name=st.text(max_size=3),
        city=st.text(max_size=3),
        time_zone=st.sampled_from(["UTC", "Europe/Rome", "Asia/Kathmandu"]),
        iata=st.sampled_from(["", "ABC"]),
        country=st.sampled_from(["IT", "NP"]),
    ),
    unique_by=lambda each: each.icao,
    max_size=8,
)
SIZES = st.dictionaries(
    st.text("ABC", min_size=4, max_size=4),
    st.builds(AirportSize, st.sampled_from("lms"), st.integers(0, 20_000)),
    max_size=20,
)


@given(AIRPORTS, SIZES, st.randoms())
def test_the_index_depends_on_the_airports_alone(airports, sizes, random):
    """The order of the table does not matter, no earlier airport is smaller than a later one, and nothing is lost."""
    index = build_airport_index(airports, sizes)
    shuffled = random.sample(airports, len(airports))
    assert build_airport_index(shuffled, sizes) == index
    assert set(index["icao"]) == {each.icao for each in airports if each.iata or each.icao in sizes}
    places = [
        ("lms".index(sizes[icao].kind), -sizes[icao].runways_m) if icao in sizes else (3, 0) for icao in index["icao"]
    ]
    assert places == sorted(places)
    assert index["large"] == sum(place[0] == 0 for place in places)
