"""What answers mean: every reply code and enhanced code that matters, in every phase, and all others."""

import pytest
from hypothesis import given, strategies as st

from notifier.errors import (
    FailureReason,
    HardBounce,
    LostAfterData,
    MailServerUnavailable,
    PermanentlyRefused,
    TemporarilyRefused,
)
from notifier.smtp.outcomes import TABLE, Enhanced, Kind, Phase, classify

ENTRY = (Phase.CONNECT, Phase.EHLO, Phase.STARTTLS, Phase.AUTH)
ABOUT_A_MAIL = (Phase.RCPT, Phase.DATA, Phase.CONTENT)
phases = st.sampled_from(Phase)
enhanceds = st.none() | st.tuples(st.sampled_from((2, 4, 5)), st.integers(0, 999), st.integers(0, 999))


def parsed(text: str) -> tuple[int, Enhanced | None]:
    code, _, dotted = text.partition(" ")
    first, second, third = map(int, dotted.split(".")) if dotted else (0, 0, 0)
    return int(code), (first, second, third) if dotted else None


@pytest.mark.parametrize(
    ("phase", "reply", "kind", "reason"),
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
        ("mail", "552", "permanent", "too_large"),
        ("mail", "552 5.3.4", "permanent", "too_large"),
        ("mail", "554 5.3.4", "permanent", "too_large"),
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
        ("rcpt", "550", "hard_bounce", "mailbox_unknown"),
        ("rcpt", "550 5.1.1", "hard_bounce", "mailbox_unknown"),
        ("rcpt", "554 5.1.1", "hard_bounce", "mailbox_unknown"),
        ("rcpt", "550 5.1.2", "hard_bounce", "mailbox_unknown"),
        ("rcpt", "550 5.1.6", "hard_bounce", "mailbox_unknown"),
        ("rcpt", "550 5.1.10", "hard_bounce", "mailbox_unknown"),
        ("rcpt", "550 5.2.1", "hard_bounce", "mailbox_unknown"),
        ("rcpt", "551", "hard_bounce", "mailbox_unknown"),
        ("rcpt", "553", "hard_bounce", "mailbox_unknown"),
        ("rcpt", "556 5.1.10", "hard_bounce", "mailbox_unknown"),
        ("rcpt", "550 5.1.0", "permanent", "refused"),
        ("rcpt", "550 5.1.8", "server", "sender"),
        ("rcpt", "553 5.1.7", "server", "sender"),
        ("rcpt", "550 5.7.1", "permanent", "policy"),
        ("rcpt", "554 5.7.1", "permanent", "policy"),
        ("rcpt", "550 5.7.26", "permanent", "policy"),
        ("rcpt", "552", "permanent", "mailbox_full"),
        ("rcpt", "552 5.2.2", "permanent", "mailbox_full"),
        ("rcpt", "552 5.2.3", "permanent", "too_large"),
        ("rcpt", "553 5.6.7", "permanent", "address"),
        ("rcpt", "554", "permanent", "refused"),
        ("rcpt", "555 5.5.4", "permanent", "protocol"),
        ("data", "450", "temporary", "put_off"),
        ("data", "451", "temporary", "put_off"),
        ("data", "452", "temporary", "storage"),
        ("data", "503 5.5.1", "temporary", "protocol"),
        ("data", "550", "permanent", "policy"),
        ("data", "552", "permanent", "too_large"),
        ("data", "554", "permanent", "refused"),
        ("data", "554 5.7.1", "permanent", "policy"),
        ("data", "250", "temporary", "protocol"),
        ("content", "450 4.2.0", "temporary", "put_off"),
        ("content", "451 4.7.0", "temporary", "policy_later"),
        ("content", "452 4.2.2", "temporary", "mailbox_full"),
        ("content", "452", "temporary", "storage"),
        ("content", "550", "permanent", "policy"),
        ("content", "550 5.7.26", "permanent", "policy"),
        ("content", "550 5.1.1", "permanent", "mailbox_unknown"),
        ("content", "552", "permanent", "too_large"),
        ("content", "552 5.2.2", "permanent", "mailbox_full"),
        ("content", "552 5.3.4", "permanent", "too_large"),
        ("content", "554", "permanent", "refused"),
        ("content", "554 5.6.0", "permanent", "content"),
        ("content", "354", "unknown", "lost_after_data"),
    ],
)
def test_an_answer_about_a_mail(phase: str, reply: str, kind: str, reason: str) -> None:
    """Each is what the RFC beside its row says."""
    code, enhanced = parsed(reply)
    outcome = classify(Phase(phase), code, enhanced)
    assert (outcome.kind, outcome.reason) == (kind, reason)


