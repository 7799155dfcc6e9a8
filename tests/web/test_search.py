"""The search for airports as one types: what is found, in what order, in a real browser on the index that is served."""

import json
import re
from collections.abc import Callable, Iterator

import pytest
from hypothesis import HealthCheck, given, settings, strategies as st
from playwright.sync_api import Browser, Page

from domain.airports import find_airport, read_airports
from tests.web.site import Person, Site

Search = Callable[[str], list[str]]


@pytest.fixture(scope="module")
def searching(site: Site, browser: Browser) -> Iterator[Page]:
    """A page that has loaded the search and the index as the pages do."""
    with site.open(browser, "/register") as visit:
        script = visit.page.locator("script[type=module]").get_attribute("src")
        assert script is not None
        folder = script.rsplit("/", 1)[0]
        visit.page.evaluate(
            """async (folder) => {
              const search = await import(`${folder}/search.js`);
              const index = search.prepareIndex(await (await fetch(`${folder}/airports.json`)).json());
              window.find = (typed, limit) => search.searchAirports(index, typed, limit).map((each) => each.icao);
              window.countEdits = search.countPrefixEdits;
              window.fold = search.fold;
              window.known = index.entries.map((each) => each.icao);
            }""",
            folder,
        )
        yield visit.page


@pytest.fixture
def search(searching: Page) -> Search:
    return lambda typed: searching.evaluate("(typed) => window.find(typed, 8)", typed)


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        ("kenn", "KJFK"),
        ("Kennedy", "KJFK"),
        ("jfk", "KJFK"),
        ("KJFK", "KJFK"),
        ("kjf", "KJFK"),
        ("new york ken", "KJFK"),
        ("  Heathrow ", "EGLL"),
        ("london", "EGLL"),
        ("charles de gaulle", "LFPG"),
        ("catania", "LICC"),
        ("LICC", "LICC"),
        ("malp", "LIMC"),
        ("tokyo", "RJTT"),
    ],
)
def test_an_airport_is_found_by_city_name_and_code(search: Search, typed: str, meant: str) -> None:
    """Whatever is typed of it, in any case, the best known airport that is called so comes first."""
    assert search(typed)[0] == meant


@pytest.mark.parametrize(
    ("typed", "meant"),
    [("kenedy", "KJFK"), ("kennedt", "KJFK"), ("heatrow", "EGLL"), ("lodnon", "EGLL"), ("charles de gaule", "LFPG"),
     ("fontanarosa", "LICC"), ("sao paolo", "SBGR"), ("fiumcino", "LIRF")],
)  # fmt: skip
def test_typing_errors_are_forgiven(search: Search, typed: str, meant: str) -> None:
    """A letter too few, too many, a wrong one, or two in the wrong order: the airport is found all the same."""
    assert search(typed)[0] == meant


@pytest.mark.parametrize(
    ("typed", "plain"),
    [
        ("São Paulo", "sao paulo"),
        ("zürich", "zurich"),
        ("ARNAVUTKÖY", "arnavutkoy"),
        ("Łódź", "lodz"),
        ("Tromsø", "tromso"),
    ],
)
def test_letters_with_marks_are_those_without(searching: Page, search: Search, typed: str, plain: str) -> None:
    """Marks make no difference, neither in what is typed nor in the names."""
    assert searching.evaluate("(text) => window.fold(text)", typed) == plain
    assert search(typed) == search(plain) != []


def test_an_exact_code_comes_before_all_that_begins_so(search: Search) -> None:
    """Three letters that are an IATA code mean it, else words; letters that begin ICAO codes find these, too."""
    assert search("rom")[0] == "LIRF"
    assert search("ord")[0] == "KORD"
    assert "EGLL" in search("EGL")


@pytest.mark.parametrize(
    "typed", ["", "   ", "?!", "<script>", "zzzzqqqq", "'; DROP TABLE--", "\u202e", "😀", "x" * 10_000]
)
def test_what_is_no_airport_finds_few_or_none_and_breaks_nothing(search: Search, typed: str) -> None:
    """Hostile and senseless texts give a list of airports that exist, mostly an empty one."""
    assert all(find_airport(icao) is not None for icao in search(typed))


