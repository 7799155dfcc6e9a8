"""The machine's proxy variables in tests: removed, or set to what a test tries."""

import os
from collections.abc import Mapping

import pytest

SPELLINGS = ("http_proxy", "https_proxy", "all_proxy", "no_proxy", "grpc_proxy", "no_grpc_proxy", "ftp_proxy")


def leave_this_machine_direct() -> None:
    """Keep the tests' own requests to this machine away from a proxy that the shell has set.

    Downloads still take it, except a SOCKS proxy, which no client here supports.
    """
    for name in [name for name in os.environ if name.lower() in SPELLINGS]:
        if os.environ[name].lower().startswith("socks"):
            del os.environ[name]
    for name in ("no_proxy", "NO_PROXY"):
        given = os.environ.get(name)
        os.environ[name] = ",".join([*([given] if given else []), "127.0.0.1", "localhost", "::1"])


def set_proxies(monkeypatch: pytest.MonkeyPatch, variables: Mapping[str, str]) -> None:
    """Set these proxy variables for the test, and no others, in whatever spelling."""
    for name in [name for name in os.environ if name.lower() in SPELLINGS]:
        monkeypatch.delenv(name)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
