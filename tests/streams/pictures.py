"""The command `python -m tests.streams.pictures`, which makes README's pictures of the pages, in docs/pictures.

Needs a Chromium and a minute: a real broker and two real workers fold the made-up traffic of a blizzard.
"""

import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path
from typing import Final

from local.kafka import running_broker
from tests.ports import free_port
from tests.streams import blizzard
from tests.streams.browser import INSTALLED, MISSING, running_browser, visit
from tests.streams.pages.snowed_in_sources import SnowedInSources, serving_sources
from tests.streams.process import is_everything_acknowledged, publish, started_worker
from tests.waiting import eventually

FOLDER: Final = Path(__file__).parents[2] / "docs" / "pictures"

PICTURES: Final = {
    "overview": ("/overview", 700),
    "airport": ("/airports/KJFK", 750),
    "explain": (f"/explain/{blizzard.EXPLAINED}?show=said", 800),
}
"""The page of each picture, and its height in pixels."""

MOST_BYTES: Final = 120_000
"""Largest size of one picture, which is cloned with the code."""


def main() -> None:
    """Make all pictures. Fails if a picture is too large or a page reports an error."""
    if INSTALLED is None:
        sys.exit(MISSING)
    FOLDER.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as made, ExitStack() as stack:
        folder = Path(made)
        broker = stack.enter_context(running_broker(folder / "kafka"))
        port = free_port()
        stack.enter_context(serving_sources(SnowedInSources(), port))
        settings = {**blizzard.CLOCK, "COLLECTOR_GRPC_TARGET": f"127.0.0.1:{port}"}
        workers = [
            stack.enter_context(started_worker(folder / "streams", broker.bootstrap_servers, **settings))
            for _ in range(2)
        ]
        eventually(lambda: all(each.is_ready() for each in workers))
        publish(broker.bootstrap_servers, [*blizzard.build_events(), blizzard.build_extra_hour("KJFK", 31)])
        eventually(lambda: is_everything_acknowledged(broker.bootstrap_servers))
        browser = stack.enter_context(running_browser())
        for name, (path, height) in PICTURES.items():
            url = f"http://127.0.0.1:{workers[0].web_port}{path}"
            with visit(browser, url, viewport={"width": 1080, "height": height}) as visited:
                picture = FOLDER / f"{name}.png"
                visited.page.screenshot(path=picture)
                assert picture.stat().st_size < MOST_BYTES, f"{picture.name} is too large"
                assert visited.faults == []
                print(f"{picture.relative_to(FOLDER.parents[1])}: {picture.stat().st_size / 1000:.0f} kB")


if __name__ == "__main__":
    main()
