"""Wires live collection from the settings: which feeds there are, and the clients that they ask."""

from collections.abc import Sequence
from dataclasses import dataclass

from chassis.clock import Clock
from chassis.db.database import Database
from chassis.metrics import Metrics
from collector.live.collection import LiveCollector
from collector.live.feeds import Feed
from collector.live.live_store import LiveStore, LoadDistrusted, distrust_none
from collector.live.metrics import LiveMetrics
from collector.live.opensky_feeds import OpenSkyFeed, OwnReceiversFeed
from collector.live.readsb_feeds import ReceiversFeed, ServicesFeed
from collector.settings import CollectorSettings
from collector.settled.quota import Bucket, QuotaStore
from collector.sources.opensky.connection import OpenSkyConnection
from collector.sources.opensky.states_client import OpenSkyStatesClient
from collector.sources.position_metrics import PositionMetrics
from collector.sources.readsb.client import ReadsbClient
from collector.sources.readsb.pace import HostPaces


@dataclass(frozen=True, slots=True)
class LiveCollection:
    """The wired parts of live collection: the collector, its feeds, their quota, and the clients to close."""

    collector: LiveCollector
    feeds: tuple[str, ...]
    """The names of the feeds, in their order."""
    quota: QuotaStore | None
    """Of the bucket for positions; None: OpenSky is not asked for them."""
    clients: Sequence[ReadsbClient]

    async def close(self) -> None:
        """Close the connections of the clients."""
        for client in self.clients:
            await client.close()


def build_live_collection(
    settings: CollectorSettings,
    database: Database,
    connection: OpenSkyConnection,
    clock: Clock,
    metrics: Metrics,
    load_distrusted: LoadDistrusted = distrust_none,
) -> LiveCollection:
    """Build the feeds that the settings describe; none if LIVE is off, or without an account and an address.

    `load_distrusted`: a query for the airports whose live coverage is not published.
    """
    shared = PositionMetrics(metrics)
    feeds: list[Feed] = []
    quota: QuotaStore | None = None
    if settings.asks_opensky_for_positions():
        quota = QuotaStore(settings.live_credits_per_day, Bucket.STATES)
        states = OpenSkyStatesClient(settings.opensky_url, connection, clock, metrics, shared)
        feeds.append(OpenSkyFeed(states, database, clock, quota, settings.live_credits_per_day))
        own = OpenSkyStatesClient(settings.opensky_url, connection, clock, metrics, shared, name="opensky-own")
        feeds.append(OwnReceiversFeed(own, clock))
    paces = HostPaces(clock)
    addresses = settings.live_addresses()
    clients = {each: ReadsbClient(each, clock, paces, shared) for each in addresses}
    if receivers := [client for address, client in clients.items() if not address.takes_region]:
        feeds.append(ReceiversFeed(receivers, clock))
    if services := [client for address, client in clients.items() if address.takes_region]:
        feeds.append(ServicesFeed(services, clock))
    store = LiveStore(database, clock, load_distrusted)
    collector = LiveCollector(database, clock, feeds, store, LiveMetrics(metrics, clock))
    return LiveCollection(collector, tuple(each.name for each in feeds), quota, tuple(clients.values()))
