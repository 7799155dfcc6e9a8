"""What the demo shows: lines that stay, and one line of progress that does not (on a terminal)."""

import shutil
import sys
import textwrap
import time
from collections.abc import Sequence

_EVERY_S = 5.0


class Screen:
    """Writes to standard output; plain where that is no terminal."""

    def __init__(self) -> None:
        self._terminal = sys.stdout.isatty()
        self._progress = ""
        self._last = 0.0

    def say(self, text: str = "") -> None:
        """A line that stays."""
        self._clear()
        print(text, flush=True)
        self._draw()

    def heading(self, text: str) -> None:
        self.say(f"\n\033[1m{text}\033[0m" if self._terminal else f"\n{text}")

    def mail(self, subject: str, body: str | None) -> None:
        """A mail that came: its subject, and its text where it is the first of its kind."""
        self.say(f"  ✉ {subject}")
        if body is not None:
            self.say(textwrap.indent(body.strip(), "    │ ", lambda _: True))

    def progress(self, text: str) -> None:
        """How far the story is; without a terminal, only now and then."""
        if self._terminal:
            self._clear()
            self._progress = textwrap.shorten(text, shutil.get_terminal_size().columns - 1, placeholder="…")
            self._draw()
        elif time.monotonic() - self._last >= _EVERY_S:
            self._last = time.monotonic()
            print(text, flush=True)

    def end_progress(self) -> None:
        self._clear()
        self._progress = ""

    def table(self, rows: Sequence[tuple[str, str]]) -> None:
        width = max(len(name) for name, _ in rows)
        for name, value in rows:
            self.say(f"  {name:<{width}}  {value}")

    def _clear(self) -> None:
        if self._terminal and self._progress:
            print("\r\033[K", end="", flush=True)

    def _draw(self) -> None:
        if self._terminal and self._progress:
            print(self._progress, end="", flush=True)
