"""Fixtures of the images, which are built once from a clean checkout."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.image.standin import ROOT, Builder, copy_clean_checkout, find_obstacle, parse_base_name
from tests.skips import skip_unless_required


@dataclass(frozen=True, slots=True)
class Image:
    """A built image."""

    rootfs: Path
    config: dict[str, Any]
    """The configuration, in the form of the OCI image specification: `User`, `Env`, `Cmd`, …"""

    @property
    def environment(self) -> list[str]:
        given: list[str] = self.config["Env"]
        return given


@pytest.fixture(scope="session")
def builder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Builder]:
    """Build the images `production` and `kind`, which takes some two minutes.

    Skip the test if images cannot be built here; fail if they are required.
    """
    reason = find_obstacle()
    if reason:
        skip_unless_required("IMAGE", f"no image can be built here: {reason}")
    folder = tmp_path_factory.mktemp("image")
    context = folder / "checkout"
    copy_clean_checkout(context)
    _add_leftovers(context)
    building = Builder(folder)
    building.make_base(parse_base_name((ROOT / "Dockerfile").read_text(encoding="utf-8")))
    try:
        building.build(context, "production", "towerwatch:production")
        building.build(context, "kind", "towerwatch:kind")
        yield building
    finally:
        building.delete_all()


def _add_leftovers(context: Path) -> None:
    """Add files to the context that may be in a work tree, and must not get into an image."""
    (context / ".env").write_text("SMTP_PASSWORD=hunter2\n", encoding="utf-8")
    (context / "collector" / "notes.pyc").write_text("stale", encoding="utf-8")
    (context / "proto/towerwatch/alerts/v1/stale_pb2.py").write_text("raise SystemExit('stale')", encoding="utf-8")


@pytest.fixture(scope="session")
def production(builder: Builder) -> Image:
    return _load_image(builder, "towerwatch:production")


@pytest.fixture(scope="session")
def kind(builder: Builder) -> Image:
    return _load_image(builder, "towerwatch:kind")


def _load_image(builder: Builder, tag: str) -> Image:
    """Return a built image with its mounted files and its configuration."""
    inspected = json.loads(builder.inspect(tag))
    return Image(builder.mount(tag), inspected["OCIv1"]["config"])
