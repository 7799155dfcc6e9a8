"""Each edge of the NetworkPolicies, tried from inside the pods of the running cluster."""

import json
import re
import subprocess
from typing import Final

import pytest

from tests.cluster.machine.layout import NODES
from tests.cluster.machine.live import kubectl, list_pods, require_cluster
from tests.cluster.machine.policies import TABLE
from tests.manifests.network import GATEWAY, Edge, list_necessary_edges
from tests.manifests.rendering import Rendered, parse, prepare_manifests, render

pytestmark = pytest.mark.machine

_TRY: Final = """
import asyncio, json, sys
async def look(host, port):
    try:
        async with asyncio.timeout(8):
            await asyncio.open_connection(host, port)
    except TimeoutError:
        return "dropped"
    except ConnectionRefusedError:
        return "closed"
    return "open"
async def main():
    wanted = json.loads(sys.argv[1])
    print(json.dumps(await asyncio.gather(*(look(host, port) for host, port in wanted))))
asyncio.run(main())
"""
_WITH_PYTHON: Final = ("user-manager", "collector", "streams", "notifier", "mailbox", "opensky", GATEWAY)
"""The pods in which a Python can be started: those of our image."""


@pytest.fixture(scope="module")
def rendered(tmp_path_factory: pytest.TempPathFactory) -> Rendered:
    """Return the overlay that runs in the cluster."""
    manifests = prepare_manifests(tmp_path_factory.mktemp("manifests"))
    return parse("kind", render(manifests, "kind"))


@pytest.fixture(scope="module")
def targets(rendered: Rendered) -> dict[str, tuple[str, list[int]]]:
    """Return the address of a running pod and its ports for each name of a pod that runs on."""
    require_cluster()
    addresses = {
        pod["metadata"]["labels"].get("app.kubernetes.io/name"): pod["status"]["podIP"]
        for pod in list_pods("towerwatch", "app.kubernetes.io/part-of=towerwatch")
        if pod["status"]["phase"] == "Running"
    }
    (entry,) = list_pods("towerwatch-gateway", "gateway.networking.k8s.io/gateway-name=towerwatch")
    found = {pod.name: (addresses[pod.name], sorted(pod.ports.values())) for pod in rendered.pods() if pod.ports}
    return found | {GATEWAY: (entry["status"]["podIP"], [443])}


@pytest.mark.parametrize("source", _WITH_PYTHON)
def test_a_pod_reaches_what_its_settings_need_and_nothing_else(
    source: str, rendered: Rendered, targets: dict[str, tuple[str, list[int]]]
) -> None:
    """What is needed is read from settings and routes; what is refused is dropped, and a node counts it."""
    needed = {edge for edge in list_necessary_edges(rendered) if edge.source == source and edge.protocol == "TCP"}
    tried = [Edge(source, name, port) for name, (_, ports) in targets.items() for port in ports if name != source]
    namespace, selector, container = (
        ("towerwatch-gateway", "gateway.networking.k8s.io/gateway-name=towerwatch", "routes")
        if source == GATEWAY
        else ("towerwatch", f"app.kubernetes.io/name={source}", "")
    )
    pod = list_pods(namespace, selector)[0]
    said = kubectl(
        "--namespace", namespace, "exec", pod["metadata"]["name"],
        *(("--container", container) if container else ()), "--",
        "python", "-c", _TRY, json.dumps([(targets[edge.destination][0], edge.port) for edge in tried]),
    )  # fmt: skip
    found = dict(zip(tried, json.loads(said), strict=True))
    assert {edge for edge, answer in found.items() if answer == "open"} == needed & set(tried)
    assert {answer for edge, answer in found.items() if edge not in needed} == {"dropped"}
    refused = list_refused()
    for edge, answer in found.items():
        key = (pod["status"]["podIP"], targets[edge.destination][0], edge.port)
        assert (key in refused) == (answer == "dropped"), edge


def list_refused() -> set[tuple[str, str, int]]:
    """Return source, destination and port of each connection that some node has refused by a policy lately."""
    found = set()
    for node in NODES:
        listed = subprocess.run(
            ["nsenter", f"--net=/run/netns/{node.part}", "nft", "-n", "list", "set", "ip", TABLE, "refused"],
            capture_output=True, text=True, check=True,
        ).stdout  # fmt: skip
        for source, destination, port in re.findall(r"([\d.]+) \. ([\d.]+) \. \w+ \. (\d+)", listed):
            found.add((source, destination, int(port)))
    return found
