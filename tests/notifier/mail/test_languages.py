"""Mails in each language: the same facts as in English, and no word of another language."""

import ast
import json
import re
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import timedelta
from email.message import EmailMessage
from functools import cache
from html import unescape
from pathlib import Path
from typing import Any, Final

import pytest
from babel import Locale
from hypothesis import given, strategies as st

from chassis.texts import LANGUAGES
from domain.alerts import Alert, AlertState, Bound
from domain.windows import Window
from notifier.mail import (
    Contact,
    InterestLinks,
    compose_alert_mail,
    compose_alerts_mail,
    compose_catch_up_mail,
    compose_confirmation_mail,
    compose_corrections_mail,
    compose_retired_mail,
    compose_sign_in_mail,
    compose_token_mail,
    compose_unheard_mail,
)
from notifier.mail.chart import MailChart, render_chart
from notifier.mail.texts import CATALOGUES, find_mail_texts
from tests.notifier.alerts import (
    ALERT,
    CAUSE,
    CONTACT,
    EARLIER,
    NOTICE,
    NOW,
    RETIRED,
    SENDER,
    a_day_at_five_airports,
    alerts,
    build_retired_notice,
    delivered,
)

_MAIL: Final = CATALOGUES.parent / "mail"
_TEMPLATES: Final = CATALOGUES.parent / "templates"
_NAME: Final = re.compile(r"\{(\w+)\}")
_KEY: Final = re.compile(r"[a-z_]+(?:\.[a-z0-9_]+)*")
_IN_TEMPLATE: Final = re.compile(r"""\bt\(((?:[^,()]|\([^)]*\))*)[,)]""")
_ID: Final = r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}"
_ZONES: Final = ("UTC", "Europe/Rome", "Asia/Kathmandu", "America/New_York", "Australia/Lord_Howe")


def load_catalogue(language: str) -> dict[str, Any]:
    """Return the catalogue of a language as it stands in its file. Fails if a key stands there twice."""

    def require_single(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        assert len({name for name, _ in pairs}) == len(pairs), "a key stands there twice"
        return dict(pairs)

    return dict(json.loads((CATALOGUES / f"{language}.json").read_text("utf-8"), object_pairs_hook=require_single))


def list_forms(entry: str | dict[str, str]) -> list[str]:
    """Return the texts of an entry: one, or one for each plural category."""
    return [entry] if isinstance(entry, str) else list(entry.values())


@pytest.mark.parametrize("language", LANGUAGES)
def test_each_catalogue_says_the_same_with_the_same_values(language: str) -> None:
    """The same keys in the same order, the same names in each form of each, and nothing that HTML would read."""
    english, other = load_catalogue("en"), load_catalogue(language)
    assert list(other) == list(english) == sorted(english)
    for key, entry in other.items():
        names = {frozenset(_NAME.findall(each)) - {"count"} for each in list_forms(entry)}
        assert names == {frozenset(_NAME.findall(each)) - {"count"} for each in list_forms(english[key])}, key
        assert isinstance(entry, str) is isinstance(english[key], str), key
        if isinstance(entry, str):
            assert set(_NAME.findall(entry)) == set(_NAME.findall(english[key])), key
        for form in list_forms(entry):
            assert not re.search(r"[<>&]", form), key
            assert form.strip() or key.startswith("date."), key


@pytest.mark.parametrize("language", LANGUAGES)
def test_each_text_with_plurals_has_each_category_of_the_language(language: str) -> None:
    """The categories are those of CLDR for whole numbers, and each but "one" states the number if another does."""
    categories = {*Locale.parse(language).plural_form.tags, "other"}
    found = 0
    for key, entry in load_catalogue(language).items():
        if isinstance(entry, str):
            continue
        found += 1
        assert entry.keys() == categories, key
        stated = {category: "{count}" in form for category, form in entry.items() if category != "one"}
        assert len(set(stated.values())) == 1, key
    assert found > 15


def list_asked_keys() -> Iterator[str]:
    """Yield each key that the code and the templates name, as a pattern: what is computed matches one part or more."""
    for path in _MAIL.glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.JoinedStr):
                yield "".join(
                    re.escape(str(each.value)) if isinstance(each, ast.Constant) else r"\w+" for each in node.values
                )
            elif isinstance(node, ast.Constant) and isinstance(node.value, str) and _KEY.fullmatch(node.value):
                yield re.escape(node.value)
    for path in _TEMPLATES.iterdir():
        for first in _IN_TEMPLATE.findall(path.read_text("utf-8")):
            parts = re.findall(r'"([^"]*)"', first)
            if "~" in first:
                yield re.escape(parts[0]) + "".join(f"(?:{re.escape(each)})?" for each in parts[1:])
            else:
                yield from map(re.escape, parts)


