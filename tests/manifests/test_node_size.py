"""The nodes that docs/deployment.md asks for take all pods of production, whatever the order of placing them."""

import random

from hypothesis import given, strategies as st

from tests.manifests.node_size import NODES, Piece, list_pieces, read_documented_node, read_node_too_small
from tests.manifests.rendering import Rendered


def _place(pieces: list[Piece], cpus: float, memory_gib: float, seed: int) -> list[str]:
    """Place all pods in a random order, each on a random node where it may be, and return the names that find none."""
    drawn = random.Random(seed)
    pods = [piece for piece in pieces for _ in range(piece.replicas)]
    drawn.shuffle(pods)
    nodes: list[list[Piece]] = [[] for _ in range(NODES)]
    homeless = []
    for pod in pods:
        least = min(node.count(pod) for node in nodes)
        fitting = [
            node
            for node in nodes
            if sum(each.cpus for each in (*node, pod)) <= cpus + 1e-9
            and sum(each.memory_gib for each in (*node, pod)) <= memory_gib + 1e-9
            # Evenly spread, or anywhere.
            and (pod.most_on_a_node == pod.replicas or node.count(pod) == least)
        ]
        if fitting:
            drawn.choice(fitting).append(pod)
        else:
            homeless.append(pod.name)
    return homeless


@given(seed=st.integers(0, 2**32))
def test_every_order_of_placing_fits_on_the_documented_nodes(overlays: dict[str, Rendered], seed: int) -> None:
    """Random choices stand for every way in which a scheduler may rate nodes."""
    assert _place(list_pieces(overlays["production"]), *read_documented_node(), seed) == []


def test_the_most_that_may_come_to_one_node_fits(overlays: dict[str, Rendered]) -> None:
    """So the test above holds for all orders, not only for those that are drawn."""
    pieces = list_pieces(overlays["production"])
    cpus, memory_gib = read_documented_node()
    assert sum(piece.cpus * piece.most_on_a_node for piece in pieces) <= cpus + 1e-9
    assert sum(piece.memory_gib * piece.most_on_a_node for piece in pieces) <= memory_gib + 1e-9


def test_the_nodes_that_are_called_too_small_are(overlays: dict[str, Rendered]) -> None:
    """In no order do all pods find a place there, although the sums of CPUs and memory suffice nearly."""
    pieces = [
        # As many as there are without load.
        Piece(each.name, min(each.replicas, 3), each.cpus, each.memory_gib, each.most_on_a_node)
        for each in list_pieces(overlays["production"])
    ]
    for seed in range(300):
        assert _place(pieces, *read_node_too_small(), seed)
