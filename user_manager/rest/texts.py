"""Texts of the pages, in one catalogue per language, and the language of a visitor. Plurals and numbers by CLDR."""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Final

from babel import Locale
from babel.numbers import format_decimal
from flask import Response, request

LANGUAGES: Final[Mapping[str, str]] = {"en": "English", "it": "Italiano"}
"""The languages of the pages, by tag, each by its own name. The first is used where a visitor prefers none of them."""

WEB: Final = Path(__file__).parents[2] / "web"
"""The folder of the pages, beside the services' own."""

_LOCALES: Final = {"en": "en_GB"}
"""The country's variety of a language in which numbers and dates are written; of others that of the language alone."""

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
        locale, entry = _load_locale(self.language), self.entries[key]
        if not isinstance(entry, str):
            count = values["count"]
            if not isinstance(count, int | float):
                raise TypeError(f"{key} needs a number as count")
            entry = entry.get(locale.plural_form(count), entry["other"])
        return _NAME.sub(lambda name: _format_value(values[name[1]], locale), entry)


@cache
def _load_locale(language: str) -> Locale:
    """Return how a language writes numbers, and its plurals; read once."""
    return Locale.parse(_LOCALES.get(language, language))


def _format_value(value: object, locale: Locale) -> str:
    """Return a value as a text of the language has it: a number in its spelling, anything else as it is."""
    return format_decimal(value, locale=locale) if isinstance(value, int | float) else str(value)


@cache
def load_texts(folder: Path = WEB / "texts") -> Mapping[str, Texts]:
    """Return the texts of each language, read once from `<language>.json` in the folder."""
    return {tag: Texts(tag, json.loads((folder / f"{tag}.json").read_text("utf-8"))) for tag in LANGUAGES}


def translate(key: str, **values: object) -> str:
    """Return the text of a key in the language of the present request. Raises KeyError as `Texts.get` does."""
    return load_texts()[choose_language()].get(key, **values)


def choose_language() -> str:
    """Return the tag of the language of the present request.

    It is that of the query (`?language=it`), else of the cookie, else the one that the browser prefers.
    """
    for chosen in (request.args.get("language", ""), request.cookies.get(LANGUAGE_COOKIE, "")):
        if chosen in LANGUAGES:
            return chosen
    # Not best_match: it would prefer "en" to "it-IT" whatever their qualities, since only "en" matches to the letter.
    preferred = (tag.partition("-")[0].lower() for tag, quality in request.accept_languages if quality > 0)
    return next((tag for tag in preferred if tag in LANGUAGES), next(iter(LANGUAGES)))


def keep_chosen_language(response: Response) -> None:
    """Make the browser keep the language that the present request's query chooses, if it chooses one."""
    chosen = request.args.get("language", "")
    if chosen in LANGUAGES:
        lifetime = _COOKIE_LIFETIME_S
        response.set_cookie(LANGUAGE_COOKIE, chosen, max_age=lifetime, path="/", httponly=True, samesite="Lax")
