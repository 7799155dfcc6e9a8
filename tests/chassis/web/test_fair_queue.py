"""A client that sends many slow requests at once waits behind its own, and delays no other client."""

import threading
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from random import Random

import httpx
import pytest
from flask import Flask
from hypothesis import given, strategies as st

from chassis.web.fair_queue import ClientTask, FairQueue
from chassis.web.wsgi import HttpServer
from tests.ports import free_port
from tests.waiting import eventually

TIMEOUT_S = 300
"""Seconds for an answer, generous for a machine that is busy besides."""


class NumberedTask:
    """A task of a client that does nothing; its number says when it was added."""

    def __init__(self, number: int) -> None:
        self.number = number

    def service(self) -> None:
        """Do nothing."""

    def cancel(self) -> None:
        """Do nothing."""


@given(st.lists(st.sampled_from("abc"), max_size=40), st.integers(1, 4), st.integers(1, 8), st.integers(0, 1_000))
def test_each_client_has_its_turn_and_its_requests_their_order(
    clients: list[str], most: int, threads: int, seed: int
) -> None:
    """No client has more than its share at work, each gets its tasks in their order, and no task is left.

    A client that waits is handed a task before any other has got two.
    """
    queue, chance = FairQueue(most), Random(seed)
    added = [(client, NumberedTask(number)) for number, client in enumerate(clients)]
    at_work: list[ClientTask] = []
    handed_out: dict[str, list[int]] = {}
    since: Counter[tuple[str, str]] = Counter()
    numbers = {}
    waiting: Counter[str] = Counter()
    while added or len(queue) or at_work:
        if added and chance.random() < 0.5:
            client, task = added.pop(0)
            wrapped = ClientTask(task, client, queue.finish)
            numbers[id(wrapped)] = wrapped, task.number
            queue.append(wrapped)
            waiting[client] += 1
        elif len(queue) and len(at_work) < threads:
            each = queue.popleft()
            assert isinstance(each, ClientTask)
            handed_out.setdefault(each.client, []).append(numbers[id(each)][1])
            waiting[each.client] -= 1
            at_work.append(each)
            counts = Counter(task.client for task in at_work)
            assert max(counts.values()) <= most
            for other in "abc":
                if other != each.client and waiting[other] and counts[other] < most:
                    since[other, each.client] += 1
                    assert since[other, each.client] <= 1, "it waited while another had two"
                since[each.client, other] = 0
        elif at_work:
            at_work.pop(chance.randrange(len(at_work))).service()
        if not len(queue):
            with pytest.raises(IndexError):
                queue.popleft()
    assert sum(map(len, handed_out.values())) == len(clients)
    assert all(found == sorted(found) for found in handed_out.values())


@contextmanager
def running_server(trusted_proxy: str | None) -> Iterator[tuple[str, threading.Event, threading.Semaphore]]:
    """Yield the address of a server whose /slow waits for an event, the event, and a semaphore of those that wait."""
    app, go_on, begun, port = Flask("example"), threading.Event(), threading.Semaphore(0), free_port()

    @app.get("/slow")
    def slow() -> str:
        begun.release()
        go_on.wait(timeout=TIMEOUT_S)
        return "done"

    @app.get("/fast")
    def fast() -> str:
        return "done"

    server = HttpServer(app, "127.0.0.1", port, trusted_proxy=trusted_proxy)
    server.start()
    try:
        yield f"http://127.0.0.1:{port}", go_on, begun
    finally:
        go_on.set()
        server.stop()


def get(url: str, client: str, *, is_proxied: bool) -> str:
    """Send a request as a client, by an address of this machine or as a proxy names it, and return the answer."""
    headers = {"X-Forwarded-For": client} if is_proxied else {}
    transport = httpx.HTTPTransport(local_address=None if is_proxied else client)
    with httpx.Client(transport=transport, timeout=TIMEOUT_S, trust_env=False) as http:
        return http.get(url, headers=headers).raise_for_status().text


@pytest.mark.parametrize("is_proxied", [False, True], ids=["direct", "behind a proxy"])
def test_sixty_slow_requests_of_one_client_hold_up_nobody_else(is_proxied: bool) -> None:
    """Another client is answered while none of them is, and all of them are answered afterwards.

    Before, they took all threads: nobody else was answered until most of them were done.
    """
    with (
        running_server("127.0.0.1" if is_proxied else None) as (url, go_on, begun),
        ThreadPoolExecutor(max_workers=60) as pool,
    ):
        slow = [pool.submit(get, f"{url}/slow", "127.0.0.2", is_proxied=is_proxied) for _ in range(60)]
        for _ in range(4):
            assert begun.acquire(timeout=TIMEOUT_S)
        for _ in range(20):
            assert get(f"{url}/fast", "127.0.0.3", is_proxied=is_proxied) == "done"
        assert not any(each.done() for each in slow)
        assert not begun.acquire(blocking=False), "four of eight threads are the client's"
        go_on.set()
        eventually(lambda: all(each.done() for each in slow), "all answers", TIMEOUT_S)
        assert [each.result() for each in slow] == ["done"] * 60
