"""Text that people type: what is blank to the eye is blank, and what a script needs stays as it is."""

import unicodedata

import pytest
from hypothesis import given, strategies as st

from chassis.text import clean_line, has_control_characters, is_blank

BLANK = [
    "", " ", "\u200b", "\u3164", "\u2800", "\u00ad", "\u3000", "\u00a0", "\u1680", "\u2007", "\u202f", "\u180e",
    "\u034f", "\u061c", "\u115f\u1160", "\uffa0", "\u17b4\u17b5", "\u200c", "\u200d", "\u200e\u200f", "\u202a\u202c",
    "\u202e", "\u2060", "\u2061\u2064", "\u2065", "\u2066\u2069", "\u206f", "\ufe0e", "\ufe0f", "\ufeff",
    "\ufff9\ufffb", "\ufffc", "\U000e0001", "\U000e0041\U000e007f", "\U000e0100", "\U000e01ef", "\U000e0fff",
    "\U0001d159", "\U0001d173", "\U0001bca0", "\U00013441", "\u0301", "\u0301\u0302\u20e3", "\u093e",
    "\u200b \u3164\u2800\u00ad", "\ufdd0", "\uffff",
]  # fmt: skip
"""Texts of which the eye sees nothing."""

VISIBLE = [
    "Ann", "-", "1", "Zoë", "Zoe\u0308", "王小明", "\u200bAnn", "🛫", "1\ufe0f\u20e3", "می\u200cخواهم", "क्\u200dष",
    "👩\u200d👩\u200d👧", "❤\ufe0f", "🏴\U000e0067\U000e0062\U000e0065\U000e006e\U000e0067\U000e007f", "א\u200fב",
    "葛\U000e0100", "\u1100\u1161\u11a8", "O’Neil", "\ue000", "ᠮᠣᠩᠭᠣᠯ\u180e", "Dvo\u00adřák", "ไทย\u200bไทย",
    "\U00011f04",
]  # fmt: skip
"""Names of which the eye sees something, and that a mail shows as they are."""


@pytest.mark.parametrize("text", BLANK, ids=ascii)
def test_what_the_eye_does_not_see_is_blank(text: str) -> None:
    """Whatever the character is called: a reader of "Hello ," sees a mistake. In a mail it is no name."""
    assert is_blank(text)
    assert clean_line(text) == ""


@pytest.mark.parametrize("text", VISIBLE, ids=ascii)
def test_what_a_script_needs_stays_as_it_is(text: str) -> None:
    """Joiners of Persian, of Indic scripts and of emoji, variation selectors, tags and marks are part of the name."""
    assert not is_blank(text)
    assert not has_control_characters(text)
    assert clean_line(text) == text


@pytest.mark.parametrize(
    "control", ["\r\n", "\x00", "\x1f", "\x7f", "\x85", "\u2028", "\u2029", "\ud800", "\t", "\x0b"]
)
def test_what_may_end_a_line_becomes_a_space(control: str) -> None:
    """Else a name could end a header and begin another."""
    assert has_control_characters(f"Ann{control}Bcc")
    assert clean_line(f"Ann{control}Bcc") == "Ann Bcc"


@pytest.mark.parametrize("control", [*"\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"], ids=ascii)
def test_no_name_reverses_what_follows(control: str) -> None:
    """An embedding, override or isolate is removed without a gap: phones put isolates around names."""
    assert clean_line(f"{control}An{control}n{control}") == "Ann"


@given(st.text())
def test_a_clean_line_is_one_line_and_clean(text: str) -> None:
    """Nothing of it ends a line, it has no blanks around it, and cleaning it once more changes nothing."""
    line = clean_line(text)
    assert len(line.splitlines()) <= 1
    assert line == line.strip() == clean_line(line)
    assert not has_control_characters(line)
    assert bool(line) is not is_blank(line)
    seen = [each for each in text if unicodedata.category(each)[0] in "LNPSM"]
    assert [each for each in line if unicodedata.category(each)[0] in "LNPSM"] == (seen if line else [])
