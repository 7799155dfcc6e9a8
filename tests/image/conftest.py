"""The images, built once from what a clean checkout has."""

import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.image.standin import ROOT, Builder, base_name, clean_checkout, why_not


@dataclass(frozen=True, slots=True)
class Image:
    """A built image."""

    rootfs: Path
    config: dict[str, Any]
    """As the OCI image specification has it: `User`, `Env`, `Cmd`, …"""

    @property
    def environment(self) -> list[str]:
        given: list[str] = self.config["Env"]
        return given


@pytest.fixture(scope="session")
def builder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Builder]:
    """Has built production and kind; takes some two minutes. Skips where it cannot, unless it was required."""
    reason = why_not()
    if reason:
        sentence = f"THE IMAGE IS NOT PROVED: {reason}"
        assert "TOWERWATCH_REQUIRE_IMAGE" not in os.environ, sentence
        pytest.skip(sentence)
    folder = tmp_path_factory.mktemp("image")
    context = folder / "checkout"
    clean_checkout(context)
    _litter(context)
    building = Builder(folder)
    building.make_base(base_name((ROOT / "Dockerfile").read_text(encoding="utf-8")))
    try:
        building.build(context, "production", "towerwatch:production")
        building.build(context, "kind", "towerwatch:kind")
        yield building
    finally:
        building.clear()


def _litter(context: Path) -> None:
    """What lies about in a work tree, and must not get into an image."""
    (context / ".env").write_text("SMTP_PASSWORD=hunter2\n", encoding="utf-8")
    (context / "collector" / "notes.pyc").write_text("stale", encoding="utf-8")
    (context / "proto/towerwatch/alerts/v1/stale_pb2.py").write_text("raise SystemExit('stale')", encoding="utf-8")


@pytest.fixture(scope="session")
def production(builder: Builder) -> Image:
    return _image(builder, "towerwatch:production")


@pytest.fixture(scope="session")
def kind(builder: Builder) -> Image:
    return _image(builder, "towerwatch:kind")


def _image(builder: Builder, tag: str) -> Image:
    inspected = json.loads(builder.inspected(tag))
    return Image(builder.mounted(tag), inspected["OCIv1"]["config"])
