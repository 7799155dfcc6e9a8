"""The numbers of dead letters in a list, by source topic and reason, and how they are shown. Pure."""

import json
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from notifier.dead_letters.dead_letter import DeadLetterEntry
from notifier.dead_letters.decoding import escape_unprintable

_TRIES: Final = re.compile(r"\bafter \d+ tries\b", re.ASCII)


@dataclass(frozen=True, slots=True)
class DeadLetterCounts:
    """The numbers of dead letters in a list (in all, requeued, repeated, by topic and reason), as text or JSON."""

    letters: int
    """In all."""
    requeued: int
    """Dead letters with a note that they were requeued."""
    repeated: int
    """Dead letters that were not requeued, and of which a later dead letter holds an alert, too."""
    by_reason: Mapping[tuple[str, str], int]
    """By source topic (empty: unknown) and reason, the most frequent first."""

    def __str__(self) -> str:
        if not self.letters:
            return "no dead letters"
        lines = [
            f"dead letters: {self.letters:,}; requeued: {self.requeued:,}; again in a later one: {self.repeated:,}"
        ]
        for (topic, reason), number in self.by_reason.items():
            lines.append(escape_unprintable(f"{number:>8,}  {topic or 'unknown'}  {reason}"))
        return "\n".join(lines)

    def to_json(self) -> str:
        """Return the counts as one line of JSON for programs."""
        return json.dumps(
            {
                "letters": self.letters,
                "requeued": self.requeued,
                "again": self.repeated,
                "by_reason": [
                    {"source_topic": topic or None, "reason": reason, "letters": number}
                    for (topic, reason), number in self.by_reason.items()
                ],
            }
        )


def count_dead_letters(entries: Sequence[DeadLetterEntry]) -> DeadLetterCounts:
    """Count dead letters: in all, requeued, repeated, and by source topic and reason.

    Reasons that differ only in the number of tries are counted as one, "after N tries".
    """
    reasons = Counter(
        (each.dead_letter.source_topic, _TRIES.sub("after N tries", each.dead_letter.reason)) for each in entries
    )
    return DeadLetterCounts(
        letters=len(entries),
        requeued=sum(each.requeued_at is not None for each in entries),
        repeated=sum(each.requeued_at is None and each.repeated_in is not None for each in entries),
        by_reason=dict(reasons.most_common()),
    )
