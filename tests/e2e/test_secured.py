"""The whole demo on a broker that insists on TLS and SASL: each client of each service connects so."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from local.processes import ROOT
from tests.e2e.test_demo import port_base
from tests.fakes.secured_broker import PASSWORD, USERNAME, SecuredBroker

__all__ = ["port_base"]


@pytest.mark.faults
def test_the_demo_is_exact_on_a_broker_with_tls_and_sasl(tmp_path: Path, port_base: int) -> None:
    """Every expected mail comes, and no other; no client of ours knows another way to that broker."""
    broker = SecuredBroker(tmp_path / "kafka", topics=())
    broker.start()
    try:
        done = subprocess.run(
            [
                *(sys.executable, "-m", "local.demo", "--once", "--settled"),
                *("--port-base", str(port_base), "--data", str(tmp_path / "demo")),
            ],
            cwd=ROOT,
            env={
                **os.environ,
                "KAFKA_BOOTSTRAP_SERVERS": broker.secured,
                "KAFKA_SECURITY_PROTOCOL": "SASL_SSL",
                "KAFKA_USERNAME": USERNAME,
                "KAFKA_PASSWORD": PASSWORD,
                "KAFKA_CA_FILE": str(broker.authority),
            },
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=550,
            check=False,
        )
    finally:
        broker.stop()
    assert done.returncode == 0, done.stdout + done.stderr
    assert "every expected mail came, and no other" in done.stdout
