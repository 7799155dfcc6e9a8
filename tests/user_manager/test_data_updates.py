"""Accounts whose time zone an update of the zones' database has taken away."""

import pytest

from tests.user_manager.apps import build_app
from tests.user_manager.conftest import Service
from user_manager.addresses import Address


@pytest.mark.parametrize("zone", ["America/Godthab_Gone", "US/Pacific-New", "Asia/Hanoi_Gone"])
def test_an_account_with_a_zone_that_is_gone_stays_in_its_owners_hands(service: Service, zone: str) -> None:
    """It can be read, changed (also to another zone) and mailed; only that zone cannot be chosen anew."""
    registration = service.registrations.register(Address("ann@example.org"), "Ann", zone, None)
    client = build_app(service).test_client()
    headers = {"Authorization": f"Bearer {registration.token}", "If-Match": "*"}
    path = "/users/ann@example.org"
    shown = client.get(path, headers=headers)
    assert (shown.status_code, (shown.json or {})["user"]["time_zone"]) == (200, zone)
    (contact,) = service.accounts.load_contacts([str(registration.account.user_id)])
    assert contact.account.time_zone == zone
    assert client.patch(path, json={"name": "Anna"}, headers=headers).status_code == 200
    assert client.patch(path, json={"time_zone": zone}, headers=headers).status_code == 422
    assert client.patch(path, json={"time_zone": "Europe/Rome"}, headers=headers).status_code == 200
