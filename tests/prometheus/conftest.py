"""Fixtures: the local stack with one user and one interest, and a real Prometheus that scrapes it."""

import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, fields
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import httpx
import pytest
import yaml

from local.mailbox.reading import find_confirmation_link, read_mails
from local.ports import HOST, Ports
from local.processes import ProcessSupervisor, find_log_file
from local.stack import GATEWAY, SERVICES, Secrets, build_environment, wait_until_ready, with_mailbox, with_replay
from tests import plain_http
from tests.chassis.promtool import find_program
from tests.ports import free_port, free_ports
from tests.prometheus.rules import DEPLOYED
from tests.waiting import eventually

NODE: Final = "worker-7"
TIMEOUT_S: Final = 60
"""Seconds for a request on an overloaded machine."""


@dataclass(frozen=True, slots=True)
class Stack:
    """The four running services."""

    http: Mapping[str, int]
    """The HTTP port of each service, by name."""

    def exposition(self, service: str) -> str:
        """Return a service's metrics in Prometheus' text format."""
        return plain_http.get(f"http://{HOST}:{self.http[service]}/metrics", timeout=TIMEOUT_S).raise_for_status().text


class Prometheus:
    """A Prometheus server with the deployed configuration, and queries of its API."""

    def __init__(self, url: str) -> None:
        self.url = url

    def is_ready(self) -> bool:
        """Return True if the server answers and is ready, else False."""
        try:
            return plain_http.get(f"{self.url}/-/ready", timeout=5).status_code == httpx.codes.OK
        except httpx.TransportError:
            return False

    def query_series(self, expression: str) -> list[dict[str, str]]:
        """Return the labels of each time series in the result of a query."""
        answer = self._request("query", query=expression)
        return [each["metric"] for each in answer["result"]]

    def list_targets(self) -> list[dict[str, Any]]:
        """Return the targets that are scraped, without those that relabelling has dropped."""
        active: list[dict[str, Any]] = self._request("targets", state="active")["activeTargets"]
        return active

    def alerts(self) -> set[str]:
        """Return the names of all firing and pending alerts."""
        return {each["labels"]["alertname"] for each in self._request("alerts")["alerts"]}

    def rules(self) -> dict[str, str]:
        """Return the health of each rule, by name."""
        groups = self._request("rules")["groups"]
        return {rule["name"]: rule["health"] for group in groups for rule in group["rules"]}

    def _request(self, what: str, **parameters: str) -> dict[str, Any]:
        """Return the data of an API request."""
        answer = plain_http.get(f"{self.url}/api/v1/{what}", params=parameters, timeout=TIMEOUT_S).raise_for_status()
        data: dict[str, Any] = answer.json()["data"]
        return data


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """Start the stack and wait until a mail is sent, an interest is set and flights are collected."""
    data = tmp_path_factory.mktemp("stack")
    ports = Ports.from_base(free_ports(len(fields(Ports))))
    given = with_mailbox(with_replay(build_environment(ports, data, Secrets.random(), None), ports), ports)
    given |= {"ALLOW_TEST_ADDRESSES": "true", "K8S_NODE_NAME": NODE}
    # An hour of the clock is half a minute: the collector asks twice for the record of the day before.
    given |= {
        "CLOCK_START": "2013-02-13T05:00:00Z",
        "CLOCK_RATE": "120",
        "CLOCK_ANCHOR": datetime.now(UTC).isoformat(),
        "POLL_INTERVAL": "PT10M",
        "SETTLE_TIME": "PT1H",
    }
    with ProcessSupervisor(given, data) as processes:
        for name in ("kafka", "opensky", "mailbox"):
            processes.start(name)
        wait_until_ready(processes, ("kafka", "opensky", "mailbox"), ports, data)
        for name in (*SERVICES, GATEWAY):  # links in mails lead to the gateway
            processes.start(name)
        wait_until_ready(processes, (*SERVICES, GATEWAY), ports, data)
        _register_and_set_interest(ports, data)
        yield Stack(
            {
                "user_manager": ports.user_manager_http,
                "collector": ports.collector_http,
                "streams": ports.streams_web,
                "notifier": ports.notifier_web,
            }
        )


def _register_and_set_interest(ports: Ports, data: Path) -> None:
    """Register a user, confirm the address, set an interest, and wait for the first alert's mail."""
    account = {"email": "ada@towerwatch.test", "name": "Ada"}
    registered = plain_http.post(f"http://{HOST}:{ports.user_manager_http}/users", json=account, timeout=TIMEOUT_S)
    token = registered.raise_for_status().json()["token"]
    sent = eventually(lambda: read_mails(data / "mail"), "the confirmation mail", 180)
    link = find_confirmation_link(sent[0])
    assert link is not None
    shown = {"Authorization": f"Bearer {token}"}  # it stays valid where the confirmation shows it
    plain_http.post(link, headers=shown, timeout=TIMEOUT_S).raise_for_status()
    interest = {"airport_icao": "KJFK", "direction": "departures", "window": "1h", "high_value": 1}
    answer = plain_http.post(
        f"http://{HOST}:{ports.collector_http}/interests",
        json=interest, headers=shown, timeout=TIMEOUT_S,
    )  # fmt: skip
    answer.raise_for_status()
    eventually(lambda: len(read_mails(data / "mail")) > 1, "the first alert's mail", 300)


def build_target(service: str, address: str, **annotations: str) -> dict[str, Any]:
    """Return a static target of Prometheus with the labels that the discovery of a pod would give."""
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
    """Start Prometheus and wait until it has scraped each service of the stack."""
    pods = []
    for service, port in stack.http.items():
        wanted = {"scrape": "true", "port": str(port), "path": "/metrics"}
        pods += [
            build_target(service, f"{HOST}:{port}", **wanted),
            build_target(service, f"{HOST}:1", **wanted),
        ]  # its other port
    pods += [
        build_target("mysql", f"{HOST}:{free_port()}"),
        build_target("mailbox", f"{HOST}:{free_port()}", scrape="false"),
    ]
    ended = build_target("topics", f"{HOST}:{free_port()}", scrape="true")
    ended["labels"]["__meta_kubernetes_pod_phase"] = "Succeeded"
    with run_prometheus(tmp_path_factory.mktemp("prometheus"), [*pods, ended]) as server:
        eventually(lambda: len(server.query_series("up == 1")) == len(SERVICES), "all services are scraped", 180)
        yield server


@contextmanager
def run_prometheus(folder: Path, targets: list[dict[str, Any]]) -> Iterator[Prometheus]:
    """Run Prometheus with the deployed configuration, but with static targets and shorter intervals."""
    configuration = yaml.safe_load((DEPLOYED / "prometheus.yml").read_text(encoding="utf-8"))
    (pods,) = configuration["scrape_configs"]
    del pods["kubernetes_sd_configs"]
    pods["static_configs"] = targets
    configuration["rule_files"] = [str(DEPLOYED / each) for each in configuration["rule_files"]]
    configuration["global"] |= {"scrape_interval": "5s", "scrape_timeout": "5s", "evaluation_interval": "2s"}
    (folder / "prometheus.yml").write_text(yaml.safe_dump(configuration), encoding="utf-8")
    port = free_port()
    log = find_log_file(folder, "prometheus")
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
