"""A parser of the data-flow picture in README, "How it works": words connected by arrows of box characters."""

import re
from dataclasses import dataclass
from typing import Final

_UP, _DOWN, _LEFT, _RIGHT = (-1, 0), (1, 0), (0, -1), (0, 1)
_ENDS: Final = {
    "─": {_LEFT, _RIGHT},
    "│": {_UP, _DOWN},
    "┌": {_RIGHT, _DOWN},
    "┐": {_LEFT, _DOWN},
    "└": {_UP, _RIGHT},
    "┘": {_UP, _LEFT},
    "├": {_UP, _DOWN, _RIGHT},
    "┤": {_UP, _DOWN, _LEFT},
    "▶": {_LEFT, _RIGHT},
    "◀": {_LEFT, _RIGHT},
    "▲": {_UP, _DOWN, _LEFT, _RIGHT},
}
_POINTS: Final = {"▶": _RIGHT, "◀": _LEFT, "▲": _UP}
_WORD: Final = re.compile(r"\[[^\]]*\]|[A-Za-z_]+(?: [A-Za-z_]+)*")
_REMARK: Final = re.compile(r"\([^)]*\)")
_GAP: Final = 2
"""The most blanks between a line and a word."""


@dataclass(frozen=True)
class Arrow:
    """An arrow of the picture: the words at its tail and head, and the label on it."""

    tail: str
    head: str
    label: str


def parse_arrows(picture: str) -> set[Arrow]:
    """Return all arrows of the picture."""
    rows = [_REMARK.sub(lambda match: " " * len(match[0]), row) for row in picture.splitlines()]
    width = max(map(len, rows))
    grid = [list(row.ljust(width)) for row in rows]
    words: dict[tuple[int, int], str] = {}
    labels: dict[tuple[int, int], str] = {}
    for y, row in enumerate(rows):
        for match in _WORD.finditer(row):
            beside = row[max(match.start() - 1, 0) : match.start()] + row[match.end() : match.end() + 1]
            on_a_line = beside == "──"
            for x in range(*match.span()):
                (labels if on_a_line else words)[y, x] = match[0]
                if on_a_line:
                    grid[y][x] = "─"
    found: set[Arrow] = set()
    lines = {(y, x) for y, row in enumerate(grid) for x, each in enumerate(row) if each in _ENDS}
    while lines:
        line = _collect_line(next(iter(lines)), lines, grid)
        lines -= line
        found |= _build_arrows(line, grid, words, labels)
    return found


def _collect_line(start: tuple[int, int], lines: set[tuple[int, int]], grid: list[list[str]]) -> set[tuple[int, int]]:
    """Return all cells that are connected with `start`: neighbours whose ends point at each other."""
    line, pending = {start}, [start]
    while pending:
        y, x = pending.pop()
        for dy, dx in _ENDS[grid[y][x]]:
            if _POINTS.get(grid[y][x]) == (dy, dx) == _UP:
                continue  # an arrow's head crosses what it meets on the way to its word
            # A corner may be drawn one column beside what it meets.
            for there in ((y + dy, x + dx), *(((y + dy, x + aside) for aside in (-1, 1)) if dy else ())):
                if there in lines and (-dy, -dx) in _ENDS[grid[there[0]][there[1]]]:
                    if there not in line:
                        line.add(there)
                        pending.append(there)
                    break
    return line


def _build_arrows(
    line: set[tuple[int, int]],
    grid: list[list[str]],
    words: dict[tuple[int, int], str],
    labels: dict[tuple[int, int], str],
) -> set[Arrow]:
    """Return the arrows of one connected line: from each word at a tail to each word at a head."""
    heads, tails = set(), set()
    for y, x in line:
        for end in _ENDS[grid[y][x]]:
            if _POINTS.get(grid[y][x]) == end:
                if word := _find_word(y, x, end, words, line, far=end == _UP):
                    heads.add(word)
            elif grid[y][x] not in _POINTS and (word := _find_word(y, x, end, words, line, far=False)):
                tails.add(word)
    label = " ".join(sorted({labels[cell] for cell in line if cell in labels}))
    return {Arrow(tail, head, label) for tail in tails or heads for head in heads if tail != head}


def _find_word(
    y: int,
    x: int,
    end: tuple[int, int],
    words: dict[tuple[int, int], str],
    line: set[tuple[int, int]],
    far: bool,
) -> str | None:
    """Return the word at an end of a line, or None; `far`: other lines may be between the end and the word."""
    reach = 1 if end == _DOWN or (end == _UP and not far) else _GAP + 1
    for step in range(1, reach + 1):
        cell = (y + end[0] * step, x + end[1] * step)
        if cell in line:
            return None
        if cell in words:
            return words[cell]
    return None
