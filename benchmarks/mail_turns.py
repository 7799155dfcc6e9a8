"""`python -m benchmarks.mail_turns COMMIT`: writing mails in this working copy beside that of another commit.

The other commit gets a working tree and an environment of its own in a temporary folder. Then both take turns: a new
process writes mails to their last byte, and prints the least processor time of a mail in five rounds of a hundred.
Printed is the least of all turns, and its ratio to the other commit's: more than 1 is faster.

- `one alert`: those of `benchmarks.mails`: 24 airports, three levels and four time zones, with a chart;
- `five alerts, as many are told`: those of `benchmarks.nightly`: three airports and charts, and only seven different
  nights, so that many people are told the same;
- `five alerts, as nobody else is told`: the same, but no two people have the same counts, so each chart is drawn anew.
"""

import sys
from typing import Final

from benchmarks.streams.figures import report
from benchmarks.turns import compare_with_commit

NAME: Final = "mail_turns"
_WRITE: Final = """
import json, time
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from uuid import UUID
from benchmarks import mails
from domain.alerts import Alert, AlertState, Bound
from domain.interests import Direction
from domain.windows import Window
from notifier.mail import compose_alerts_mail

NOW, MAILS = datetime(2026, 11, 1, 5, tzinfo=UTC), 100

def compose_five(person, kind):
    night = []
    for number in range(5):
        level, interest = 20 + person % 7, UUID(int=(person << 8) + number % 3 + 1)
        alert_id, user = UUID(int=(person << 8) + number + 1), UUID(int=(7 << 64) + person)
        earlier = [(kind % 7 + hour * 5) % level for hour in range(12)]
        if kind >= 7:
            earlier[:5] = [kind // 20**place % 20 for place in range(5)]
        night.append(Alert(
            alert_id=alert_id, interest_id=interest, user_id=user, version=1,
            airport=("KJFK", "LICC", "EGLL")[number % 3], direction=Direction.DEPARTURES, window=Window.ONE_HOUR,
            window_start=NOW.replace(hour=0) - timedelta(hours=5 - number), bound=Bound.HIGH, state=AlertState.FIRING,
            count=level + 1 + number, threshold=level, for_windows=1, earlier=tuple(earlier), episode_id=alert_id,
        ))
    contact = replace(
        mails._READER, user_id=user, email=f"u{person}@example.net", name=f"Ada {person}", time_zone="America/New_York",
        unsubscribe_url=f"https://towerwatch.example/unsubscribe?u={person}",
    )
    return compose_alerts_mail(night, contact, mails.SENDER, NOW, NOW)

least = {}
for what, compose in {
    "one alert": mails._build_alert_mail,
    "five alerts, as many are told": lambda person: compose_five(person, person % 7),
    "five alerts, as nobody else is told": lambda person: compose_five(person, person + 7),
}.items():
    for number in range(5 * MAILS, 6 * MAILS):
        compose(number).as_bytes()
    for at in range(5):
        began = time.process_time()
        for number in range(at * MAILS, (at + 1) * MAILS):
            compose(number).as_bytes()
        took = (time.process_time() - began) / MAILS
        least[what] = min(least.get(what, took), took)
print(json.dumps(least))
"""
"""The program of one turn. It is run in either tree, so it may only use what both have."""


def main() -> int:
    """Let both trees write in turn, and report mails per second of processor time of both; return 0."""
    other, own = compare_with_commit(NAME, __doc__, _WRITE)
    for what in own:
        base = f"the other commit, {what}", 1 / other[what]
        report(NAME, base[0], base[1], "mails/s")
        report(NAME, f"this one, {what}", 1 / own[what], "mails/s", base)
    return 0


if __name__ == "__main__":
    sys.exit(main())
