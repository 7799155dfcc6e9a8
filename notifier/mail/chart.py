"""A bar chart of counts against a threshold, as a PNG inside the mail: no mail program has to fetch or run anything.

The chart has a background of its own, since a mail program may show any, and middle tones that are readable in light
and dark mode. It is drawn in a palette of sixteen colours: reducing a full-colour image to a palette would take as long
as the drawing, and half a byte for a pixel is compressed in half of the time.
"""

from dataclasses import dataclass
from functools import cache, lru_cache
from io import BytesIO
from typing import Final, assert_never

from PIL import Image, ImageColor, ImageDraw, ImageFont

from chassis.texts import DEFAULT_LANGUAGE
from domain.alerts import Bound
from domain.measures import convert_to_flights
from domain.usual import LEAST_DOUBLED_USUAL
from notifier.mail.texts import find_mail_texts
from notifier.mail.wording import format_level

WIDTH: Final = 560
"""Pixels of the HTML page; the image has twice as many, for screens of high resolution."""
HEIGHT: Final = 216

_SCALE: Final = 2
_SIDE_MARGIN: Final = 18
_LEFT_MARGIN: Final = 62
"""Space for the names of the two rows of time labels."""
_TOP_MARGIN: Final = 62
"""Space for the threshold's label, and for the count above the highest bar."""
_LABEL_ROW_HEIGHT: Final = 18
_MIN_BAR_HEIGHT: Final = 2
"""A window without flights is visible, too."""
_MAX_BAR_WIDTH: Final = 44
_OUTLINE: Final = 3
"""Width of the outline of a hollow bar, in pixels of the image."""
_LEGEND_GAP: Final = 14
_BAR_GAP: Final = 0.28
"""The space between two bars, as a part of a window's width."""
_LARGE_FONT: Final = 16
_SMALL_FONT: Final = 14
_FAR_FACTOR: Final = 2.5
"""A threshold more than this many times above all counts is drawn at the upper edge: to scale it flattens all bars."""

_SHADES_PER_COLOUR: Final = 4
"""Shades between the background and a text colour, for smooth edges of letters."""
_GROUND: Final = 0
_TEXT: Final = _SHADES_PER_COLOUR
_FAINT: Final = 2 * _SHADES_PER_COLOUR
_BREACH: Final = 3 * _SHADES_PER_COLOUR
_BAR: Final = _BREACH + 1
_RULE: Final = _BREACH + 2
_USUAL_EDGE: Final = _BREACH + 3
"""Indices in the palette; the index of a text colour is that of its strongest shade."""
_GROUND_COLOUR: Final = "#1b2430"
_TEXT_COLOURS: Final = ("#e8edf3", "#9dabbc")
_SHAPE_COLOURS: Final = ("#8195ad", "#333f4f", "#6b7c92")
_LABEL_COLOURS: Final = (_TEXT, _FAINT)
"""The palette indices of the two rows of time labels."""


@dataclass(frozen=True, slots=True)
class MailChart:
    """The content of a chart: one bar for each window, a threshold, and what is usual if that is in percent."""

    counts: tuple[int | None, ...]
    """At least one count; None: not known."""
    threshold: int
    bound: Bound
    labels: tuple[tuple[str, str], ...]
    """For each window two short texts: its time in UTC, and in the reader's time zone (or empty)."""
    label_rows: tuple[str, str]
    """The names of the two rows of time labels: "UTC", and "local" or empty."""
    percent: int | None = None
    """The threshold in percent of what is usual; then `threshold` is not drawn. None: it is in flights."""
    usual: tuple[int | None, ...] = ()
    """With `percent`: for each window twice the usual count; None: nothing is usual there, or not known."""
    language: str = DEFAULT_LANGUAGE
    """Tag of the language of its words."""
    live: tuple[bool, ...] = ()
    """For each window True if the record may correct it, because it is known from positions alone. Empty: none is."""

    def list_levels(self) -> list[int | None]:
        """Return for each window the flights beyond which it is in breach; None: it is not judged."""
        percent = self.percent
        if percent is None:
            return [self.threshold] * len(self.counts)
        return [
            None if each is None or each < LEAST_DOUBLED_USUAL else convert_to_flights(self.bound, percent, each)
            for each in self.usual
        ]