def test_every_text_is_asked_for_and_every_key_is_there() -> None:
    """Nothing stands in the catalogues in vain; each key in a template or in `texts.get` has a text."""
    catalogue, asked = load_catalogue("en"), set(list_asked_keys())
    known = re.compile("|".join(asked))
    assert [key for key in catalogue if not known.fullmatch(key)] == []
    literal = re.compile(r"""texts\.get\(\s*f?"([^"]*)\"""")
    for path in _MAIL.glob("*.py"):
        for key in literal.findall(path.read_text("utf-8")):
            pattern = re.compile(re.sub(r"\\\{.*?\\\}", r"[a-z0-9_]+", re.escape(key)))
            assert any(pattern.fullmatch(each) for each in catalogue), (path.name, key)
    for path in _TEMPLATES.iterdir():
        for first in _IN_TEMPLATE.findall(path.read_text("utf-8")):
            if "~" not in first:
                assert [key for key in re.findall(r'"([^"]*)"', first) if key not in catalogue] == [], path.name


def test_templates_hold_no_words_of_their_own() -> None:
    """The templates hold no words of their own, except the product's name: the catalogues have all."""
    for path in _TEMPLATES.iterdir():
        text = re.sub(
            r"&nbsp;|\{#.*?#\}|\{%.*?%\}|\{\{.*?\}\}|<style>.*?</style>|<[^>]*>", " ", path.read_text(), flags=re.S
        )
        text = re.sub(r"font-family.*?;|\b[a-z-]+:[^;]*;", " ", text) if path.name == "styles.html" else text
        assert set(re.findall(r"[A-Za-z]{2,}", text)) <= {"Towerwatch"}, path.name


def test_dates_of_italian_are_those_of_cldr() -> None:
    """The patterns in the catalogue are CLDR's own; the English ones are those that mails always had."""
    italian, catalogue = Locale.parse("it"), load_catalogue("it")
    assert catalogue["date.day"] == italian.datetime_skeletons["MMMEd"].pattern
    assert catalogue["date.day_year"] == italian.datetime_skeletons["yMMMEd"].pattern
    assert catalogue["date.full"] == italian.date_formats["long"].pattern
    assert catalogue["date.short"] == italian.datetime_skeletons["MMMd"].pattern


def read_subject_and_parts(mail: EmailMessage) -> tuple[str, str, str]:
    """Return a mail's subject, its text in one line, and its page without markup but with what images are."""
    read = delivered(mail)
    html = read.get_body(("html",)).get_content()
    alts = " ".join(re.findall(r'alt="([^"]*)"', html))
    page = re.sub(r"<style>.*?</style>|<[^>]*>", " ", html, flags=re.DOTALL)
    text = read.get_body(("plain",)).get_content()
    return str(read["Subject"]), " ".join(text.split()), " ".join(unescape(f"{page} {alts}").split())


_SEPARATORS: Final = {"en": (",", r"\."), "it": (r"\.", ",")}


@cache
def list_date_words(language: str) -> dict[str, str]:
    """Return a number for each name of a day or month, as mails write it: "fri" and "ven" are both D4."""
    locale, words = Locale.parse(language), {}
    for kind in ("abbreviated", "wide"):
        # A month that is written like a day ("mar") stands beside a day in each date: both are counted alike.
        words |= {name.lower(): f"M{at}" for at, name in locale.months["format"][kind].items()}
    for name in locale.days["format"]["abbreviated"].values():
        words.pop(name.lower(), None)
    return words


def collect_facts(text: str, language: str) -> Counter[str]:
    """Return what a text states that is no word: ids, links, times, numbers and months, each with how often."""
    facts: Counter[str] = Counter()

    def take(pattern: str, build: Callable[[str], str]) -> None:
        nonlocal text
        facts.update(build(each) for each in re.findall(pattern, text))
        text = re.sub(pattern, " ", text)

    thousands, decimal = _SEPARATORS[language]
    take(r"https?://\S+", str)
    take(_ID, str)
    take(r"\d\d:\d\d", str)
    take(
        rf"(?<!\w)\d{{1,3}}(?:{thousands}\d{{3}})+(?:{decimal}\d+)?(?!\d)|\d+(?:{decimal}\d+)?",
        lambda each: re.sub(decimal, "#", re.sub(thousands, "", each)),
    )
    words = list_date_words(language)
    facts.update(words[each] for each in re.findall(r"\w+", text.lower()) if words.get(each, "M3") not in ("M3", "M5"))
    facts.update(re.findall(r"\b(?:[A-Z]{4}|UTC)\b", text))
    return facts


def list_words(texts: str) -> set[str]:
    """Return the words of a text, in lower case; an apostrophe ends one."""
    return set(re.findall(r"[^\W\d_]{2,}", texts.lower()))


