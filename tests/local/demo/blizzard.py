"""The alerts that Towerwatch must mail for the blizzard Nemo, 8 to 10 February 2013."""

JFK = """
high FIRING 02-08T00 24, high RESOLVED 02-08T01 15, low FIRING 02-08T06 0, low RESOLVED 02-08T10 7,
high FIRING 02-08T13 30, high RESOLVED 02-08T14 14, low FIRING 02-08T23 0, low RESOLVED 02-09T14 1,
low FIRING 02-09T15 0, low RESOLVED 02-09T17 5, high FIRING 02-09T22 22, high RESOLVED 02-09T23 16,
high FIRING 02-10T00 22, high RESOLVED 02-10T01 10, low FIRING 02-10T05 0, low RESOLVED 02-10T10 4,
high FIRING 02-10T13 28, high RESOLVED 02-10T14 18, high FIRING 02-10T20 23
"""
"""KJFK:departures:1h:high=20:low=1"""

BOS = "low FIRING 02-09T00 0, low RESOLVED 02-10T00 21"
"""KBOS:arrivals:1d:low=10"""


def parse_alerts(text: str) -> list[tuple[str, str, str, int]]:
    """Parse the alerts into bound, state, window start (ISO 8601) and count."""
    rows = [row.split() for row in text.replace("\n", " ").split(",")]
    return [(bound, state, f"2013-{start}:00:00Z", int(count)) for bound, state, start, count in rows]
