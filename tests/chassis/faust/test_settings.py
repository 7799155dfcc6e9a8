"""The settings of a service built on Faust."""

import socket
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from chassis.faust.settings import StreamSettings


def settings(**changes: Any) -> StreamSettings:
    """Return valid settings with some changes."""
    values = {"kafka_bootstrap_servers": "a:1,b:2", "web_port": 6066, "data_dir": Path("data")}
    return StreamSettings(**(values | changes))


@pytest.mark.parametrize("servers", ["kafka", "kafka:9092,other:9093", "[::1]:9092", "10.0.0.1:1"])
def test_a_list_of_hosts_and_ports_is_valid(servers: str) -> None:
    """The port is optional."""
    assert settings(kafka_bootstrap_servers=servers).kafka_bootstrap_servers == servers


@pytest.mark.parametrize("servers", ["a:b", "kafka://a:1", ":9092", "a:1,,b:2", "a:0", "a:70000", "a b:1", "u@a:1"])
def test_an_invalid_list_of_servers_raises(servers: str) -> None:
    """Otherwise the worker would wait for them for ever, or end with a stack trace."""
    with pytest.raises(ValidationError, match="must be a list of host:port"):
        settings(kafka_bootstrap_servers=servers)


def test_the_canonical_url_is_the_advertised_url() -> None:
    """In Kubernetes a worker listens on all addresses, and only its environment contains the address for others."""
    assert settings(advertised_url="http://10.1.2.3:6066").build_canonical_url() == "http://10.1.2.3:6066"
    assert settings(advertised_url="http://10.1.2.3:6066/").build_canonical_url() == "http://10.1.2.3:6066"


@pytest.mark.parametrize(
    ("listens", "url"),
    [
        ("127.0.0.1", "http://127.0.0.1:6066"),
        ("::1", "http://[::1]:6066"),
        ("0.0.0.0", f"http://{socket.gethostname()}:6066"),
        ("::", f"http://{socket.gethostname()}:6066"),
    ],
)
def test_without_an_advertised_url_the_canonical_url_is_the_listen_address(listens: str, url: str) -> None:
    """If the worker listens on all addresses, the URL contains the machine's name."""
    assert settings(listen_host=listens).build_canonical_url() == url


@pytest.mark.parametrize("url", ["10.1.2.3:6066", "ftp://a:1", "http://"])
def test_an_invalid_advertised_url_raises(url: str) -> None:
    """The pages of other workers link to this URL."""
    with pytest.raises(ValidationError):
        settings(advertised_url=url)


def test_the_timeout_of_stalls_is_longer_than_two_commits() -> None:
    """Stalls are detected by commits, so a worker must have the time for two of them."""
    with pytest.raises(ValidationError):
        settings(stuck_after_s=5.9)