@cache
def list_foreign_words() -> frozenset[str]:
    """Return the words of English mails that are none of Italian ones."""

    def collect(language: str) -> set[str]:
        locale, entries = Locale.parse(language), load_catalogue(language)
        texts = [_NAME.sub(" ", form) for key in entries for form in list_forms(entries[key]) if "date." not in key]
        names = [*locale.months["format"]["abbreviated"].values(), *locale.days["format"]["abbreviated"].values()]
        return list_words(" ".join([*texts, *names, *locale.months["format"]["wide"].values()]))

    return frozenset(collect("en") - collect("it"))


_NAMES: Final = (
    "John F Kennedy International Airport", "Catania / Fontanarossa Airport", "London Heathrow Airport", "London",
    "New York", "Catania", "General Edward Lawrence Logan International Airport", "Boston", "Portland",
    "Beijing Capital International Airport", "Beijing", "Portland International Jetport Airport",
    "Manas International Airport", "Bishkek", "Lord Howe", "Lord_Howe", "New_York",
)  # fmt: skip


def assert_same_facts(english: EmailMessage, italian: EmailMessage) -> None:
    """Fail unless both mails state the same facts in each part, and the Italian one no English word."""
    assert delivered(english)["Message-ID"] == delivered(italian)["Message-ID"]
    assert (delivered(english)["Content-Language"], delivered(italian)["Content-Language"]) == (None, "it")
    for name in ("List-Unsubscribe", "X-Towerwatch-Alert", "References", "To"):
        assert delivered(english).get_all(name) == delivered(italian).get_all(name)
    for one, other in zip(read_subject_and_parts(english), read_subject_and_parts(italian), strict=True):
        # A list of states in a subject ends where it is too long, which is not the same word in both.
        is_cut = re.search(r" and [\d,]+ more \(| e (?:altri )?[\d.]+(?: altro)? \(", f"{one} {other}")
        compared = [
            re.sub(r"^.*(?=\([\d,.]+ (?:alerts|avvisi),)", "", each) if is_cut else each for each in (one, other)
        ]
        assert collect_facts(compared[0], "en") == collect_facts(compared[1], "it"), f"{one}\n{other}"
        for each in sorted(_NAMES, key=len, reverse=True):
            other = other.replace(each, " ")
        other = re.sub(rf"https?://\S+|{_ID}", " ", other)
        assert not list_words(other) & list_foreign_words() - {"local"}, other


def write(language: str, **changes: object) -> Contact:
    """Return a contact who reads this language."""
    return replace(CONTACT, language=language, **changes)  # type: ignore[arg-type]


_small_alerts = alerts.map(
    lambda alert: replace(
        alert,
        count=alert.count % 3_000,
        threshold=alert.threshold % 3_000,
        withdrawn_count=None if alert.withdrawn_count is None else alert.withdrawn_count % 3_000,
        revision=alert.revision % 2,
    )
)


@given(alert=_small_alerts | alerts, zone=st.sampled_from(_ZONES), ahead=st.integers(-2, 40))
def test_a_mail_about_one_alert_states_the_same(alert: Alert, zone: str, ahead: int) -> None:
    """In both languages, subject, text, page and chart state the same counts, thresholds, times and ids."""
    now = alert.window_start + timedelta(hours=ahead)
    english, italian = (
        compose_alert_mail(alert, write(each, time_zone=zone), SENDER, now, alert.window_end) for each in ("en", "it")
    )
    assert_same_facts(english, italian)


@given(
    given_alerts=st.lists(_small_alerts, min_size=1, max_size=6), zone=st.sampled_from(_ZONES), kind=st.integers(0, 2)
)
def test_mails_about_many_alerts_state_the_same(given_alerts: list[Alert], zone: str, kind: int) -> None:
    """Also the mail that comes late, and the mail of corrections."""
    links = {
        each.interest_id: InterestLinks("https://t.example/watch?i=1", "https://t.example/stop/1")
        for each in given_alerts[:2]
    }

    def compose(language: str) -> EmailMessage:
        contact = write(language, time_zone=zone, interest_links=links, unsubscribe_url="https://t.example/u")
        if kind == 0:
            return compose_alerts_mail(given_alerts, contact, SENDER, NOW, CAUSE)
        other = (compose_catch_up_mail, compose_corrections_mail)[kind - 1]
        return other(given_alerts, given_alerts, contact, SENDER, NOW, CAUSE)

    assert_same_facts(compose("en"), compose("it"))


