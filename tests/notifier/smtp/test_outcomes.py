"""Classification of the server's replies: every code that matters, in every phase, and all others."""

import pytest
from hypothesis import given, strategies as st

from notifier.errors import (
    FailureReason,
    HardBounce,
    LostAfterData,
    MailServerUnavailable,
    PermanentlyRefused,
    SendingSideRefused,
    TemporarilyRefused,
    UnprovenBounce,
)
from notifier.smtp.outcomes import RULES, Disposition, EnhancedCode, Phase, classify

OPENING = (Phase.CONNECT, Phase.EHLO, Phase.STARTTLS, Phase.AUTH)
ABOUT_A_MAIL = (Phase.RCPT, Phase.DATA, Phase.CONTENT)
phases = st.sampled_from(Phase)
enhanceds = st.none() | st.tuples(st.sampled_from((2, 4, 5)), st.integers(0, 999), st.integers(0, 999))


def parse_reply(text: str) -> tuple[int, EnhancedCode | None]:
    """Return the reply code and the enhanced code (or None) of a text like "550 5.1.1"."""
    code, _, dotted = text.partition(" ")
    first, second, third = map(int, dotted.split(".")) if dotted else (0, 0, 0)
    return int(code), (first, second, third) if dotted else None


@pytest.mark.parametrize(
    ("phase", "reply", "disposition", "reason"),
    [
        ("mail", "450", "server", "busy"),
        ("mail", "450 4.7.1", "server", "busy"),
        ("mail", "451 4.3.0", "server", "busy"),
        ("mail", "452 4.3.1", "server", "storage"),
        ("mail", "500 5.5.2", "server", "protocol"),
        ("mail", "501 5.1.7", "server", "sender"),
        ("mail", "503 5.5.1", "server", "protocol"),
        ("mail", "550", "server", "sender"),
        ("mail", "550 5.7.1", "server", "sender"),
        ("mail", "553 5.1.8", "server", "sender"),
        ("mail", "555", "server", "sender"),
        ("mail", "552", "sending_side", "too_large"),
        ("mail", "552 5.3.4", "sending_side", "too_large"),
        ("mail", "554 5.3.4", "sending_side", "too_large"),
        ("mail", "550 5.6.7", "permanent", "address"),
        ("rcpt", "450", "temporary", "mailbox_busy"),
        ("rcpt", "450 4.2.0", "temporary", "mailbox_busy"),
        ("rcpt", "450 4.7.1", "temporary", "policy_later"),
        ("rcpt", "451", "temporary", "put_off"),
        ("rcpt", "451 4.7.0", "temporary", "policy_later"),
        ("rcpt", "451 4.3.5", "temporary", "put_off"),
        ("rcpt", "452", "temporary", "storage"),
        ("rcpt", "452 4.2.2", "temporary", "mailbox_full"),
        ("rcpt", "452 4.3.1", "temporary", "storage"),
        ("rcpt", "452 4.5.3", "temporary", "put_off"),
        ("rcpt", "455", "temporary", "put_off"),
        ("rcpt", "500", "permanent", "protocol"),
        ("rcpt", "501", "permanent", "protocol"),
        ("rcpt", "501 5.1.3", "hard_bounce", "mailbox_unknown"),
        ("rcpt", "503 5.5.1", "temporary", "protocol"),
        ("rcpt", "550", "unproven", "unproven"),
        ("rcpt", "550 5.1.1", "hard_bounce", "mailbox_unknown"),
        ("rcpt", "554 5.1.1", "hard_bounce", "mailbox_unknown"),
        ("rcpt", "550 5.1.2", "hard_bounce", "mailbox_unknown"),
        ("rcpt", "550 5.1.6", "hard_bounce", "mailbox_unknown"),
        ("rcpt", "550 5.1.10", "hard_bounce", "mailbox_unknown"),
        ("rcpt", "550 5.2.1", "hard_bounce", "mailbox_unknown"),
        ("rcpt", "551", "unproven", "unproven"),
        ("rcpt", "553", "unproven", "unproven"),
        ("rcpt", "556 5.1.10", "hard_bounce", "mailbox_unknown"),
        ("rcpt", "550 5.1.0", "sending_side", "refused"),
        ("rcpt", "550 5.1.8", "server", "sender"),
        ("rcpt", "553 5.1.7", "server", "sender"),
        ("rcpt", "550 5.7.1", "sending_side", "policy"),
        ("rcpt", "554 5.7.1", "sending_side", "policy"),
        ("rcpt", "550 5.7.26", "sending_side", "policy"),
        ("rcpt", "552", "sending_side", "quota"),
        ("rcpt", "552 5.2.2", "permanent", "mailbox_full"),
        ("rcpt", "552 5.2.3", "permanent", "too_large"),
        ("rcpt", "553 5.6.7", "permanent", "address"),
        ("rcpt", "554", "sending_side", "refused"),
        ("rcpt", "555 5.5.4", "permanent", "protocol"),
        ("data", "450", "temporary", "put_off"),
        ("data", "451", "temporary", "put_off"),
        ("data", "452", "temporary", "storage"),
        ("data", "503 5.5.1", "temporary", "protocol"),
        ("data", "550", "sending_side", "policy"),
        ("data", "552", "sending_side", "too_large"),
        ("data", "554", "sending_side", "refused"),
        ("data", "554 5.7.1", "sending_side", "policy"),
        ("data", "250", "temporary", "protocol"),
        ("content", "450 4.2.0", "temporary", "put_off"),
        ("content", "451 4.7.0", "temporary", "policy_later"),
        ("content", "452 4.2.2", "temporary", "mailbox_full"),
        ("content", "452", "temporary", "storage"),
        ("content", "550", "sending_side", "policy"),
        ("content", "550 5.7.26", "sending_side", "policy"),
        ("content", "550 5.1.1", "permanent", "mailbox_unknown"),
        ("content", "552", "sending_side", "too_large"),
        ("content", "552 5.2.2", "permanent", "mailbox_full"),
        ("content", "552 5.3.4", "sending_side", "too_large"),
        ("content", "554", "sending_side", "refused"),
        ("content", "554 5.6.0", "sending_side", "content"),
        ("content", "550 5.1.8", "server", "sender"),
        ("content", "550 5.2.1", "permanent", "mailbox_unknown"),
        ("rcpt", "454 4.7.1", "temporary", "relay"),
        ("rcpt", "550 5.4.5", "sending_side", "quota"),
        ("rcpt", "550 5.1.90", "sending_side", "quota"),
        ("content", "354", "unknown", "lost_after_data"),
    ],
)
def test_a_reply_about_a_mail_is_classified(phase: str, reply: str, disposition: str, reason: str) -> None:
    """A reply has the meaning that the RFC named in its rule gives it."""
    code, enhanced = parse_reply(reply)
    outcome = classify(Phase(phase), code, enhanced)
    assert (outcome.disposition, outcome.reason) == (disposition, reason)