@lru_cache(maxsize=2048)  # users with alerts about the same airport mostly have the same chart
def render_chart(chart: MailChart) -> bytes:
    """Draw a chart, and return it as a PNG of 2 WIDTH by 2 HEIGHT pixels, some 8 kB; cached by the chart's content."""
    image = Image.new("L", (WIDTH * _SCALE, HEIGHT * _SCALE), _GROUND)
    _ChartPainter(image, chart).draw()
    image.putpalette(_build_palette(chart.bound))
    file = BytesIO()
    image.save(file, "PNG", compress_level=6)  # to pack a tenth more takes several times as long
    return file.getvalue()


def _get_breach_colour(bound: Bound) -> str:
    """Return the colour of the threshold, and of counts in breach: orange for a high bound, blue for a low one."""
    match bound:
        case Bound.HIGH:
            return "#ff9b5e"
        case Bound.LOW:
            return "#62b5ff"
        case _:
            assert_never(bound)


@cache
def _build_palette(bound: Bound) -> bytes:
    """Return the image's palette: red, green and blue of each index, from 0.

    The background; then the shades of each text colour, from weak to strong; then the colours of bars and base line.
    The colour of breaches depends on the bound.
    """
    ground = ImageColor.getrgb(_GROUND_COLOUR)
    steps = [
        round(from_ground + (to_letter - from_ground) * step / _SHADES_PER_COLOUR)
        for colour in (*_TEXT_COLOURS, _get_breach_colour(bound))
        for step in range(1, _SHADES_PER_COLOUR + 1)
        for from_ground, to_letter in zip(ground, ImageColor.getrgb(colour), strict=True)
    ]
    return bytes([*ground, *steps, *(part for colour in _SHAPE_COLOURS for part in ImageColor.getrgb(colour))])


