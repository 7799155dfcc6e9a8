"""The order of an upgrade in docs/deployment.md is that of the readers of events before those who write them."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
READERS = {
    "collector": ("streams",),
    "streams": ("notifier",),
    "user-manager": (),
    "notifier": (),
}
"""By Deployment: those that read events whose content a new version of it may extend.

The notifier reads user_manager's requests for mails, too, but asks it over gRPC for what a mail holds.
"""


def test_readers_are_upgraded_before_writers() -> None:
    """Else alerts, or flights, come to a version that does not know them; all four Deployments are named."""
    text = (ROOT / "docs/deployment.md").read_text().split("## Upgrading")[1].split("\n## ")[0]
    (listed,) = re.findall(r"^for each in (.+); do$", text, re.MULTILINE)
    order = listed.split()
    assert sorted(order) == sorted(READERS)
    for writer, readers in READERS.items():
        assert all(order.index(reader) < order.index(writer) for reader in readers)
    (paused,) = re.findall(r"rollout pause deployment (.+)$", text, re.MULTILINE)
    assert paused.split() == order
    for name in order:
        manifest = (ROOT / f"manifests/base/{name}.yaml").read_text()
        assert re.search(rf"^kind: Deployment\nmetadata:\n  name: {name}$", manifest, re.MULTILINE)
