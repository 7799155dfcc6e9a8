"""Reads the picture of what flows (README, "How it works"): boxes are words, arrows are drawn with box characters."""

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
"""Blanks that may stand between a line and a word."""


@dataclass(frozen=True)
class Flow:
    """An arrow: what is at its tail, what is at its head, and what is written on it."""

    tail: str
    head: str
    label: str


def flows(picture: str) -> set[Flow]:
    """Every arrow of the picture."""
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
    found: set[Flow] = set()
    lines = {(y, x) for y, row in enumerate(grid) for x, each in enumerate(row) if each in _ENDS}
    while lines:
        line = _connected(next(iter(lines)), lines, grid)
        lines -= line
        found |= _arrows(line, grid, words, labels)
    return found


def _connected(start: tuple[int, int], lines: set[tuple[int, int]], grid: list[list[str]]) -> set[tuple[int, int]]:
    """All cells that hang together with `start`: each has an end where the other one has."""
    line, look = {start}, [start]
    while look:
        y, x = look.pop()
        for dy, dx in _ENDS[grid[y][x]]:
            if _POINTS.get(grid[y][x]) == (dy, dx) == _UP:
                continue  # an arrow's head crosses what it meets on the way to its word
            # A corner may be drawn one column beside what it meets.
            for there in ((y + dy, x + dx), *(((y + dy, x + aside) for aside in (-1, 1)) if dy else ())):
                if there in lines and (-dy, -dx) in _ENDS[grid[there[0]][there[1]]]:
                    if there not in line:
                        line.add(there)
                        look.append(there)
                    break
    return line


def _arrows(
    line: set[tuple[int, int]],
    grid: list[list[str]],
    words: dict[tuple[int, int], str],
    labels: dict[tuple[int, int], str],
) -> set[Flow]:
    heads, tails = set(), set()
    for y, x in line:
        for end in _ENDS[grid[y][x]]:
            if _POINTS.get(grid[y][x]) == end:
                if word := _word_at(y, x, end, words, line, far=end == _UP):
                    heads.add(word)
            elif grid[y][x] not in _POINTS and (word := _word_at(y, x, end, words, line, far=False)):
                tails.add(word)
    label = " ".join(sorted({labels[cell] for cell in line if cell in labels}))
    return {Flow(tail, head, label) for tail in tails or heads for head in heads if tail != head}


def _word_at(
    y: int,
    x: int,
    end: tuple[int, int],
    words: dict[tuple[int, int], str],
    line: set[tuple[int, int]],
    far: bool,
) -> str | None:
    """The word at an end of a line, if it is one; a head that points up may have other lines in between."""
    reach = 1 if end == _DOWN or (end == _UP and not far) else _GAP + 1
    for step in range(1, reach + 1):
        cell = (y + end[0] * step, x + end[1] * step)
        if cell in line:
            return None
        if cell in words:
            return words[cell]
    return None