class _ChartPainter:
    """Draws one chart on an image: computes the scale from the chart's counts and threshold when created, then draws.

    Positions and sizes are in the page's pixels, of which the image has `_SCALE` times as many; colours are palette
    indices.
    """

    def __init__(self, image: Image.Image, chart: MailChart) -> None:
        self._image = image
        self._canvas = ImageDraw.Draw(image)
        self._chart = chart
        self._texts = find_mail_texts(chart.language)
        self._levels = chart.list_levels()
        self._usual = [each / 2 for each in chart.usual if each is not None]
        highest = max([*(each for each in chart.counts if each is not None), *self._usual], default=0)
        level = max((each for each in self._levels if each is not None), default=0)
        self._level_left = float(WIDTH)  # the left edge of the level's name; the legend must end before it
        self._is_far = level > max(highest, 1) * _FAR_FACTOR
        self._top_value = max(highest, 1) * 1.25 if self._is_far else max(highest, level, 1) * 1.06
        self._base = HEIGHT - 12 - _LABEL_ROW_HEIGHT * (2 if chart.label_rows[1] else 1)
        self._step = (WIDTH - _LEFT_MARGIN - _SIDE_MARGIN) / len(chart.counts)

    def draw(self) -> None:
        """Draw the whole chart, each part over those before it: usual, level, bars, base line, counts, time labels.

        The level of each window, in percent, is drawn over the bars: it is not the same height behind all of them.
        """
        if self._chart.percent is None:
            self._draw_threshold()
        else:
            self._draw_usual()
        for at, count in enumerate(self._chart.counts):
            self._draw_bar(at, count)
        if self._chart.percent is not None:
            self._draw_levels()
        self._draw_line(_LEFT_MARGIN, self._base, WIDTH - _SIDE_MARGIN, self._base, _RULE)
        self._draw_counts()
        self._draw_time_labels()
        self._draw_live_legend()

    def _draw_bar(self, at: int, count: int | None) -> None:
        """Draw the bar of the window at this index, in the colour of breaches if its count breaches the threshold.

        A bar is at least two pixels high, so that a count of 0 is visible. An unknown count is a question mark. The bar
        of a live window without a breach is hollow.
        """
        width = min(self._step * (1 - _BAR_GAP), _MAX_BAR_WIDTH)
        middle = self._bar_middle(at)
        if count is None:
            self._draw_text(middle, self._base - 11, "?", _SMALL_FONT, _FAINT, "mm")
            return
        past = self._is_breached(at)
        top = min(self._count_y(count), self._base - _MIN_BAR_HEIGHT)
        is_hollow = bool(self._chart.live) and self._chart.live[at] and not past
        self._canvas.rounded_rectangle(
            [
                self._to_pixels(middle - width / 2),
                self._to_pixels(top),
                self._to_pixels(middle + width / 2) - 1,
                self._to_pixels(self._base) - 1,
            ],
            radius=self._to_pixels(min(3, (self._base - top) / 2)),
            corners=(True, True, False, False),
            fill=None if is_hollow else _BREACH if past else _BAR,
            outline=_BAR if is_hollow else None,
            width=_OUTLINE,
        )

    def _draw_threshold(self) -> None:
        """Draw the threshold as a dashed line at its height, and its label "your level: above 20" at the upper right.

        The line of a threshold far above all counts is at the upper edge, and its label adds "far up".
        """
        y = _TOP_MARGIN - 24 if self._is_far else self._count_y(self._chart.threshold)
        x = float(_LEFT_MARGIN)
        while x < WIDTH - _SIDE_MARGIN:
            self._draw_line(x, y, min(x + 5, WIDTH - _SIDE_MARGIN), y, _BREACH)
            x += 9
        self._draw_level_name(format_level(self._texts, self._chart.bound, self._chart.threshold))

    def _draw_level_name(self, level: str) -> None:
        """Draw the name of the level at the upper right, with "far up" if it is far above all counts."""
        text = self._texts.get("chart.level.far" if self._is_far else "chart.level", level=level)
        self._draw_text(WIDTH - _SIDE_MARGIN, 20, text, _LARGE_FONT, _BREACH, "rm")
        self._level_left = WIDTH - _SIDE_MARGIN - _load_font(_LARGE_FONT).getlength(text) / _SCALE

    def _draw_usual(self) -> None:
        """Draw behind each bar, as wide as its window, a field as high as the usual count; and draw the legend."""
        for at, doubled in enumerate(self._chart.usual):
            if doubled is not None:
                x, y = _LEFT_MARGIN + self._step * at, self._count_y(doubled / 2)
                self._fill_field(x, y, x + self._step, self._base)
                self._draw_line(x, y, x + self._step, y, _USUAL_EDGE)
        if self._usual:
            self._fill_field(_LEFT_MARGIN, 14, _LEFT_MARGIN + 16, 26)
            self._draw_line(_LEFT_MARGIN, 14, _LEFT_MARGIN + 16, 14, _USUAL_EDGE)
            self._draw_text(_LEFT_MARGIN + 22, 20, self._texts.get("chart.usual"), _LARGE_FONT, _FAINT, "lm")

    def _draw_live_legend(self) -> None:
        """Draw what a hollow bar means, at the upper left beside the legend of what is usual, if there is room."""
        if not any(live and not self._is_breached(at) for at, live in enumerate(self._chart.live)):
            return
        text, left, font = self._texts.get("chart.live"), float(_LEFT_MARGIN), _load_font(_LARGE_FONT)
        if self._usual and self._chart.percent is not None:
            left += 22 + font.getlength(self._texts.get("chart.usual")) / _SCALE + _LEGEND_GAP
        if left + 18 + font.getlength(text) / _SCALE > self._level_left - 4:
            return
        box = [self._to_pixels(left), self._to_pixels(14), self._to_pixels(left + 12) - 1, self._to_pixels(26) - 1]
        self._canvas.rectangle(box, outline=_BAR, width=_OUTLINE)
        self._draw_text(left + 18, 20, text, _LARGE_FONT, _FAINT, "lm")

    def _draw_levels(self) -> None:
        """Draw the level of each window as a line of steps, without those that are not judged, and its name.

        A level far above all counts is drawn at the upper edge.
        """
        before = None
        for at, level in enumerate(self._levels):
            y = None if level is None else max(self._count_y(level), _TOP_MARGIN - 24)
            x = _LEFT_MARGIN + self._step * at
            if y is not None:
                self._draw_line(x, y, x + self._step, y, _BREACH)
                if before is not None:
                    self._draw_line(x, before, x, y, _BREACH)
            before = y
        percent = self._chart.percent or 0
        self._draw_level_name(format_level(self._texts, self._chart.bound, percent, is_percent=True))

    def _fill_field(self, left: float, top: float, right: float, bottom: float) -> None:
        """Fill a rectangle of the field of what is usual."""
        box = [self._to_pixels(left), self._to_pixels(top), self._to_pixels(right) - 1, self._to_pixels(bottom) - 1]
        if box[3] >= box[1]:
            self._canvas.rectangle(box, fill=_RULE)

    def _is_breached(self, at: int) -> bool:
        """Return True if the window at this index is known to breach the threshold, False if not, or not judged."""
        count, level = self._chart.counts[at], self._levels[at]
        return count is not None and level is not None and self._chart.bound.is_breached(count, level)

    def _draw_counts(self) -> None:
        """Draw the counts above the bars: every one if they fit, else every second, third, …, counted from the last.

        Each is drawn on the background colour, and in the colour of breaches if it breaches the threshold. Unknown
        counts are skipped.
        """
        shown = [self._texts.format_number(each) if each is not None else "" for each in self._chart.counts]
        font = _load_font(_LARGE_FONT)
        widest = max(font.getlength(each) for each in shown) / _SCALE
        every = max(-(-(widest + 4) // self._step), 1)
        last = len(shown) - 1
        for at, text in enumerate(shown):
            count = self._chart.counts[at]
            if count is None or (last - at) % every:
                continue
            x = self._clamp_text_middle(self._bar_middle(at), text)
            y = min(self._count_y(count), self._base - _MIN_BAR_HEIGHT) - 11
            half = font.getlength(text) / _SCALE / 2 + 1
            # On the background colour, so that the threshold's line does not run through it.
            usual = self._chart.usual[at] if self._chart.usual else None
            is_within_usual = usual is not None and self._count_y(usual / 2) < y
            self._canvas.rectangle(
                [self._to_pixels(x - half), self._to_pixels(y - 7), self._to_pixels(x + half), self._to_pixels(y + 7)],
                fill=_RULE if is_within_usual else _GROUND,
            )
            past = self._is_breached(at)
            self._draw_text(x, y, text, _LARGE_FONT, _BREACH if past else _TEXT, "mm")

    def _draw_time_labels(self) -> None:
        """Draw the two rows of time labels below the bars, and the rows' names to the left of them.

        Draws every label if they fit, else every second, third, …, counted from the last.
        """
        font = _load_font(_SMALL_FONT)
        widest = max(font.getlength(text) for label in self._chart.labels for text in label) / _SCALE
        every = max(-(-(widest + 12) // self._step), 1)
        last = len(self._chart.labels) - 1
        for at, label in enumerate(self._chart.labels):
            if (last - at) % every:
                continue
            for row, text in enumerate(label):
                x = self._clamp_text_middle(self._bar_middle(at), text, _SMALL_FONT)
                self._draw_text(x, self._label_row_y(row), text, _SMALL_FONT, _LABEL_COLOURS[row], "mm")
        for row, name in enumerate(self._chart.label_rows):
            self._draw_text(_SIDE_MARGIN, self._label_row_y(row), name, _SMALL_FONT, _LABEL_COLOURS[row], "lm")

    def _label_row_y(self, row: int) -> float:
        """Return the vertical middle of a row of time labels, 0 or 1, below the base line."""
        return self._base + 14 + _LABEL_ROW_HEIGHT * row

    def _count_y(self, value: float) -> float:
        """Return the vertical position of a count or threshold on the chart's scale, on which 0 is the base line."""
        return self._base - (self._base - _TOP_MARGIN) * value / self._top_value

    def _bar_middle(self, at: int) -> float:
        """Return the horizontal middle of the bar at this index."""
        return _LEFT_MARGIN + self._step * (at + 0.5)

    def _clamp_text_middle(self, x: float, text: str, size: int = _LARGE_FONT) -> float:
        """Return the horizontal middle nearest to `x` at which the whole text is between the chart's margins."""
        half = _load_font(size).getlength(text) / _SCALE / 2
        return min(max(x, _LEFT_MARGIN + half), WIDTH - _SIDE_MARGIN - half)

    def _draw_line(self, x1: float, y1: float, x2: float, y2: float, colour: int) -> None:
        """Draw a straight line, one pixel of the page wide, between two points."""
        self._canvas.line(
            [self._to_pixels(x1), self._to_pixels(y1), self._to_pixels(x2), self._to_pixels(y2)],
            fill=colour,
            width=_SCALE,
        )

    def _draw_text(self, x: float, y: float, text: str, size: int, colour: int, anchor: str) -> None:
        """Draw a text at a position, by pasting its cached image; an empty text draws nothing.

        `anchor`: Pillow's two letters for how the text is aligned to the position ("mm": its middle).
        """
        if text:
            rendered = _render_text(text, size, colour, anchor)
            at = self._to_pixels(x) + rendered.left, self._to_pixels(y) + rendered.top
            self._image.paste(rendered.shades, at, rendered.mask)

    def _to_pixels(self, value: float) -> int:
        """Convert a length or position in pixels of the page to whole pixels of the image."""
        return round(value * _SCALE)


@dataclass(frozen=True, slots=True)
class _RenderedText:
    """A whole text rendered as one small image, with the mask and the offset to paste it into a chart.

    Left and top are in pixels of the image (not of the page).
    """

    shades: Image.Image
    """Pixels as palette indices."""
    mask: Image.Image
    """255 for each pixel of a letter, 0 for the background, which is not pasted."""
    left: int
    """Pixels from the text's position (its anchor) to the left edge of the small image; mostly negative."""
    top: int
    """Pixels from the text's position to the upper edge of the small image."""


@lru_cache(maxsize=4096)  # the same hours and small numbers again and again
def _render_text(text: str, size: int, colour: int, anchor: str) -> _RenderedText:
    """Render a text in one text colour as a small image with smooth edges, made of that colour's shades; cached.

    `colour`: the palette index of its strongest shade. `size`: of the font, in pixels of the page.
    """
    left, top, right, bottom = map(round, _load_font(size).getbbox(text, anchor=anchor))
    ink = Image.new("L", (right - left, bottom - top))
    ImageDraw.Draw(ink).text((-left, -top), text, 255, _load_font(size), anchor)
    steps = [round(strength * _SHADES_PER_COLOUR / 255) for strength in range(256)]
    shades = ink.point([colour - _SHADES_PER_COLOUR + step if step else _GROUND for step in steps])
    return _RenderedText(shades, ink.point([255 if step else 0 for step in steps]), left, top)


@cache
def _load_font(size: int) -> ImageFont.FreeTypeFont:
    """Return Pillow's own font in a size, given in pixels of the page and scaled to those of the image; cached.

    Raises RuntimeError where Pillow was built without FreeType.
    """
    font = ImageFont.load_default(size * _SCALE)
    if not isinstance(font, ImageFont.FreeTypeFont):
        raise RuntimeError("Pillow draws no text of any size: it was built without FreeType")
    return font
