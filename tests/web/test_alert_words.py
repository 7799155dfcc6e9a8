"""What an alert is in words: what was said, or which of the two things that can be said is taken back."""

from collections.abc import Iterator
from typing import Any, Final

import pytest
from playwright.sync_api import Browser, Page

from tests.web.site import Site
from tests.web.windows_answers import build_alert, build_interest

LANGUAGES: Final = ("en", "it")


@pytest.fixture(scope="module")
def pages(site: Site, browser: Browser) -> Iterator[dict[str, Page]]:
    """A page of each language that has loaded the module of words, and its texts."""
    with (
        site.open(browser, "/register", language="en") as english,
        site.open(browser, "/register", language="it") as italian,
    ):
        for visit in (english, italian):
            script = visit.page.locator("script[type=module]").get_attribute("src")
            assert script is not None
            visit.page.evaluate(
                "async (folder) => { window.words = await import(`${folder}/words.js`);"
                " await (await import(`${folder}/text.js`)).loadTexts(); }",
                script.rsplit("/", 1)[0],
            )
        yield {"en": english.page, "it": italian.page}


def describe(page: Page, alert: dict[str, Any], *, usual: float | None = None, **members: Any) -> str:
    """Return the words of an alert that an interest with these members raised."""
    interest = build_interest(**members)
    script = "([alert, interest, usual]) => words.describeAlert(alert, interest, {raisedBy: interest, usual})"
    return str(page.evaluate(script, [alert, interest, usual]))


def withdraw(state: str, **members: Any) -> dict[str, Any]:
    """Return an alert that takes back one of a state."""
    return build_alert(2, "withdrawn", **{"flights": 19, "withdrawn_state": state, **members})


@pytest.mark.parametrize(
    ("alert", "members", "english", "italian"),
    [
        pytest.param(
            withdraw("firing"),
            {},
            "We take back the alert above 20: 19 departures by what is known now.",
            "Ritiriamo l’avviso di traffico sopra la tua soglia (20): 19 partenze, per quanto si sa ora.",
            id="breach",
        ),
        pytest.param(
            withdraw("still", bound="low"),
            {"low_value": 5},
            "We take back the alert below 5: 19 departures by what is known now.",
            "Ritiriamo l’avviso di traffico sotto la tua soglia (5): 19 partenze, per quanto si sa ora.",
            id="breach that lasted",
        ),
        pytest.param(
            withdraw("resolved", flights=25),
            {},
            "We take back that it was no longer above 20: 25 departures by what is known now.",
            "Ritiriamo l’avviso che il traffico non era più sopra la tua soglia (20): 25 partenze,"
            " per quanto si sa ora.",
            id="end",
        ),
        pytest.param(
            withdraw("resolved", bound="low", flights=3),
            {"high_value": None, "low_percent": 50, "usual": 12.5},
            "We take back that it was no longer below 50 %: 3 departures by what is known now, where 12.5 are usual.",
            "Ritiriamo l’avviso che il traffico non era più sotto la tua soglia (50 %): 3 partenze,"
            " per quanto si sa ora, di solito 12,5.",
            id="end in percent",
        ),
        pytest.param(
            withdraw("firing"),
            {"high_value": None},
            "We take back this alert: 19 departures by what is known now.",
            "Ritiriamo questo avviso: 19 partenze, per quanto si sa ora.",
            id="breach of a level that is not known",
        ),
        pytest.param(
            withdraw("resolved", flights=None),
            {},
            "We take back that it was normal again.",
            "Ritiriamo l’avviso del ritorno alla normalità.",
            id="end without a number",
        ),
        pytest.param(
            withdraw("firing", flights=25),
            {"for_windows": 3},
            "We take back the alert above 20: 25 departures by what is known now. It takes 3 hours in a row.",
            "Ritiriamo l’avviso di traffico sopra la tua soglia (20): 25 partenze, per quanto si sa ora."
            " Servono 3 ore di fila.",
            id="breach of three hours in a row",
        ),
        pytest.param(
            build_alert(1, "firing"),
            {"for_windows": 3, "window": "6h"},
            "31 departures, above your 20. It was so 3 times six hours in a row.",
            "31 partenze, sopra la tua soglia (20). È stato così per 3 volte sei ore di fila.",
            id="three times six hours",
        ),
        pytest.param(
            build_alert(1, "still"),
            {"for_windows": 2, "window": "1d"},
            "31 departures, still above your 20. It was so for 2 days in a row.",
            "31 partenze, ancora sopra la tua soglia (20). È stato così per 2 giorni di fila.",
            id="two days",
        ),
        pytest.param(
            build_alert(1, "resolved", flights=12),
            {"for_windows": 3},
            "Back to normal: 12 departures, not above your 20.",
            "Di nuovo normale: 12 partenze, non sopra la tua soglia (20).",
            id="an end takes one window",
        ),
    ],
)
def test_an_alert_says_what_was_said_or_is_taken_back(
    pages: dict[str, Page], alert: dict[str, Any], members: dict[str, Any], english: str, italian: str
) -> None:
    """A withdrawn end is not a withdrawn breach, and of windows in a row it is said what they are."""
    usual = members.get("usual")
    interest = {name: value for name, value in members.items() if name != "usual"}
    assert describe(pages["en"], alert, usual=usual, **interest) == english
    assert describe(pages["it"], alert, usual=usual, **interest) == italian


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize("window", ["1h", "6h", "1d"])
@pytest.mark.parametrize("bound", ["high", "low"])
@pytest.mark.parametrize("measure", ["value", "percent"])
def test_each_kind_of_alert_has_words_of_its_own(
    pages: dict[str, Page], language: str, window: str, bound: str, measure: str
) -> None:
    """No text is missing, and no two kinds of alerts read alike, with a level and without."""
    alerts = [
        build_alert(1, state, bound=bound, withdrawn_state=withdrawn)
        for state, withdrawn in (
            ("firing", None),
            ("still", None),
            ("resolved", None),
            ("withdrawn", "firing"),
            ("withdrawn", "resolved"),
        )
    ]
    level = {"high_value": None, f"{bound}_{measure}": 50}
    for usual in (None, 12.5):
        for count in (1, 3):
            texts = {
                describe(pages[language], each, usual=usual, window=window, for_windows=count, **level)
                for each in alerts
            }
            assert len(texts) == len(alerts)
