"""The demo's console output: lines that stay and, on a terminal, one line of progress that is overwritten."""

import shutil
import sys
import textwrap
import time
from collections.abc import Sequence

_EVERY_S = 5.0
"""Seconds between two progress texts without a terminal."""


class Screen:
    """A writer to standard output; on a terminal with bold headings and one progress line below all other lines.

    The progress line is erased before each other line and drawn again below it. Without a terminal the output is plain.
    """

    def __init__(self) -> None:
        self._terminal = sys.stdout.isatty()
        self._progress = ""
        self._last = 0.0

    def print_line(self, text: str = "") -> None:
        """Print a line that stays, above the progress line."""
        self._clear_progress()
        print(text, flush=True)
        self._draw_progress()

    def print_heading(self, text: str) -> None:
        """Print an empty line and a heading."""
        self.print_line(f"\n\033[1m{text}\033[0m" if self._terminal else f"\n{text}")

    def print_mail(self, subject: str, body: str | None) -> None:
        """Print the subject of a mail, and its indented body unless that is None."""
        self.print_line(f"  ✉ {subject}")
        if body is not None:
            self.print_line(textwrap.indent(body.strip(), "    │ ", lambda _: True))

    def show_progress(self, text: str) -> None:
        """Show a text in the progress line, in place of the one before, shortened to the terminal's width.

        Without a terminal, print it as a line, at most once every `_EVERY_S` seconds; texts between are dropped.
        """
        if self._terminal:
            self._clear_progress()
            self._progress = textwrap.shorten(text, shutil.get_terminal_size().columns - 1, placeholder="…")
            self._draw_progress()
        elif time.monotonic() - self._last >= _EVERY_S:
            self._last = time.monotonic()
            print(text, flush=True)

    def end_progress(self) -> None:
        """Remove the progress line."""
        self._clear_progress()
        self._progress = ""

    def print_table(self, rows: Sequence[tuple[str, str]]) -> None:
        """Print rows of a name and a value, in two aligned columns; at least one row is needed."""
        width = max(len(name) for name, _ in rows)
        for name, value in rows:
            self.print_line(f"  {name:<{width}}  {value}")

    def _clear_progress(self) -> None:
        if self._terminal and self._progress:
            print("\r\033[K", end="", flush=True)

    def _draw_progress(self) -> None:
        if self._terminal and self._progress:
            print(self._progress, end="", flush=True)
