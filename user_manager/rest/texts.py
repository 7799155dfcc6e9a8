"""Texts of the pages, in one catalogue per language, and the language of a visitor."""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from flask import Response, request

LANGUAGES: Final[Mapping[str, str]] = {"en": "English", "it": "Italiano"}
"""The languages of the pages, by tag, each by its own name. The first is used where a visitor prefers none of them."""

LANGUAGE_COOKIE: Final = "language"
_COOKIE_LIFETIME_S: Final = 365 * 86_400

Entry = str | Mapping[str, str]
"""A text with {names} of values, or such a text for each plural category of CLDR, chosen by the value `count`."""

_NAME: Final = re.compile(r"\{(\w+)\}")


@dataclass(frozen=True, slots=True)
class Texts:
    """The texts of one language, by key."""

    language: str
    entries: Mapping[str, Entry]

    def get(self, key: str, **values: object) -> str:
        """Return the text of a key with its names replaced. Raises KeyError for an unknown key or a missing value."""
        entry = self.entries[key]
        if not isinstance(entry, str):
            # English and Italian have the form "one" for 1 alone; other categories fall back to "other".
            entry = entry["one" if values["count"] == 1 else "other"]
        return _NAME.sub(lambda name: str(values[name[1]]), entry)


def load_texts(folder: Path) -> dict[str, Texts]:
    """Return the texts of each language, read from `<language>.json` in the folder."""
    return {tag: Texts(tag, json.loads((folder / f"{tag}.json").read_text("utf-8"))) for tag in LANGUAGES}


def choose_language() -> str:
    """Return the tag of the language of the present request.

    It is that of the query (`?language=it`), else of the cookie, else the one that the browser prefers.
    """
    for chosen in (request.args.get("language", ""), request.cookies.get(LANGUAGE_COOKIE, "")):
        if chosen in LANGUAGES:
            return chosen
    return request.accept_languages.best_match(list(LANGUAGES)) or next(iter(LANGUAGES))


def keep_chosen_language(response: Response) -> None:
    """Make the browser keep the language that the present request's query chooses, if it chooses one."""
    chosen = request.args.get("language", "")
    if chosen in LANGUAGES:
        set_language_cookie(response, chosen)


def set_language_cookie(response: Response, language: str) -> None:
    """Make the browser keep a language."""
    response.set_cookie(LANGUAGE_COOKIE, language, max_age=_COOKIE_LIFETIME_S, path="/", httponly=True, samesite="Lax")
