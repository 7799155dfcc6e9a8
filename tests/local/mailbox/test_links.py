"""Links in plain text."""

import pytest
from hypothesis import given, strategies as st

from local.mailbox.links import MAX_LINK_LENGTH, split_links


def find_links(text: str) -> list[str]:
    """Return the links of a text."""
    return [piece.text for piece in split_links(text) if piece.is_link]


@pytest.mark.parametrize(
    ("text", "links"),
    [
        ("See https://example.org/c?t=a.b-c.", ["https://example.org/c?t=a.b-c"]),
        ("(http://example.org/a_(b))", ["http://example.org/a_(b)"]),
        ("<https://example.org/>, HTTPS://EXAMPLE.ORG/!", ["https://example.org/", "HTTPS://EXAMPLE.ORG/"]),
        ("http://127.0.0.1:8520/confirm/x.y_z\nBye", ["http://127.0.0.1:8520/confirm/x.y_z"]),
        ('"https://example.org/"onmouseover="alert(1)', ["https://example.org/"]),
        ("https://münchen.example/ä", ["https://münchen.example/ä"]),
        ("a text of http:// and https://... only", []),
        ("https://example.org/" + "a" * MAX_LINK_LENGTH, []),
        ("xhttps://example.org/", []),
    ],
)
def test_a_link_ends_where_a_reader_sees_its_end(text: str, links: list[str]) -> None:
    """Full stops, quotes and closing brackets behind a link do not belong to it; brackets inside do."""
    assert find_links(text) == links


@pytest.mark.parametrize(
    "text",
    [
        "javascript:alert(1)",
        "JaVaScRiPt:alert(1)//http:/",
        "data:text/html,<script>alert(1)</script>",
        "vbscript:x file:///etc/passwd ftp://example.org/ //example.org/",
        "java\nscript:alert(1)",
    ],
)
def test_no_other_scheme_is_a_link(text: str) -> None:
    """Only http and https open a page."""
    assert find_links(text) == []


@given(
    st.lists(
        st.sampled_from(
            ["https://", "http://", "e.org", "/", ")", "(", "[", "]", ".", " ", "\n", "<", '"', "javascript:"]
        )
    )
)
def test_the_pieces_are_the_text(parts: list[str]) -> None:
    """Nothing is lost or added, and each link begins with its scheme and has no white space, quote or angle bracket."""
    text = "".join(parts)
    pieces = split_links(text)
    assert "".join(piece.text for piece in pieces) == text
    for piece in pieces:
        assert piece.text
        if piece.is_link:
            assert piece.text.startswith(("http://", "https://"))
            assert not set(piece.text) & set(" \n<>\"'")