@pytest.mark.parametrize("phase", Phase)
@pytest.mark.parametrize(
    ("reply", "reason"),
    [("421", "busy"), ("421 4.7.0", "busy"), ("535 5.7.8", "authentication"), ("534 5.7.9", "authentication"),
     ("538 5.7.11", "authentication"), ("432 4.7.12", "authentication"), ("521", "not_welcome")],
)  # fmt: skip
def test_a_reply_about_server_or_login_concerns_all_mails(phase: Phase, reply: str, reason: str) -> None:
    """These replies concern all mails in every phase."""
    outcome = classify(phase, *parse_reply(reply))
    assert (outcome.disposition, outcome.reason) == (Disposition.SERVER, reason)


@pytest.mark.parametrize("phase", Phase)
@pytest.mark.parametrize("code", [530, 454])
def test_codes_530_and_454_mean_tls_or_login(phase: Phase, code: int) -> None:
    """The phase decides between TLS (RFC 3207) and authentication (RFC 4954), which share these codes."""
    outcome = classify(phase, code)
    assert outcome.disposition is Disposition.SERVER
    assert outcome.reason is (FailureReason.TLS if phase is Phase.STARTTLS else FailureReason.AUTHENTICATION)


@pytest.mark.parametrize("phase", OPENING)
@given(code=st.integers(100, 599), enhanced=enhanceds)
def test_a_failure_before_any_mail_concerns_all_mails(phase: Phase, code: int, enhanced: EnhancedCode | None) -> None:
    """Also 554 as the greeting: the server refuses this client, or all clients."""
    assert classify(phase, code, enhanced).disposition is Disposition.SERVER


@pytest.mark.parametrize(
    ("phase", "disposition", "reason"),
    [
        ("connect", "server", "unreachable"),
        ("ehlo", "server", "unreachable"),
        ("starttls", "server", "tls"),
        ("auth", "server", "unreachable"),
        ("mail", "temporary", "lost"),
        ("rcpt", "temporary", "lost"),
        ("data", "temporary", "lost"),
        ("content", "unknown", "lost_after_data"),
    ],
)
def test_no_reply_is_classified_by_phase(phase: str, disposition: str, reason: str) -> None:
    """A missing reply means that the server may have accepted the mail only after the mail's last line."""
    outcome = classify(Phase(phase), None)
    assert (outcome.disposition, outcome.reason) == (disposition, reason)


