"""`docs/reading.md` names only what exists, and docs and ADRs link only to files that exist."""

import ast
import re
from pathlib import Path
from typing import Final

import pytest

ROOT: Final = Path(__file__).parents[2]
READING: Final = ROOT / "docs" / "reading.md"

STOP: Final = re.compile(r"^\| (\d+) \| \[`([^`]+\.py)`\]\(\.\./([^)]+)\) \| (.+?) \| .+ \|$", re.MULTILINE)
"""A row of the table: its number, the file, the link to the file, and the names in backticks."""

LINK: Final = re.compile(r"\[[^\]]*\]\((?!https?://|#)([^)#\s]+)[^)]*\)")
"""A Markdown link to a file of this repository."""


def defined_names(path: Path) -> set[str]:
    """Return the names of all functions and classes in a file; of a method or nested class `Outer.name`."""
    names: set[str] = set()

    def visit(node: ast.AST, prefix: str) -> None:
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
                names.add(prefix + child.name)
                visit(child, f"{prefix}{child.name}." if isinstance(child, ast.ClassDef) else prefix)

    visit(ast.parse(path.read_text(encoding="utf-8")), "")
    return names


def test_every_stop_names_functions_that_exist() -> None:
    """There are eight to twelve stops, numbered in order, and each file defines each name that its row has."""
    stops = STOP.findall(READING.read_text(encoding="utf-8"))
    assert [int(number) for number, *_ in stops] == list(range(1, len(stops) + 1))
    assert 8 <= len(stops) <= 12
    for _, shown, linked, names in stops:
        assert shown == linked
        missing = set(re.findall(r"`([^`]+)`", names)) - defined_names(ROOT / shown)
        assert not missing, f"{shown} defines no {', '.join(sorted(missing))}"


@pytest.mark.parametrize(
    "page", ["README.md", "CONTRIBUTING.md", *sorted(f"docs/{p.name}" for p in (ROOT / "docs").glob("*.md"))]
)
def test_every_link_leads_to_a_file(page: str) -> None:
    """A link to a file of this repository works."""
    broken = [
        link
        for link in LINK.findall((ROOT / page).read_text(encoding="utf-8"))
        if not ((ROOT / page).parent / link).exists()
    ]
    assert not broken


def test_every_file_that_the_docs_name_exists() -> None:
    """Files of our packages that Markdown names in backticks exist, so that no move leaves a page behind."""
    named = re.compile(
        r"`((?:chassis|collector|domain|local|notifier|streams|user_manager|tests|benchmarks)/[\w/.-]+\.\w+)`"
    )
    pages = [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")]
    missing = {
        f"{page.relative_to(ROOT)}: {path}"
        for page in pages
        for path in named.findall(page.read_text(encoding="utf-8"))
        if not (ROOT / path).exists()
    }
    assert not missing