@pytest.mark.parametrize("link", ["", "https://towerwatch.example/x"])
def test_mails_about_accounts_and_notices_state_the_same(link: str) -> None:
    """With and without the links that not every mail has."""
    urls = {
        "confirm_url": "https://t.example/c",
        "token_url": "https://t.example/t",
        "sign_in_url": "https://t.example/s",
    }
    former = build_retired_notice(ALERT.user_id, "UAFM")

    def compose(language: str) -> list[EmailMessage]:
        contact = write(language, stop_url=link, unsubscribe_url=link, **urls)
        account = (compose_confirmation_mail, compose_token_mail, compose_sign_in_mail)
        return [
            *(each(contact, "1", SENDER, NOW) for each in account),
            compose_unheard_mail(NOTICE, contact, SENDER, NOW),
            compose_unheard_mail(NOTICE, replace(contact, time_zone="UTC", name=""), SENDER, NOW),
            compose_retired_mail(RETIRED, contact, SENDER, NOW),
            compose_retired_mail(former, contact, SENDER, NOW),
            compose_retired_mail(build_retired_notice(ALERT.user_id, "0000"), contact, SENDER, NOW),
            compose_alerts_mail(a_day_at_five_airports(NOW), contact, SENDER, NOW, CAUSE),
        ]

    for english, italian in zip(compose("en"), compose("it"), strict=True):
        assert_same_facts(english, italian)


def test_an_english_word_in_an_italian_mail_is_found() -> None:
    """The check above has eyes: the words of English mails are foreign ones, those of both languages are not."""
    assert {"alert", "above", "departures", "hour", "usually", "fri", "confirm"} <= list_foreign_words()
    assert not {"towerwatch", "mail", "token", "utc", "nov", "link"} & list_foreign_words()
    english = compose_alert_mail(ALERT, write("en"), SENDER, NOW, CAUSE)
    with pytest.raises(AssertionError):
        assert_same_facts(english, english)
    assert collect_facts("1,200.5 at 01:00, 26 and 3", "en") == collect_facts("1.200,5 alle 01:00, 26 e 3", "it")
    assert collect_facts("Fri 8 Jan", "en") != collect_facts("ven 8 feb", "it")


@pytest.mark.parametrize(
    ("changes", "subject"),
    [
        ({}, "KJFK: 24 partenze, sopra 20, ven 8 feb 2013 00:00–01:00 UTC (gio 19:00 ora locale)"),
        ({"count": 1, "bound": Bound.LOW, "threshold": 8}, "KJFK: 1 partenza, sotto 8, ven 8 feb 2013 00:00–01:00 UTC"),
        ({"state": AlertState.RESOLVED, "count": 11}, "KJFK: di nuovo normale, 11 partenze, non sopra 20,"),
        (
            {"count": 12_000, "window": Window.ONE_DAY, "for_windows": 3},
            "KJFK: 12.000 partenze, sopra 20 per 3 giorni di fila, ven 8 feb 2013 UTC",
        ),
        (
            {"percent": 80, "doubled_usual": 53, "bound": Bound.LOW, "count": 4},
            "KJFK: insolitamente tranquillo, 4 partenze, di solito 26,5, ven 8 feb",
        ),
        (
            {"state": AlertState.WITHDRAWN, "withdrawn_count": 26},
            "KJFK: correzione, 24 partenze (non 26), non sopra 20,",
        ),
    ],
)
def test_subjects_in_italian(changes: dict[str, object], subject: str) -> None:
    """Plurals, separators and dates are Italian ones; no article stands before a number that may begin with a vowel."""
    mail = compose_alert_mail(replace(ALERT, **changes), write("it"), SENDER, NOW, CAUSE)  # type: ignore[arg-type]
    assert str(delivered(mail)["Subject"]).startswith(subject)


def test_italian_has_no_article_before_a_number_or_date() -> None:
    """It would be "l'" before 8, 11 and 80, and "il" before others: the wording needs none, in mails and pages."""
    pages = (Path(__file__).parents[3] / "web" / "texts" / "it.json").read_text("utf-8")
    for text in (pages, (CATALOGUES / "it.json").read_text("utf-8")):
        wrong = r"\b(?:il|al|dal|del|nel|sul|l’|all’|dall’|dell’) ?\{(?!email)\w+\}"
        assert re.findall(wrong, text) == []


@pytest.mark.parametrize("language", ["", "en", "xx", "it-IT", "../it"])
def test_a_language_without_a_catalogue_is_english(language: str) -> None:
    """An older user_manager names none, a newer one perhaps another: the mail is the same as in English."""
    given = replace(ALERT, earlier=EARLIER)
    other = compose_alert_mail(given, write(language), SENDER, NOW, CAUSE)
    assert other.as_bytes() == compose_alert_mail(given, write("en"), SENDER, NOW, CAUSE).as_bytes()


def test_charts_have_the_words_of_the_language() -> None:
    """The picture, too, and not the one that is cached for another language."""
    chart = MailChart((12, 24), 20, Bound.HIGH, (("00:00", ""), ("01:00", "")), ("UTC", ""))
    assert render_chart(replace(chart, language="it")) != render_chart(chart)
    assert find_mail_texts("it").get("chart.level", level="x") == "la tua soglia: x"
