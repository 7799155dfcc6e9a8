"""The catalogues of texts: both languages say everything, in the same form, and nothing else is asked for."""

import ast
import json
import re
import shutil
from pathlib import Path
from typing import Any, Final

import pytest
from babel import Locale

from chassis.texts import LANGUAGES, Texts
from user_manager.rest.texts import WEB, load_texts
from user_manager.rest.web_files import WebFiles

_REST: Final = WEB.parent / "user_manager" / "rest"
_GATEWAY: Final = WEB.parent / "local" / "gateway"
_SOURCES: Final = [
    *WEB.glob("*.html"),
    *(WEB / "static").glob("*.js"),
    *_REST.glob("*.py"),
    *_REST.glob("*/*.html"),
    *_GATEWAY.glob("*.py"),
]
_BY_STATUS: Final = re.compile(r"problem\.(\d{3}|other)")
_USE: Final = re.compile(r"""\b(?:t|translate)\(\s*["']([a-z_]+(?:\.[a-z0-9_]+)+)["']""")
_BUILT: Final = re.compile(r"`([a-z_]+\.[^`]*\$\{[^`]*)`")
"""A key that a script builds, such as `why.${reason}`."""
_PART: Final = re.compile(r"\$\{(?:[^{}]|\{[^{}]*\})*\}")
_KEY: Final = re.compile(r"[a-z_]+(?:\.[a-z0-9_]+)+")
_NAME: Final = re.compile(r"\{(\w+)\}")


