"""A chart of counts against a threshold, as a PNG: drawn here, so that no mail program has to fetch or run anything.

It stands on ground of its own, because nobody knows on which a mail program will show it, and in middle tones that
neither glare by night nor look faint by day. It has sixteen colours and is drawn in them: to find them in a picture of
all colours takes as long as the rest, and with half a byte for a pixel it is packed in half of the time.
"""

from dataclasses import dataclass
from functools import cache, lru_cache
from io import BytesIO
from typing import Final, assert_never

from PIL import Image, ImageColor, ImageDraw, ImageFont

from domain.alerts import Bound
from notifier.mail.wording import level, number

WIDTH: Final = 560
"""In a page's pixels; twice as many in the picture, for screens that show them."""
HEIGHT: Final = 216

_SCALE: Final = 2
_SIDE: Final = 18
_LEFT: Final = 62
"""Room for the names of the two clocks."""
_TOP: Final = 62
"""Room for the threshold's name, and for the number on the highest bar."""
_ROW: Final = 18
_LEAST_BAR: Final = 2
"""A window without flights is to be seen, too."""
_WIDEST_BAR: Final = 44
_GAP: Final = 0.28
"""Of a window's width."""
_LABEL: Final = 16
_SMALL: Final = 14
_FAR: Final = 2.5
"""A threshold so many times above all counts would flatten them: it is drawn at the upper edge."""

_STEPS: Final = 4
"""From the ground to a colour of letters, whose edges are smooth."""
_GROUND, _TEXT, _FAINT, _PAST, _BAR, _RULE = 0, _STEPS, 2 * _STEPS, 3 * _STEPS, 3 * _STEPS + 1, 3 * _STEPS + 2
"""Places in the palette; those of letters are the last of their steps."""
_GROUND_COLOUR: Final = "#1b2430"
_LETTERS: Final = ("#e8edf3", "#9dabbc")
_SHAPES: Final = ("#8195ad", "#333f4f")
_SHADES: Final = (_TEXT, _FAINT)
"""Of the two clocks."""


@dataclass(frozen=True, slots=True)
class Chart:
    """What is to be drawn: one bar for each window."""

    counts: tuple[int | None, ...]
    """At least one; None: not known."""
    threshold: int
    bound: Bound
    labels: tuple[tuple[str, str], ...]
    """Of each window two short lines: the time by UTC, and on the reader's clock (or nothing)."""
    clocks: tuple[str, str]
    """What the two lines are: "UTC" and "local", or nothing."""


@lru_cache(maxsize=2048)  # people who are told of the same airport have the same chart, mostly
def drawn(chart: Chart) -> bytes:
    """The chart as PNG, WIDTH by HEIGHT in pixels of a page; some 8 kB."""
    image = Image.new("L", (WIDTH * _SCALE, HEIGHT * _SCALE), _GROUND)
    _Sheet(image, chart).draw()
    image.putpalette(_palette(chart.bound))
    file = BytesIO()
    image.save(file, "PNG", compress_level=6)  # to pack a tenth more takes several times as long
    return file.getvalue()


@cache
def _breach_colour(bound: Bound) -> str:
    """Return the colour of counts that breach a threshold of this bound."""
    match bound:
        case Bound.HIGH:
            return "#ff9b5e"
        case Bound.LOW:
            return "#62b5ff"
        case _:
            assert_never(bound)


def _palette(bound: Bound) -> bytes:
    """Red, green and blue of each place."""
    ground = ImageColor.getrgb(_GROUND_COLOUR)
    steps = [
        round(from_ground + (to_letter - from_ground) * step / _STEPS)
        for colour in (*_LETTERS, _breach_colour(bound))
        for step in range(1, _STEPS + 1)
        for from_ground, to_letter in zip(ground, ImageColor.getrgb(colour), strict=True)
    ]
    return bytes([*ground, *steps, *(part for colour in _SHAPES for part in ImageColor.getrgb(colour))])


