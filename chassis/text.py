"""Text that people type, such as names: whether the eye sees any of it, and what of it a line of a mail can hold."""

import unicodedata
from typing import Final

_VISIBLE_CATEGORIES: Final = frozenset("LNPS")
"""First letters of Unicode's general categories with shapes of their own: letters, numbers, punctuation, symbols.

A mark (M) needs a letter below it, a separator (Z) is blank, and a format character (Cf) has no shape.
"""

_BLANK_LETTERS_AND_SYMBOLS: Final = frozenset(
    "\u115f\u1160\u3164\uffa0"  # Hangul fillers
    "\u2800"  # the braille pattern without dots
    "\ufffc"  # the place of an object that is not there
    "\U00013441\U00013442"  # blanks of Egyptian hieroglyphs
    "\U0001d159"  # the musical notehead without a shape
)

_RESERVED_FOR_INVISIBLE: Final = ((0x2060, 0x206F), (0xFFF0, 0xFFF8), (0xE0000, 0xE0FFF))
"""Ranges in which unassigned characters are to be shown as nothing (Unicode, Default_Ignorable_Code_Point)."""

_DIRECTION_CONTROLS: Final = dict.fromkeys((*range(0x202A, 0x202F), *range(0x2066, 0x206A)))
"""Embeddings, overrides and isolates (UAX 9, 2): without their end they reverse what follows; for `str.translate`.

The marks U+200E, U+200F and U+061C are not among them: they concern only what is next to them, and names need them.
"""

_LINE_BREAKING_CATEGORIES: Final = frozenset(("Cc", "Cs", "Zl", "Zp"))
"""Controls, halves of surrogate pairs, separators of lines and of paragraphs."""


def is_blank(text: str) -> bool:
    """Return True if the eye sees nothing of a text, False if at least one of its characters can be seen.

    Spaces, format characters, fillers, variation selectors and combining marks without a letter are not seen.
    """
    return not any(_is_visible(character) for character in text)


def _is_visible(character: str) -> bool:
    """Return True if a character has a shape of its own, False if it is blank or belongs to another character."""
    category = unicodedata.category(character)
    if category[0] in _VISIBLE_CATEGORIES:
        return character not in _BLANK_LETTERS_AND_SYMBOLS
    if category == "Co":
        return True
    if category == "Cn":  # a letter newer than Python's data, or no character at all
        code = ord(character)
        is_noncharacter = code & 0xFFFE == 0xFFFE or 0xFDD0 <= code <= 0xFDEF
        is_reserved = any(first <= code <= last for first, last in _RESERVED_FOR_INVISIBLE)
        return not (is_noncharacter or is_reserved or character in _BLANK_LETTERS_AND_SYMBOLS)
    return False


def has_control_characters(text: str) -> bool:
    """Return True if a text has characters that may end a line, or that are no text: controls, lone surrogates."""
    return any(unicodedata.category(character) in _LINE_BREAKING_CATEGORIES for character in text)


def clean_line(text: str) -> str:
    """Return a text as one line that cannot end a header or reverse the writing direction of what follows.

    Characters of `has_control_characters` and runs of blanks become one space; controls of the writing direction are
    removed. All else stays as it is: joiners, variation selectors and tags, which scripts and emoji need. A text of
    which the eye sees nothing becomes empty.
    """
    kept = "".join(
        " " if unicodedata.category(character) in _LINE_BREAKING_CATEGORIES else character
        for character in text.translate(_DIRECTION_CONTROLS)
    )
    return "" if is_blank(kept) else " ".join(kept.split())