@given(phases, st.none() | st.integers() | st.integers(0, 999), enhanceds)
def test_every_reply_is_classified(phase: Phase, code: int | None, enhanced: EnhancedCode | None) -> None:
    """Any phase and reply give an outcome, and an error of the same meaning."""
    outcome = classify(phase, code, enhanced)
    error = outcome.to_error()
    errors = {
        Disposition.TEMPORARY: TemporarilyRefused,
        Disposition.PERMANENT: PermanentlyRefused,
        Disposition.HARD_BOUNCE: HardBounce,
        Disposition.UNPROVEN: UnprovenBounce,
        Disposition.SENDING_SIDE: SendingSideRefused,
        Disposition.SERVER: MailServerUnavailable,
        Disposition.UNKNOWN: LostAfterData,
    }
    assert type(error) is errors[outcome.disposition]
    assert error.reason is outcome.reason
    assert str(error) == outcome.text


@given(phases, st.integers(0, 999), enhanceds)
def test_only_5yz_replies_are_permanent(phase: Phase, code: int, enhanced: EnhancedCode | None) -> None:
    """Permanent needs 5yz; a hard bounce needs 5yz to RCPT; unknown is possible only after the content."""
    disposition = classify(phase, code, enhanced).disposition
    if disposition in (Disposition.PERMANENT, Disposition.HARD_BOUNCE):
        assert code // 100 == 5
        assert phase not in OPENING
    if disposition is Disposition.HARD_BOUNCE:
        assert phase is Phase.RCPT
        assert (enhanced is not None and enhanced[0] == 5) or code == 556
    if disposition is Disposition.UNPROVEN:
        assert (phase, code in (550, 551, 553), enhanced) == (Phase.RCPT, True, None)
    if disposition is Disposition.UNKNOWN:
        assert phase is Phase.CONTENT
        assert code // 100 not in (4, 5)


@given(st.sampled_from(ABOUT_A_MAIL), st.integers(400, 499), enhanceds)
def test_4yz_replies_are_retried(phase: Phase, code: int, enhanced: EnhancedCode | None) -> None:
    """The first digit of the reply code decides, whatever the enhanced code is (RFC 5321, 4.2.1)."""
    assert classify(phase, code, enhanced).disposition in (Disposition.TEMPORARY, Disposition.SERVER)


@given(phases, st.integers(200, 599), enhanceds)
def test_the_text_holds_no_words_of_the_server(phase: Phase, code: int, enhanced: EnhancedCode | None) -> None:
    """The text goes to logs and dead letters, which must not hold an address."""
    text = classify(phase, code, enhanced).text
    dotted = " " + ".".join(map(str, enhanced)) if enhanced else ""
    assert text.startswith("the server refused ")
    assert text.partition(": ")[2] == f"{code}{dotted}"


@pytest.mark.parametrize(
    ("phase", "code", "text"),
    [
        (Phase.RCPT, 550, "the server refused the recipient: 550 5.1.1"),
        (Phase.AUTH, 535, "the server refused our login: 535 5.1.1"),
        (Phase.CONTENT, None, "no answer from the server to the mail"),
        (Phase.CONNECT, None, "no answer from the server to the connection"),
        (Phase.AUTH, None, "no answer from the server to our login, or it offers none"),
        (Phase.STARTTLS, None, "no encryption with the server that can be trusted"),
    ],
)
def test_the_text_is_a_sentence_for_an_operator(phase: Phase, code: int | None, text: str) -> None:
    """An operator who reads a list of dead letters sees who refused what."""
    assert classify(phase, code, (5, 1, 1)).text == text


def test_each_rule_is_reachable() -> None:
    """No rule is hidden by the rules before it."""
    seen = set()
    details = [
        None,
        *((first, subject, detail) for first in (4, 5) for subject in range(8) for detail in range(13)),
        (5, 1, 90),
        (5, 2, 252),
    ]
    for phase in Phase:
        for code in (299, 499, 599, *(int(rule.code) for rule in RULES if rule.code.isdecimal())):
            for enhanced in details:
                seen.add(next((n for n, rule in enumerate(RULES) if rule.matches(phase, code, enhanced)), None))
    assert set(range(len(RULES))) <= seen
