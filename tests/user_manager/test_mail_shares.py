"""Whatever one network does, the others get their account mails: the bound on all mails is shared by network."""

import itertools
from collections import Counter
from functools import cache
from ipaddress import ip_address, ip_network

import pytest
from hypothesis import given, strategies as st

from chassis.clients import find_networks_around, identify_client
from tests.user_manager.conftest import Service
from user_manager.addresses import Address
from user_manager.errors import TooManyMailsError
from user_manager.mailbox_limits import MailRates, SuppressionReason, has_room

PER_CLIENT = 30


@cache
def find_path(address: str) -> tuple[str, ...]:
    """Return the client of an address, the networks around it from narrow to wide, and "all"."""
    client = identify_client(address)
    return (client, *find_networks_around(client), "all")


class Counts:
    """The counts of one hour, as `MailboxLimits` keeps them, but in memory."""

    def __init__(self, in_all: int) -> None:
        self.in_all = in_all
        self.counts: Counter[str] = Counter()

    def ask(self, address: str) -> bool:
        """Ask for one mail from an address; return True if it was admitted, and count it."""
        path = find_path(address)
        counts = [self.counts[each] for each in reversed(path)]
        if self.counts[path[0]] >= PER_CLIENT or not has_room(self.in_all, counts):
            return False
        self.counts.update(path)
        return True

    def exhaust(self, addresses: list[str]) -> int:
        """Ask from each address in turn until all are refused; return the number that was admitted."""
        return sum(sum(itertools.takewhile(bool, map(self.ask, itertools.repeat(each)))) for each in addresses)


def pick_hosts(network: str, prefix: int, seed: int, number: int) -> list[str]:
    """Return that many addresses of a network, in other subnetworks of that prefix as far as there are so many."""
    whole = ip_network(network)
    step, hosts = 1 << (whole.max_prefixlen - prefix), 1 << (prefix - whole.prefixlen)
    first = int(whole.network_address)
    return [str(ip_address(first + (seed + each * 7919) % hosts * step)) for each in range(number)]


@pytest.mark.parametrize(
    ("client", "networks"),
    [
        ("192.0.2.7", ["192.0.2.0/24", "192.0.0.0/16"]),
        ("2001:db8:1:2::/64", ["2001:db8:1::/56", "2001:db8:1::/48", "2001:db8::/32"]),
        ("", []),
        ("unix", []),
    ],
)
def test_the_networks_around_a_client(client: str, networks: list[str]) -> None:
    """They go from narrow to wide, as registries and providers give them away."""
    assert find_networks_around(client) == networks


@given(
    in_all=st.integers(8, 3000),
    outer=st.sampled_from([("2001:db8::/32", 64), ("2001:db8::/32", 48), ("198.51.0.0/16", 32), ("198.51.0.0/16", 24)]),
    seed=st.integers(0, 1 << 30),
    newcomer=st.sampled_from(["2001:db9::1", "203.0.113.9", "2a00:1450::7"]),
)
def test_one_network_leaves_most_to_others(in_all: int, outer: tuple[str, int], seed: int, newcomer: str) -> None:
    """Whoever asks from all over a /32, or a /16 of IPv4, gets 27 % at most, and another gets half as many as without.

    Brute force: the attacker asks from 64 subnetworks until each is refused.
    """
    hour = Counts(in_all)
    taken = hour.exhaust(pick_hosts(*outer, seed, 64))
    assert taken <= 0.27 * in_all + 1
    assert hour.ask(newcomer)
    assert hour.exhaust([newcomer]) + 1 >= Counts(in_all).exhaust([newcomer]) // 2


@given(
    attackers=st.integers(1, 80),
    family=st.sampled_from(["v4", "v6", "both"]),
    seed=st.integers(0, 1 << 30),
)
def test_many_networks_together_leave_something(attackers: int, family: str, seed: int) -> None:
    """Also eighty networks of that size, with twelve clients each, leave the first mail to one that is new."""
    hour = Counts(1000)
    for number in range(attackers):
        wide = f"10.{number % 256}.0.0/16" if family == "v4" or (family == "both" and number % 2) else None
        network = wide or f"2001:{0xD00 + number:x}::/32"
        hour.exhaust(pick_hosts(network, 32 if wide else 64, seed, 12))
    assert hour.ask("203.0.113.9")
    assert hour.ask("2a00:1450::7")


@given(
    held=st.sampled_from(
        [
            ("2001:db8:5::/48", 64, "2001:db8:6::1"),
            ("2001:db8:5:600::/56", 64, "2001:db8:5:700::1"),
            ("2001:db8:5:6::/64", 64, "2001:db8:5:7::1"),
            ("198.51.100.0/24", 32, "198.51.101.1"),
            ("198.51.100.7/32", 32, "198.51.100.8"),
        ]
    ),
    in_all=st.integers(400, 3000),
    seed=st.integers(0, 1 << 30),
)
def test_a_neighbour_is_not_refused_for_one_network(held: tuple[str, int, str], in_all: int, seed: int) -> None:
    """Within a provider or a site the same holds: one subnetwork, whatever it does, leaves something to the next."""
    network, prefix, neighbour = held
    hour = Counts(in_all)
    hour.exhaust(pick_hosts(network, prefix, seed, 40))
    assert hour.ask(neighbour)


@given(in_all=st.integers(1, 3000), counts=st.lists(st.integers(0, 500), max_size=4))
def test_no_more_than_all_are_admitted(in_all: int, counts: list[int]) -> None:
    """There is no room for a network where there is none in all; and a fresh network has room wherever there is."""
    assert not has_room(in_all, [in_all, *counts])
    assert has_room(in_all, [in_all - 1, *(0 for _ in counts)])


def test_a_large_allocation_keeps_nobody_from_registering(service: Service) -> None:
    """34 networks of /64 of one /48, each below its own limit, used up the hour of all; now others register.

    All replicas count together; what was refused counts for nobody.
    """
    rates = MailRates(per_client=30, in_all=34)
    replicas = itertools.cycle([Service(service.database, service.interests, service.clock, rates) for _ in range(2)])
    admitted, waits = 0, []
    for number in range(34):
        client = identify_client(f"2001:db8:1:{number:x}::1")
        try:
            next(replicas).registrations.register(Address(f"a{number}@example.org"), "A", "UTC", None, client)
        except TooManyMailsError as error:
            waits.append(error.retry_after_s)
        else:
            admitted += 1
    assert 0 < admitted <= 34 / 8 + 1
    assert all(0 < wait <= 3600 for wait in waits)
    for number, client in enumerate(("2001:db8:2::/64", "2001:db9::/64", "192.0.2.1", "198.51.100.7")):
        next(replicas).registrations.register(Address(f"b{number}@example.org"), "B", "UTC", None, client)
    labels = {"reason": SuppressionReason.NETWORK_LIMIT, "service": "user_manager", "node": "local"}
    refused = [
        each.metrics.registry.get_sample_value("account_mails_suppressed_total", labels)
        for each in itertools.islice(replicas, 2)
    ]
    assert sum(each or 0 for each in refused) == 34 - admitted
