"""The local stack, in which somebody has registered and set an interest, and a real Prometheus that scrapes it."""

import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import httpx
import pytest
import yaml

from local.mailbox.reading import confirmation_link, mails
from local.ports import HOST, Ports
from local.processes import Processes, log_file
from local.stack import SERVICES, Secrets, environment, wait_until_ready, with_mailbox, with_replay
from tests.chassis.promtool import find_program
from tests.ports import free_port, free_ports
from tests.prometheus.rules import DEPLOYED
from tests.waiting import eventually

NODE: Final = "worker-7"


@dataclass(frozen=True, slots=True)
class Stack:
    """The four services, at work."""

    http: Mapping[str, int]
    """By service, the port of its pages."""

    def exposition(self, service: str) -> str:
        return httpx.get(f"http://{HOST}:{self.http[service]}/metrics", timeout=10).raise_for_status().text


class Prometheus:
    """A server that runs on the deployed configuration."""

    def __init__(self, url: str) -> None:
        self.url = url

    def is_ready(self) -> bool:
        try:
            return httpx.get(f"{self.url}/-/ready", timeout=5).status_code == httpx.codes.OK
        except httpx.TransportError:
            return False

    def series(self, expression: str) -> list[dict[str, str]]:
        """The labels of what a query finds now."""
        answer = self._asked("query", query=expression)
        return [each["metric"] for each in answer["result"]]

    def targets(self) -> list[dict[str, Any]]:
        """Those that are scraped; what relabelling has dropped is not among them."""
        active: list[dict[str, Any]] = self._asked("targets", state="active")["activeTargets"]
        return active

    def alerts(self) -> set[str]:
        """The names of the alerts that fire, or will when it goes on like this."""
        return {each["labels"]["alertname"] for each in self._asked("alerts")["alerts"]}

    def rules(self) -> dict[str, str]:
        """By name, the health of each rule."""
        groups = self._asked("rules")["groups"]
        return {rule["name"]: rule["health"] for group in groups for rule in group["rules"]}

    def _asked(self, what: str, **parameters: str) -> dict[str, Any]:
        answer = httpx.get(f"{self.url}/api/v1/{what}", params=parameters, timeout=10).raise_for_status()
        data: dict[str, Any] = answer.json()["data"]
        return data


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """Ready, with a mail sent, an interest set and flights collected."""
    data = tmp_path_factory.mktemp("stack")
    ports = Ports.from_base(free_ports(9))
    given = with_mailbox(with_replay(environment(ports, data, Secrets.random(), None), ports), ports)
    given |= {"CLOCK_START": "2013-02-13T12:00:00Z", "ALLOW_TEST_ADDRESSES": "true", "K8S_NODE_NAME": NODE}
    with Processes(given, data) as processes:
        for name in ("kafka", "opensky", "mailbox"):
            processes.begin(name)
        wait_until_ready(processes, ("kafka", "opensky", "mailbox"), ports, data)
        for name in SERVICES:
            processes.begin(name)
        wait_until_ready(processes, SERVICES, ports, data)
        _somebody_watches(ports, data)
        yield Stack(
            {
                "user_manager": ports.user_manager_http,
                "collector": ports.collector_http,
                "streams": ports.streams_web,
                "notifier": ports.notifier_web,
            }
        )


def _somebody_watches(ports: Ports, data: Path) -> None:
    account = {"email": "ada@towerwatch.test", "name": "Ada"}
    registered = httpx.post(f"http://{HOST}:{ports.user_manager_http}/users", json=account, timeout=15)
    token = registered.raise_for_status().json()["token"]
    sent = eventually(lambda: mails(data / "mail"), "the confirmation mail")
    link = confirmation_link(sent[0])
    assert link is not None
    httpx.post(link, timeout=15).raise_for_status()
    wish = {"airport_icao": "KJFK", "direction": "departures", "window": "1h", "high_value": 1}
    watched = httpx.post(
        f"http://{HOST}:{ports.collector_http}/interests",
        json=wish, headers={"Authorization": f"Bearer {token}"}, timeout=15,
    )  # fmt: skip
    watched.raise_for_status()
    eventually(lambda: len(mails(data / "mail")) > 1, "the first alert's mail", 120)


def pod(service: str, address: str, **annotations: str) -> dict[str, Any]:
    """What discovery finds of a pod, as a static target with the labels that discovery would give."""
    name = service.replace("_", "-")
    meta = "__meta_kubernetes_pod"
    labels = {
        f"{meta}_name": f"{name}-0",
        f"{meta}_node_name": NODE,
        f"{meta}_phase": "Running",
        f"{meta}_label_app_kubernetes_io_name": name,
        **{f"{meta}_annotation_prometheus_io_{key}": value for key, value in annotations.items()},
    }
    return {"targets": [address], "labels": labels}


@pytest.fixture(scope="module")
def prometheus(stack: Stack, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Prometheus]:
    """Ready, and has scraped each service after all of the above had happened."""
    pods = []
    for service, port in stack.http.items():
        wanted = {"scrape": "true", "port": str(port), "path": "/metrics"}
        pods += [pod(service, f"{HOST}:{port}", **wanted), pod(service, f"{HOST}:1", **wanted)]  # its other port
    pods += [
        pod("mysql", f"{HOST}:{free_port()}"),
        pod("mailbox", f"{HOST}:{free_port()}", scrape="false"),
    ]
    ended = pod("topics", f"{HOST}:{free_port()}", scrape="true")
    ended["labels"]["__meta_kubernetes_pod_phase"] = "Succeeded"
    with running_prometheus(tmp_path_factory.mktemp("prometheus"), [*pods, ended]) as server:
        eventually(lambda: len(server.series("up == 1")) == len(SERVICES), "all services are scraped")
        yield server


@contextmanager
def running_prometheus(folder: Path, targets: list[dict[str, Any]]) -> Iterator[Prometheus]:
    """The deployed configuration, but with these targets in the place of what Kubernetes would tell, and quicker."""
    configuration = yaml.safe_load((DEPLOYED / "prometheus.yml").read_text(encoding="utf-8"))
    (pods,) = configuration["scrape_configs"]
    del pods["kubernetes_sd_configs"]
    pods["static_configs"] = targets
    configuration["rule_files"] = [str(DEPLOYED / each) for each in configuration["rule_files"]]
    configuration["global"] |= {"scrape_interval": "1s", "scrape_timeout": "1s", "evaluation_interval": "1s"}
    (folder / "prometheus.yml").write_text(yaml.safe_dump(configuration), encoding="utf-8")
    port = free_port()
    log = log_file(folder, "prometheus")
    log.parent.mkdir()
    with log.open("wb") as output:
        process = subprocess.Popen(
            [
                find_program("prometheus"), f"--config.file={folder / 'prometheus.yml'}",
                f"--storage.tsdb.path={folder / 'data'}", f"--web.listen-address={HOST}:{port}",
                "--web.external-url=/prometheus/",
            ],
            cwd=folder, stdin=subprocess.DEVNULL, stdout=output, stderr=output,
        )  # fmt: skip
    server = Prometheus(f"http://{HOST}:{port}/prometheus")
    try:
        eventually(lambda: process.poll() is not None or server.is_ready(), "Prometheus")
        assert process.poll() is None, log.read_text()
        yield server
    finally:
        process.kill()
        process.wait()
