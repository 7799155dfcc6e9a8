"""Texts in several languages, one catalogue per language. Plurals, numbers and dates by CLDR, which Babel knows."""

import json
import re
from collections.abc import Mapping
from datetime import date
from functools import cache, lru_cache
from pathlib import Path
from typing import Final

from babel import Locale
from babel.dates import format_date
from babel.numbers import format_decimal

LANGUAGES: Final[Mapping[str, str]] = {"en": "English", "it": "Italiano"}
"""The languages of pages and mails, by tag, each by its own name."""

DEFAULT_LANGUAGE: Final = "en"
"""The language of whoever has chosen none, or one that is not in LANGUAGES."""

Entry = str | Mapping[str, str]
"""A text with {names} of values, or such a text for each plural category of CLDR, chosen by the value `count`."""

_NUMBERS: Final = (int, float)
_BRACES: Final = re.compile(r"\{\w+\}|[{}]")


class Texts:
    """The texts of one language, by key."""

    def __init__(self, language: str, entries: Mapping[str, Entry]) -> None:
        """Create the texts of a language, a tag of LANGUAGES. Raises ValueError for a brace that encloses no name."""
        self.language: Final = language
        self.entries: Final = entries
        self._fixed: Final = {key: each for key, each in entries.items() if isinstance(each, str) and "{" not in each}
        for key, entry in entries.items():
            for text in [entry] if isinstance(entry, str) else entry.values():
                if any(len(each) == 1 for each in _BRACES.findall(text)):
                    raise ValueError(f"a brace of the text {key} encloses no name of a value")

    def get(self, key: str, **values: object) -> str:
        """Return the text of a key with its names replaced; numbers are written as the language writes them.

        Raises KeyError for an unknown key or a missing value, TypeError if a text with plurals has no number as count.
        """
        if not values and key in self._fixed:
            return self._fixed[key]
        entry = self.entries[key]
        if not isinstance(entry, str):
            count = values["count"]
            if not isinstance(count, _NUMBERS):
                raise TypeError(f"{key} needs a number as count")
            entry = entry.get(_find_plural_category(self.language, count), entry["other"])
        for name, value in values.items():
            if type(value) is not str:
                values[name] = self.format_number(value) if isinstance(value, _NUMBERS) else str(value)
        return entry.format_map(values)

    def format_number(self, number: int | float) -> str:
        """Return a number as the language writes it, with three decimals at most: "1,200.5", "1.200,5"."""
        return _format_number(self.language, number)

    def format_date(self, day: date, key: str) -> str:
        """Return a date as the pattern says that stands under `key`, in the letters of CLDR: "EEE d MMM" is ven 8 feb.

        Raises KeyError for an unknown key.
        """
        pattern = self.entries[key]
        if not isinstance(pattern, str):
            raise TypeError(f"{key} has plurals, which a date has not")
        return _format_date(self.language, day.year, day.month, day.day, pattern)


@cache
def load_catalogues(folder: Path) -> Mapping[str, Texts]:
    """Return the texts of each language, read once from `<language>.json` in the folder."""
    return {tag: Texts(tag, json.loads((folder / f"{tag}.json").read_text("utf-8"))) for tag in LANGUAGES}


@cache
def _load_locale(language: str) -> Locale:
    """Return how a language writes numbers and dates, and its plurals; some megabytes, read at the first use."""
    return Locale.parse(language)


@lru_cache(maxsize=4096)  # Babel needs some 20 µs, and a mail has a dozen numbers
def _format_number(language: str, number: int | float) -> str:
    return format_decimal(number, locale=_load_locale(language))


@lru_cache(maxsize=4096)
def _find_plural_category(language: str, count: int | float) -> str:
    return _load_locale(language).plural_form(count)


@lru_cache(maxsize=4096)
def _format_date(language: str, year: int, month: int, day: int, pattern: str) -> str:
    return format_date(date(year, month, day), pattern, _load_locale(language))
