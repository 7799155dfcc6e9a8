"""What a service built on Faust is told by its environment."""

import socket
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from chassis.faust.settings import StreamSettings


def settings(**changes: Any) -> StreamSettings:
    values = {"kafka_bootstrap_servers": "a:1,b:2", "web_port": 6066, "data_dir": Path("data")}
    return StreamSettings(**(values | changes))


@pytest.mark.parametrize("servers", ["kafka", "kafka:9092,other:9093", "[::1]:9092", "10.0.0.1:1"])
def test_servers_are_hosts_and_ports(servers: str) -> None:
    """A port may be left out."""
    assert settings(kafka_bootstrap_servers=servers).kafka_bootstrap_servers == servers


@pytest.mark.parametrize("servers", ["a:b", "kafka://a:1", ":9092", "a:1,,b:2", "a:0", "a:70000", "a b:1", "u@a:1"])
def test_servers_that_cannot_be_are_refused(servers: str) -> None:
    """Else they would be waited for, or end the process with a stack trace."""
    with pytest.raises(ValidationError, match="must be a list of host:port"):
        settings(kafka_bootstrap_servers=servers)


def test_a_worker_is_found_where_it_says() -> None:
    """In Kubernetes it listens on all addresses, and only its environment knows under which one others reach it."""
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
def test_else_it_is_found_where_it_listens(listens: str, url: str) -> None:
    """All addresses are none that another machine could call."""
    assert settings(listen_host=listens).build_canonical_url() == url


@pytest.mark.parametrize("url", ["10.1.2.3:6066", "ftp://a:1", "http://"])
def test_what_is_no_url_is_refused(url: str) -> None:
    """The pages of other workers would send people there."""
    with pytest.raises(ValidationError):
        settings(advertised_url=url)


def test_a_stall_is_longer_than_what_passes_between_commits() -> None:
    """A worker that is judged by its commits must have had the time for two."""
    with pytest.raises(ValidationError):
        settings(stuck_after_s=5.9)
