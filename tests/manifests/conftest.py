"""Fixtures of the rendered overlays, each rendered once for all tests."""

from pathlib import Path

import pytest

from tests.manifests.rendering import OVERLAYS, Rendered, parse, prepare_manifests, render


@pytest.fixture(scope="session")
def manifests(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a copy of the manifests that contains secrets."""
    return prepare_manifests(tmp_path_factory.mktemp("manifests"))


@pytest.fixture(scope="session")
def texts(manifests: Path) -> dict[str, str]:
    """Return the YAML of each overlay."""
    return {overlay: render(manifests, overlay) for overlay in OVERLAYS}


@pytest.fixture(scope="session")
def overlays(texts: dict[str, str]) -> dict[str, Rendered]:
    return {overlay: parse(overlay, text) for overlay, text in texts.items()}


@pytest.fixture(params=OVERLAYS)
def rendered(request: pytest.FixtureRequest, overlays: dict[str, Rendered]) -> Rendered:
    """Return each overlay in turn."""
    return overlays[request.param]
