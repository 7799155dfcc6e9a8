"""Each overlay is rendered once for all tests that read it."""

from pathlib import Path

import pytest

from tests.manifests.rendering import OVERLAYS, Rendered, parse, prepared, render


@pytest.fixture(scope="session")
def manifests(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the manifests that has secrets."""
    return prepared(tmp_path_factory.mktemp("manifests"))


@pytest.fixture(scope="session")
def texts(manifests: Path) -> dict[str, str]:
    """The YAML of each overlay."""
    return {overlay: render(manifests, overlay) for overlay in OVERLAYS}


@pytest.fixture(scope="session")
def overlays(texts: dict[str, str]) -> dict[str, Rendered]:
    return {overlay: parse(overlay, text) for overlay, text in texts.items()}


@pytest.fixture(params=OVERLAYS)
def rendered(request: pytest.FixtureRequest, overlays: dict[str, Rendered]) -> Rendered:
    """One overlay after the other."""
    return overlays[request.param]
