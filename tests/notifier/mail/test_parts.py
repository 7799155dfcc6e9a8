"""Bodies that are encoded line by line are the same as those that are encoded at once."""

import textwrap
from binascii import b2a_qp
from quopri import decodestring

from hypothesis import example, given, strategies as st

from notifier.mail.parts import encode_page, encode_text, fill_words

_lines = st.lists(
    st.text(st.characters(codec="utf-8", exclude_characters="\r\n"), max_size=120) | st.sampled_from((".", " ", "-- "))
)


@given(lines=_lines)
@example(lines=[".", " .", "x ", "=", "é" * 40, "x" * 76, "x" * 75 + " ", "\t"])
def test_a_page_is_encoded_as_if_at_once(lines: list[str]) -> None:
    """Without blank lines and indentation; what a line says does not depend on those around it."""
    html = "\n".join(lines)
    stripped = "\n".join(each.strip() for each in html.splitlines() if each.strip()) + "\n"
    expected = b2a_qp(stripped.encode()).decode() if stripped != "\n" else ""
    assert encode_page(html) == expected


@given(text=st.text(st.sampled_from("ab=. é\n-"), max_size=300))
@example(text="\n\nHello\n\n-- \n" + "word " * 40 + "\n.\n- " + "item " * 30)
def test_a_text_is_wrapped_and_encoded_line_by_line(text: str) -> None:
    """It has the same words, no line is longer than 76 characters, and it is encoded as if at once."""
    encoded = encode_text(text)
    read = decodestring(encoded.encode()).decode()
    assert read.split() == text.split()
    assert b2a_qp(read.encode()).decode() == encoded
    assert all(len(each) <= 76 or " " not in each.strip() for each in read.split("\n"))
    assert read.endswith("\n")


@given(words=st.lists(st.text("ab-—é,", min_size=1, max_size=90), min_size=1, max_size=40), indent=st.integers(0, 4))
def test_words_are_filled_as_textwrap_does(words: list[str], indent: int) -> None:
    """Also those that are longer than a line, and those that hold hyphens."""
    line, margin = " ".join(words), " " * indent
    wrapper = textwrap.TextWrapper(76, subsequent_indent=margin, break_long_words=False, break_on_hyphens=False)
    assert fill_words(line, margin) == wrapper.fill(line)
