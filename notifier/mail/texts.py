"""Texts of mails, in one catalogue per language."""

from pathlib import Path
from typing import Final

from chassis.texts import DEFAULT_LANGUAGE, Texts, load_catalogues

CATALOGUES: Final = Path(__file__).parents[1] / "texts"
"""The folder with the catalogue of each language."""


def find_mail_texts(language: str) -> Texts:
    """Return the texts of the language with this tag; English for a tag without a catalogue, also for the empty one."""
    catalogues = load_catalogues(CATALOGUES)
    return catalogues.get(language) or catalogues[DEFAULT_LANGUAGE]