def test_every_code_of_the_index_finds_its_airport_first(searching: Page) -> None:
    """Each ICAO code, and each IATA code, leads to its airport: none is out of reach."""
    codes = {each.icao: each.icao for each in read_airports()} | {
        each.iata: each.icao for each in read_airports() if each.iata
    }
    asked = [code for at, code in enumerate(sorted(codes)) if at % 40 == 0]
    found = searching.evaluate("(codes) => codes.map((code) => window.find(code, 1)[0] ?? null)", asked)
    in_index = set(searching.evaluate("() => window.known"))
    wrong = [
        (code, icao) for code, icao in zip(asked, found, strict=True) if codes[code] in in_index and icao != codes[code]
    ]
    assert wrong == []
    assert len(asked) > 500


def model_edits(token: str, word: str) -> int:
    """Return the least number of edits (optimal string alignment) from a token to a beginning of a word, slowly."""

    def edits(one: str, other: str) -> int:
        rows = [[0] * (len(other) + 1) for _ in range(len(one) + 1)]
        for i in range(len(one) + 1):
            for j in range(len(other) + 1):
                if min(i, j) == 0:
                    rows[i][j] = i + j
                    continue
                rows[i][j] = min(
                    rows[i - 1][j] + 1, rows[i][j - 1] + 1, rows[i - 1][j - 1] + (one[i - 1] != other[j - 1])
                )
                if i > 1 and j > 1 and one[i - 1] == other[j - 2] and one[i - 2] == other[j - 1]:
                    rows[i][j] = min(rows[i][j], rows[i - 2][j - 2] + 1)
        return rows[-1][-1]

    return min(edits(token, word[:length]) for length in range(len(word) + 1))


WORDS = st.text("abc", min_size=1, max_size=7)


@settings(deadline=None, max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(pairs=st.lists(st.tuples(WORDS, WORDS, st.integers(0, 2)), min_size=1, max_size=40))
def test_edits_are_counted_as_a_slow_model_counts_them(searching: Page, pairs: list[tuple[str, str, int]]) -> None:
    """The number is the model's up to the most that is asked for, and one more above it."""
    counted = searching.evaluate(
        "(pairs) => pairs.map(([one, other, most]) => window.countEdits(one, other, most))", pairs
    )
    assert counted == [min(model_edits(token, word), most + 1) for token, word, most in pairs]


def test_the_field_works_by_keyboard_and_says_what_it_finds(site: Site, browser: Browser, ann: Person) -> None:
    """Typing opens the list, arrows move in it, Escape closes it, Enter takes the airport; readers hear the number."""
    with site.open(browser, "/watch", person=ann) as visit:
        page = visit.page
        field = page.get_by_role("combobox", name="Airport")
        field.focus()
        page.keyboard.type("kenn")
        page.wait_for_selector("[role=option]")
        assert field.get_attribute("aria-expanded") == "true"
        assert field.get_attribute("aria-activedescendant") is None  # so that the first arrow takes the first one
        assert page.locator("[role=option][aria-selected=true]").count() == 0
        assert re.search(r"\d+ airports found", page.locator(".search [role=status]").text_content() or "")
        for key, expected in (("ArrowDown", "airport-0"), ("ArrowDown", "airport-1"), ("ArrowUp", "airport-0")):
            page.keyboard.press(key)
            assert page.locator("[role=option][aria-selected=true]").get_attribute("id") == expected
            assert field.get_attribute("aria-activedescendant") == expected
        assert "Use the code" not in (page.locator("[role=listbox]").text_content() or "")
        page.keyboard.press("Escape")
        assert not page.locator("[role=listbox]").is_visible()
        page.keyboard.press("ArrowDown")
        page.wait_for_selector("[role=option]")
        page.keyboard.press("Enter")
        assert field.input_value() == "New York (JFK)"
        assert not page.locator("[role=listbox]").is_visible()
        assert visit.faults == []


def test_names_with_markup_are_shown_as_they_are(site: Site, browser: Browser, ann: Person) -> None:
    """A table of airports that somebody has tampered with runs no script in the pages."""
    evil = '<img src=x onerror="window.hurt=1">'
    index = {
        "large": 1, "zones": ["UTC"], "icao": ["KJFK"], "iata": ["JFK"], "name": [evil], "city": [evil],
        "country": ["<b"], "zone": [0],
    }  # fmt: skip
    with site.open(browser, "/account", person=ann) as visit:
        visit.page.route(
            "**/airports.json", lambda route: route.fulfill(body=json.dumps(index), content_type="application/json")
        )
        visit.goto("/watch")
        visit.page.fill("#airport", "img")
        visit.page.wait_for_selector("[role=option]")
        assert evil in (visit.page.locator("[role=option]").text_content() or "")
        assert visit.page.evaluate("window.hurt") is None
        assert visit.page.locator("[role=option] img").count() == 0