def load_catalogue(language: str) -> dict[str, Any]:
    """Return the catalogue of a language as it stands in its file. Fails if a key stands there twice."""

    def require_single(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        assert len({name for name, _ in pairs}) == len(pairs), "a key stands there twice"
        return dict(pairs)

    text = (WEB / "texts" / f"{language}.json").read_text(encoding="utf-8")
    catalogue = json.loads(text, object_pairs_hook=require_single)
    assert isinstance(catalogue, dict)
    return catalogue


def list_forms(entry: str | dict[str, str]) -> list[str]:
    """Return the texts of an entry: one, or one for each plural category."""
    return [entry] if isinstance(entry, str) else list(entry.values())


def list_named_keys(path: Path, catalogue: dict[str, Any]) -> set[str]:
    """Return the texts in a Python file's code that are keys by their form, and begin as some key of the catalogue."""
    literals = (each.value for each in ast.walk(ast.parse(path.read_text("utf-8"))) if isinstance(each, ast.Constant))
    keys = {each for each in literals if isinstance(each, str) and _KEY.fullmatch(each)}
    beginnings = {key.partition(".")[0] for key in catalogue}
    return {each for each in keys if each.partition(".")[0] in beginnings and not each.endswith(".html")}


@pytest.mark.parametrize("language", LANGUAGES)
def test_keys_are_sorted_and_texts_are_written_with_care(language: str) -> None:
    """Sorted, so that two changes seldom meet. No straight apostrophe in Italian, no double blank, no empty text."""
    catalogue = load_catalogue(language)
    assert list(catalogue) == sorted(catalogue)
    for key, entry in catalogue.items():
        for text in list_forms(entry):
            assert text == text.strip() != "", key
            assert "  " not in text, key
            assert "<" not in text, f"{key}: texts are no HTML"
            assert language == "en" or "'" not in text, key


def test_an_italian_address_is_an_e_mail_address_and_a_message_is_a_mail() -> None:
    """Italian calls the address "indirizzo e-mail", and we call what is sent to it "mail", never "e-mail"."""
    for key, entry in load_catalogue("it").items():
        for text in list_forms(entry):
            assert not re.search(r"indirizzo mail|(?<!indirizzo )e-mail", text, re.IGNORECASE), key


def test_both_languages_have_the_same_keys_names_and_plurals() -> None:
    """Each name of a value in one language is in the other; plurals have the forms of whole numbers."""
    english, italian = (load_catalogue(language) for language in LANGUAGES)
    assert english.keys() == italian.keys()
    for key, entry in english.items():
        other = italian[key]
        assert isinstance(entry, str) is isinstance(other, str), key
        names = [set().union(*map(_NAME.findall, list_forms(each))) for each in (entry, other)]
        assert names[0] == names[1], key
        for each in (entry, other):
            if not isinstance(each, str):
                assert {"one", "other"} <= each.keys() <= {"zero", "one", "two", "few", "many", "other"}, key


def test_every_text_that_a_page_asks_for_is_there_and_no_other() -> None:
    """A key in HTML, a script or Python is in the catalogue; a key of the catalogue is asked for somewhere."""
    catalogue = load_catalogue("en")
    sources = {path: path.read_text(encoding="utf-8") for path in _SOURCES}
    asked = {(path.name, key) for path, text in sources.items() for key in _USE.findall(text)}
    assert len(asked) > 50
    assert [each for each in asked if each[1] not in catalogue] == []
    everything = "\n".join(sources.values())
    built = [re.compile("[a-z0-9_.]+".join(map(re.escape, _PART.split(key)))) for key in _BUILT.findall(everything)]
    unused = [
        key
        for key in catalogue
        if f'"{key}"' not in everything
        and not _BY_STATUS.fullmatch(key)
        and not any(each.fullmatch(key) for each in built)
    ]
    assert unused == []
    assert [each.pattern for each in built if not any(each.fullmatch(key) for key in catalogue)] == []


@pytest.mark.parametrize("language", LANGUAGES)
def test_every_key_that_python_names_is_in_each_catalogue(language: str) -> None:
    """Also one that stands in a table, and not beside the function that asks for it."""
    catalogue = load_catalogue(language)
    modules = [*_REST.glob("*.py"), _GATEWAY / "problems.py"]
    named = {(path.name, key) for path in modules for key in list_named_keys(path, catalogue)}
    assert {name for name, _ in named} >= {
        "pages.py",
        "sign_in_pages.py",
        "stop_pages.py",
        "interest_wording.py",
        "problems.py",
    }
    assert {key for _, key in named} >= {"link.interest.both", "link.problem.token", "link.stop.unavailable"}
    assert [each for each in named if each[1] not in catalogue] == []


def test_no_script_reads_a_text_as_html_or_as_a_program() -> None:
    """Names of people and airports may hold markup."""
    for path in (WEB / "static").glob("*.js"):
        text = path.read_text(encoding="utf-8")
        for hostile in (
            "innerHTML",
            "outerHTML",
            "insertAdjacentHTML",
            "document.write",
            "eval(",
            "new Function",
            "srcdoc",
        ):
            assert hostile not in text, (path.name, hostile)
        assert not re.search(r"https?://(?!www\.w3\.org/)", text), path.name
    for path in WEB.glob("*.html"):
        text = path.read_text(encoding="utf-8")
        assert not re.search(
            r"\son[a-z]+=|\sstyle=|<style(?!>\{\{ style \}\}<)|<script(?![^>]*\ssrc=)|\|\s*safe|http-equiv", text
        ), path.name


def test_plurals_and_numbers_are_those_of_the_language() -> None:
    """By CLDR: 1,234 in English and 1234 with a point in Italian from five figures on; 0 is plural in both."""
    english, italian = (
        Texts(language, {"n": {"one": "{count} x", "other": "{count} xx"}}) for language in ("en", "it")
    )
    assert [english.get("n", count=n) for n in (0, 1, 2, 12_345)] == ["0 xx", "1 x", "2 xx", "12,345 xx"]
    assert [italian.get("n", count=n) for n in (0, 1, 2, 12_345)] == ["0 xx", "1 x", "2 xx", "12.345 xx"]
    assert italian.get("n", count=1_000_000) == "1.000.000 xx", "the category `many` falls back to `other`"
    assert Locale.parse("it").plural_form(1_000_000) == "many"
    with pytest.raises(KeyError):
        english.get("n.unknown")
    with pytest.raises(KeyError):
        load_texts()["en"].get("link.next")


def test_the_digest_of_the_files_changes_with_each_of_them(tmp_path: Path) -> None:
    """An address of a file always has the same content: any change of any file moves all of them."""
    folder = tmp_path / "web"
    shutil.copytree(WEB, folder)
    versions = {WebFiles(folder=folder).version, WebFiles(folder=folder).version, WebFiles("/x", folder).version}
    assert versions == {WebFiles().version}
    for path in (folder / "static" / "dom.js", folder / "base.html", folder / "texts" / "it.json"):
        path.write_bytes(path.read_bytes() + b"\n")
        versions.add(WebFiles(folder=folder).version)
    versions.add(WebFiles(folder=folder, generated={"x.json": lambda: b"1"}).version)
    versions.add(WebFiles(folder=folder, generated={"x.json": lambda: b"2"}).version)
    assert len(versions) == 6
