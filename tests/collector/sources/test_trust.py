"""The certificate authorities of the clients of sources: read once for all of them."""

import certifi
import pytest

from collector.sources.trust import get_trust


def test_all_clients_share_the_authorities_until_others_are_chosen(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each call returns the same authorities; another file in SSL_CERT_FILE is read, and the first one is kept."""
    monkeypatch.delenv("SSL_CERT_FILE", raising=False)
    usual = get_trust()
    assert get_trust() is usual
    monkeypatch.setenv("SSL_CERT_FILE", certifi.where())
    others = get_trust()
    assert others is not usual
    assert others.get_ca_certs()
    monkeypatch.delenv("SSL_CERT_FILE")
    assert get_trust() is usual
