"""A mail server that fails in every way and every phase, by a seeded script, until the storm ends."""

import random
import ssl
import threading
import time
from collections import Counter
from collections.abc import Iterable, Mapping
from datetime import timedelta
from pathlib import Path
from typing import Final

from tests.fakes.smtp_server import (
    ACCEPT_THEN_CLOSE,
    ACCEPT_THEN_STALL,
    HANG_UP,
    RESET,
    STALL,
    FakeSmtpServer,
)
from tests.fakes.tls import server_context
from tests.faults.notifier_users import Refusal

LOGIN: Final = ("towerwatch", "right")

SLOWLY: Final = "<slowly>"
"""A prefix of an answer or action: wait a second or so before it. Alone: wait before the usual answer."""
OTHER_CERTIFICATE: Final = "<other certificate>"
"""Instead of the handshake: a handshake with a certificate that the client does not trust."""
EXPIRED_CERTIFICATE: Final = "<expired certificate>"

_BEFORE_A_MAIL: Final = {
    "CONNECT": (HANG_UP, RESET, "421 4.3.2 busy", "554 5.7.1 not you", "nonsense", SLOWLY, STALL),
    "EHLO": (HANG_UP, RESET, "421 4.3.2 busy", "550 5.7.1 not you", SLOWLY, STALL),
    "STARTTLS": (HANG_UP, RESET, "454 4.7.0 not now", SLOWLY),
    "HANDSHAKE": (HANG_UP, RESET, OTHER_CERTIFICATE, EXPIRED_CERTIFICATE, SLOWLY, STALL),
    "AUTH": (HANG_UP, RESET, "421 4.3.2 busy", "454 4.7.0 not now", "535 5.7.8 wrong", SLOWLY, STALL),
    "MAIL": (HANG_UP, RESET, "421 4.3.2 busy", "451 4.3.0 later", "452 4.3.1 full", "550 5.7.1 not you", SLOWLY),
}
_USUAL_BETWEEN: Final = 20
"""The number of usual answers for each fault: with more faults the circuit would be open, and no mail tried."""

_FOR_NOW: Final = {
    "RCPT": (
        HANG_UP, RESET, "421 4.7.0 slow down", "450 4.2.1 busy", "450", "451 4.7.0 grey", "452 4.2.2 full",
        "550 relay not permitted", "554 5.7.1 Relay access denied", "550 Sender verify failed", "552 quota exceeded",
    ),
    "DATA": (HANG_UP, RESET, "421 4.3.2 busy", "451 4.3.0 later", "452", "554 5.7.1 policy", "554", SLOWLY),
    "CONTENT": (
        "421 4.3.2 busy", "450 4.2.0 later", "451 4.7.0 grey", "452 4.3.1 full", "535 5.7.8 log in", RESET,
        "550 5.4.5 daily sending quota exceeded", "554 5.6.0 bad", "552 5.3.4 big",
        SLOWLY, ACCEPT_THEN_CLOSE, SLOWLY + ACCEPT_THEN_CLOSE,
    ),
}  # fmt: skip
_MAILS_OF_A_STORM: Final = 4
"""The number of each user's mails over which the faults are spread."""

_TAKEN: Final = (ACCEPT_THEN_CLOSE, ACCEPT_THEN_STALL)
_CERTIFICATES: Final = (OTHER_CERTIFICATE, EXPIRED_CERTIFICATE)


class StormyServer(FakeSmtpServer):
    """A `FakeSmtpServer` with STARTTLS and login that rejects some users permanently, and all others now and then."""

    def __init__(self, folder: Path, chance: random.Random, refusals: Mapping[str, Refusal]) -> None:
        """`refusals`: the permanent rejections by address. Writes certificates into `folder`."""
        self._certificates = threading.local()
        self._others = {
            OTHER_CERTIFICATE: _context(folder / "other"),
            EXPIRED_CERTIFICATE: _context(folder / "expired", hours=-1),
        }
        tls, self.ca_file = server_context(folder)
        tls.sni_callback = self._choose_certificate
        super().__init__(tls, "starttls", LOGIN, ("PIPELINING", "SIZE 10000000", "8BITMIME"))
        self._chance = chance
        self._refusals = refusals
        self._told = threading.Lock()
        self._planned: Counter[str] = Counter()
        self.lost_after_data: Counter[str] = Counter()
        """How many mails it took without saying so, by address."""

    def begin_storm(self, addresses: Iterable[str]) -> None:
        """Write the script of faults for these addresses."""
        chance = self._chance
        for command, faults in _BEFORE_A_MAIL.items():
            mixed: list[str | None] = [*faults, *([None] * (_USUAL_BETWEEN * len(faults)))]
            self.script[command] = _shuffled(chance, mixed)
        for address in addresses:
            for command, faults in _FOR_NOW.items():
                # A user who is rejected permanently must receive no mail, not even an unconfirmed one.
                some = [each for each in faults if address not in self._refusals or not each.endswith(_TAKEN)]
                answers: list[str | None] = [*chance.choices(some, k=chance.choice((0, 0, 1, 2)))]
                answers += [None] * (_MAILS_OF_A_STORM - len(answers))
                self.script_for[address][command] = _shuffled(chance, answers)
        for command in ("RCPT", "DATA"):
            self.script_for[chance.choice(sorted(self.script_for))][command].insert(0, STALL)
        self._planned = self._faults_to_come()

    def end_storm(self) -> dict[str, float]:
        """Remove all faults but the permanent rejections; return the share of the script's faults that happened, by
        phase."""
        with self._told:
            left = self._faults_to_come()
            self.script.clear()
            self.script_for.clear()
        return {phase: 1 - left[phase] / count for phase, count in self._planned.items()}

    def _faults_to_come(self) -> Counter[str]:
        """Return the number of faults that have not happened yet, by phase."""
        scripts = (self.script, *self.script_for.values())
        return Counter(phase for script in scripts for phase in script for fault in script[phase] if fault is not None)

    def next_reply(self, command: str, address: str | None = None) -> str | None:
        """Return the next answer of the script to a command; None: the usual answer."""
        with self._told:
            said = super().next_reply(command, address)
        if said is not None and said.startswith(SLOWLY):
            time.sleep(1.2)
            said = said.removeprefix(SLOWLY) or None
        if said in _CERTIFICATES:
            self._certificates.next = said
            return None
        if said is None and address is not None and address in self._refusals:
            refusal = self._refusals[address]
            return refusal.answer if refusal.command == command else None
        if address is not None and said in _TAKEN:
            with self._told:
                self.lost_after_data[address] += 1
        return said

    def _choose_certificate(self, connection: ssl.SSLObject, _name: str | None, _context: ssl.SSLContext) -> None:
        """Replace the certificate during a handshake if `next_reply` chose another; runs in the thread of that
        connection."""
        chosen = getattr(self._certificates, "next", None)
        self._certificates.next = None
        if chosen is not None:
            connection.context = self._others[chosen]


def _context(folder: Path, hours: int = 1) -> ssl.SSLContext:
    folder.mkdir()
    context, _ = server_context(folder, valid_for=timedelta(hours=hours))
    return context


def _shuffled(chance: random.Random, answers: Iterable[str | None]) -> list[str | None]:
    mixed = list(answers)
    chance.shuffle(mixed)
    return mixed