@pytest.mark.parametrize("phase", Phase)
@pytest.mark.parametrize(
    ("reply", "reason"),
    [("421", "busy"), ("421 4.7.0", "busy"), ("535 5.7.8", "authentication"), ("534 5.7.9", "authentication"),
     ("538 5.7.11", "authentication"), ("432 4.7.12", "authentication"), ("521", "not_welcome")],
)  # fmt: skip
def test_what_the_server_says_of_itself_or_of_us_concerns_all(phase: Phase, reply: str, reason: str) -> None:
    """Whichever command it answers with it."""
    outcome = classify(phase, *parsed(reply))
    assert (outcome.kind, outcome.reason) == (Kind.SERVER, reason)


@pytest.mark.parametrize("phase", Phase)
@pytest.mark.parametrize("code", [530, 454])
def test_what_is_missing_is_encryption_or_a_login(phase: Phase, code: int) -> None:
    """The same code says either (RFC 3207, RFC 4954)."""
    outcome = classify(phase, code)
    assert outcome.kind is Kind.SERVER
    assert outcome.reason is (FailureReason.TLS if phase is Phase.STARTTLS else FailureReason.AUTHENTICATION)


@pytest.mark.parametrize("phase", ENTRY)
@given(code=st.integers(100, 599), enhanced=enhanceds)
def test_before_any_mail_everything_concerns_all(phase: Phase, code: int, enhanced: Enhanced | None) -> None:
    """Also 554 in place of a greeting: it is us who are not welcome, or nobody is."""
    assert classify(phase, code, enhanced).kind is Kind.SERVER


@pytest.mark.parametrize(
    ("phase", "kind", "reason"),
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
def test_no_answer(phase: str, kind: str, reason: str) -> None:
    """Only after the mail's last line it may have been taken."""
    outcome = classify(Phase(phase), None)
    assert (outcome.kind, outcome.reason) == (kind, reason)


@given(phases, st.none() | st.integers() | st.integers(0, 999), enhanceds)
def test_every_answer_has_a_meaning(phase: Phase, code: int | None, enhanced: Enhanced | None) -> None:
    """And an error to raise for it that says the same."""
    outcome = classify(phase, code, enhanced)
    error = outcome.error()
    kinds = {
        Kind.TEMPORARY: TemporarilyRefused,
        Kind.PERMANENT: PermanentlyRefused,
        Kind.HARD_BOUNCE: HardBounce,
        Kind.SERVER: MailServerUnavailable,
        Kind.UNKNOWN: LostAfterData,
    }
    assert type(error) is kinds[outcome.kind]
    assert error.reason is outcome.reason
    assert str(error) == outcome.text


@given(phases, st.integers(0, 999), enhanceds)
def test_nothing_is_for_good_that_the_server_did_not_call_so(
    phase: Phase, code: int, enhanced: Enhanced | None
) -> None:
    """Permanent needs 5yz; an address is given up only for a 5yz to RCPT; unknown is only what came after DATA."""
    kind = classify(phase, code, enhanced).kind
    if kind in (Kind.PERMANENT, Kind.HARD_BOUNCE):
        assert code // 100 == 5
        assert phase not in ENTRY
    if kind is Kind.HARD_BOUNCE:
        assert phase is Phase.RCPT
        assert enhanced is None or enhanced[0] == 5 or code == 556
    if kind is Kind.UNKNOWN:
        assert phase is Phase.CONTENT
        assert code // 100 not in (4, 5)


@given(st.sampled_from(ABOUT_A_MAIL), st.integers(400, 499), enhanceds)
def test_4yz_is_tried_again(phase: Phase, code: int, enhanced: Enhanced | None) -> None:
    """Whatever the enhanced code says: the first digit of the reply is what counts (RFC 5321, 4.2.1)."""
    assert classify(phase, code, enhanced).kind in (Kind.TEMPORARY, Kind.SERVER)


@given(phases, st.integers(200, 599), enhanceds)
def test_the_text_is_numbers_and_our_own_words(phase: Phase, code: int, enhanced: Enhanced | None) -> None:
    """It goes to logs and dead letters, where no address may be."""
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
def test_the_text_is_a_sentence_to_an_operator(phase: Phase, code: int | None, text: str) -> None:
    """Who reads it at night in a list of dead letters sees who did what."""
    assert classify(phase, code, (5, 1, 1)).text == text


def test_each_row_is_reached() -> None:
    """A row behind one that says all that it says would be dead."""
    seen = set()
    details = [None, *((kind, subject, detail) for kind in (4, 5) for subject in range(8) for detail in range(13))]
    for phase in Phase:
        for code in (299, 499, 599, *(int(row.code) for row in TABLE if row.code.isdecimal())):
            for enhanced in details:
                seen.add(next((n for n, row in enumerate(TABLE) if row.matches(phase, code, enhanced)), None))
    assert set(range(len(TABLE))) <= seen