class _Sheet:
    """Measures are in a page's pixels."""

    def __init__(self, image: Image.Image, chart: Chart) -> None:
        self._image = image
        self._draw = ImageDraw.Draw(image)
        self._chart = chart
        known = [each for each in chart.counts if each is not None]
        highest = max(known, default=0)
        self._is_far = chart.threshold > max(highest, 1) * _FAR
        self._top_value = max(highest, 1) * 1.25 if self._is_far else max(highest, chart.threshold, 1) * 1.06
        self._base = HEIGHT - 12 - _ROW * (2 if chart.clocks[1] else 1)
        self._step = (WIDTH - _LEFT - _SIDE) / len(chart.counts)

    def draw(self) -> None:
        self._threshold()
        for at, count in enumerate(self._chart.counts):
            self._bar(at, count)
        self._line(_LEFT, self._base, WIDTH - _SIDE, self._base, _RULE)
        self._numbers()
        self._times()

    def _bar(self, at: int, count: int | None) -> None:
        width = min(self._step * (1 - _GAP), _WIDEST_BAR)
        middle = self._middle(at)
        if count is None:
            self._text(middle, self._base - 11, "?", _SMALL, _FAINT, "mm")
            return
        past = self._chart.bound.is_breached(count, self._chart.threshold)
        top = min(self._y(count), self._base - _LEAST_BAR)
        self._draw.rounded_rectangle(
            [self._px(middle - width / 2), self._px(top), self._px(middle + width / 2) - 1, self._px(self._base) - 1],
            radius=self._px(min(3, (self._base - top) / 2)),
            corners=(True, True, False, False),
            fill=_PAST if past else _BAR,
        )

    def _threshold(self) -> None:
        y = _TOP - 24 if self._is_far else self._y(self._chart.threshold)
        x = float(_LEFT)
        while x < WIDTH - _SIDE:
            self._line(x, y, min(x + 5, WIDTH - _SIDE), y, _PAST)
            x += 9
        far = ", far up" if self._is_far else ""
        limit = f"your level: {level(self._chart.bound, self._chart.threshold)}{far}"
        self._text(WIDTH - _SIDE, 20, limit, _LABEL, _PAST, "rm")

    def _numbers(self) -> None:
        """The counts, on as many bars as have room for them, the last first."""
        shown = [number(each) if each is not None else "" for each in self._chart.counts]
        font = _font(_LABEL)
        widest = max(font.getlength(each) for each in shown) / _SCALE
        every = max(-(-(widest + 4) // self._step), 1)
        last = len(shown) - 1
        for at, text in enumerate(shown):
            count = self._chart.counts[at]
            if count is None or (last - at) % every:
                continue
            x, y = self._within(self._middle(at), text), min(self._y(count), self._base - _LEAST_BAR) - 11
            half = font.getlength(text) / _SCALE / 2 + 1
            # On ground of its own, where the threshold's line runs through it.
            self._draw.rectangle(
                [self._px(x - half), self._px(y - 7), self._px(x + half), self._px(y + 7)], fill=_GROUND
            )
            past = self._chart.bound.is_breached(count, self._chart.threshold)
            self._text(x, y, text, _LABEL, _PAST if past else _TEXT, "mm")

    def _times(self) -> None:
        font = _font(_SMALL)
        widest = max(font.getlength(text) for label in self._chart.labels for text in label) / _SCALE
        every = max(-(-(widest + 12) // self._step), 1)
        last = len(self._chart.labels) - 1
        for at, label in enumerate(self._chart.labels):
            if (last - at) % every:
                continue
            for row, text in enumerate(label):
                x = self._within(self._middle(at), text, _SMALL)
                self._text(x, self._row(row), text, _SMALL, _SHADES[row], "mm")
        for row, name in enumerate(self._chart.clocks):
            self._text(_SIDE, self._row(row), name, _SMALL, _SHADES[row], "lm")

    def _row(self, row: int) -> float:
        return self._base + 14 + _ROW * row

    def _y(self, value: float) -> float:
        return self._base - (self._base - _TOP) * value / self._top_value

    def _middle(self, at: int) -> float:
        return _LEFT + self._step * (at + 0.5)

    def _within(self, x: float, text: str, size: int = _LABEL) -> float:
        """Where the middle of a text must be, so that all of it is on the sheet."""
        half = _font(size).getlength(text) / _SCALE / 2
        return min(max(x, _LEFT + half), WIDTH - _SIDE - half)

    def _line(self, x1: float, y1: float, x2: float, y2: float, colour: int) -> None:
        self._draw.line([self._px(x1), self._px(y1), self._px(x2), self._px(y2)], fill=colour, width=_SCALE)

    def _text(self, x: float, y: float, text: str, size: int, colour: int, anchor: str) -> None:
        if text:
            letters = _letters(text, size, colour, anchor)
            self._image.paste(letters.shades, (self._px(x) + letters.left, self._px(y) + letters.top), letters.where)

    def _px(self, value: float) -> int:
        return round(value * _SCALE)


@dataclass(frozen=True, slots=True)
class _Letters:
    """A text, ready to be put on a sheet."""

    shades: Image.Image
    """Places in the palette."""
    where: Image.Image
    """Not the ground."""
    left: int
    """Pixels from the point where the text is to stand, by its anchor."""
    top: int


@lru_cache(maxsize=4096)  # the same hours and small numbers again and again
def _letters(text: str, size: int, colour: int, anchor: str) -> _Letters:
    left, top, right, bottom = map(round, _font(size).getbbox(text, anchor=anchor))
    ink = Image.new("L", (right - left, bottom - top))
    ImageDraw.Draw(ink).text((-left, -top), text, 255, _font(size), anchor)
    steps = [round(strength * _STEPS / 255) for strength in range(256)]
    shades = ink.point([colour - _STEPS + step if step else _GROUND for step in steps])
    return _Letters(shades, ink.point([255 if step else 0 for step in steps]), left, top)


@cache
def _font(size: int) -> ImageFont.FreeTypeFont:
    """The font that Pillow brings along. Raises RuntimeError where Pillow was built without FreeType."""
    font = ImageFont.load_default(size * _SCALE)
    if not isinstance(font, ImageFont.FreeTypeFont):
        raise RuntimeError("Pillow draws no text of any size: it was built without FreeType")
    return font
