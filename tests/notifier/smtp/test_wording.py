"""The replies of common servers, with their texts: what is said of us is never held against an address."""

import pytest

from notifier.errors import FailureReason
from notifier.smtp.outcomes import Disposition, Outcome, Phase, classify
from notifier.smtp.replies import parse_enhanced_code
from notifier.smtp.wording import find_blamed_part


def classify_reply(phase: str, reply: str) -> Outcome:
    """Return the outcome of a reply of one line."""
    code, _, words = reply.partition(" ")
    return classify(Phase(phase), int(code), parse_enhanced_code(words), words)


@pytest.mark.parametrize(
    ("phase", "reply", "reason"),
    [
        # Exim
        ("rcpt", "550 relay not permitted", "relay"),
        ("rcpt", "550 Administrative prohibition", "policy"),
        ("rcpt", "550 Sender verify failed", "sender"),
        ("rcpt", "550 Verification failed for <alerts@example.org> Called: 192.0.2.1 Sender verify failed", "sender"),
        ("rcpt", "550 Please turn on SMTP Authentication in your mail client.", "authentication"),
        ("rcpt", "550 Rejected because 192.0.2.1 is in a black list at zen.spamhaus.org", "policy"),
        ("rcpt", "550 Domain example.org has exceeded the max emails per hour (9/9 (100%)) allowed.", "quota"),
        ("rcpt", "550 Domain example.org has exceeded the max defers and failures per hour (5/5) allowed.", "quota"),
        ("content", "550 This message was classified as SPAM and may not be delivered", "content"),
        # Postfix
        ("rcpt", "554 5.7.1 <ada@example.net>: Relay access denied", "relay"),
        ("rcpt", "553 5.7.1 <alerts@example.org>: Sender address rejected: not owned by user tower", "sender"),
        ("rcpt", "550 5.1.0 <alerts@example.org>: Sender address rejected: User unknown in virtual table", "sender"),
        ("rcpt", "504 5.5.2 <localhost>: Helo command rejected: need fully-qualified hostname", "sender"),
        ("rcpt", "554 5.7.1 Service unavailable; Client host [192.0.2.1] blocked using bl.example.net", "policy"),
        ("content", "552 5.3.4 Message size exceeds fixed limit", "too_large"),
        ("mail", "552 5.3.4 Message size exceeds fixed limit", "too_large"),
        ("content", "550 5.7.1 message content rejected", "content"),
        # Sendmail, qmail
        ("rcpt", "550 5.7.1 <ada@example.net>... Relaying denied", "relay"),
        ("rcpt", "551 we do not relay", "relay"),
        ("rcpt", "553 sorry, that domain isn't in my list of allowed rcpthosts (#5.7.1)", "relay"),
        ("rcpt", "553 sorry, that domain isn't in my list of allowed rcpthosts", "relay"),
        # Exchange, Exchange Online
        ("rcpt", "550 5.7.1 Unable to relay", "relay"),
        ("rcpt", "550 5.7.54 SMTP; Unable to relay recipient in non-accepted domain", "relay"),
        ("rcpt", "550 5.4.1 Recipient address rejected: Access denied", "policy"),
        ("rcpt", "550 5.7.708 Service unavailable. Access denied, traffic not accepted from this IP", "policy"),
        ("content", "550 5.1.90 Your message can't be sent: you reached your daily limit for recipients", "quota"),
        ("content", "554 5.2.2 Submission quota exceeded", "quota"),
        ("content", "554 5.2.252 SendAsDenied", "sender"),
        ("content", "550 5.7.705 Access denied, tenant has exceeded threshold", "quota"),
        # Gmail
        ("rcpt", "550 5.4.5 Daily user sending limit exceeded. For more, https://support.google.com/", "quota"),
        ("rcpt", "550 5.2.1 The user you are trying to contact is receiving mail at a rate that prevents it", "quota"),
        ("content", "550 5.7.26 This mail has been blocked because the sender is unauthenticated", "sender"),
        ("rcpt", "550 5.7.1 Invalid credentials for relay [192.0.2.1]", "policy"),
        # Amazon SES, and others that send for many
        ("content", "554 Message rejected: Email address is not verified.", "sender"),
        ("content", "554 Sending paused for this account. For more information, check the inbox", "account"),
        ("content", "454 Throttling failure: Maximum sending rate exceeded.", None),
        ("rcpt", "550 The from address does not match a verified Sender Identity", "sender"),
        ("rcpt", "550 5.4.6 Unusual sending activity detected. Please try after sometime", "quota"),
        ("rcpt", "550 5.7.1 Your account is not yet activated", "account"),
        ("rcpt", "550 insufficient credits", "quota"),
        # OVH and other hosts
        ("rcpt", "550 spam detected", "content"),
        ("rcpt", "550 Your account has been blocked from sending", "account"),
        ("rcpt", "550 outgoing mail has been suspended", "account"),
        ("rcpt", "550 Sending quota exceeded", "quota"),
        ("rcpt", "552 quota exceeded", "quota"),
        ("rcpt", "550 Local users only", "relay"),
        ("rcpt", "550 IP is rejected", "policy"),
        # The code of an unknown mailbox with a text about us
        ("rcpt", "550 5.1.1 relay not permitted", "relay"),
        ("rcpt", "553 5.1.3 You are not allowed to send from this address", "account"),
        ("content", "550 5.1.1 sender rejected", "sender"),
        # Nothing that says about whom it is
        ("rcpt", "554 Transaction failed", "refused"),
        ("rcpt", "550 5.0.0 rejected", "refused"),
        ("rcpt", "550 5.3.2 System not accepting network messages", "refused"),
        ("rcpt", "550 #5.7.1 Your access to submit messages has been rejected.", "policy"),
    ],
)  # fmt: skip
def test_what_is_said_of_us_waits(phase: str, reply: str, reason: str | None) -> None:
    """The mail waits, whatever the codes are, and the reason tells the operator what to look at."""
    outcome = classify_reply(phase, reply)
    if reason is None:
        assert outcome.disposition is Disposition.SERVER
    else:
        assert (outcome.disposition, outcome.reason) == (Disposition.SENDING_SIDE, reason)
    assert not outcome.to_error().permanent


@pytest.mark.parametrize(
    ("reply", "disposition"),
    [
        ("550 5.1.1 <relay@spam.example>: Recipient address rejected: User unknown in relay recipient table", "hard"),
        ("550 5.1.1 <ada@example.net>: Recipient address rejected: User unknown in virtual mailbox table", "hard"),
        ("550 5.1.1 The email account that you tried to reach does not exist. Please try double-checking the "
         "recipient's email address for typos. https://support.google.com/mail/?p=NoSuchUser a1 - gsmtp", "hard"),
        ("550 5.1.1 <policy@blocked.example>... User not listed in Domino Directory", "hard"),
        ("550 5.1.10 RESOLVER.ADR.RecipientNotFound; Recipient not found by SMTP address lookup", "hard"),
        ("550 5.2.1 The email account that you tried to reach is inactive", "hard"),
        ("550 5.1.2 <ada@example.net>: Recipient address rejected: Domain not found", "hard"),
        ("550 5.1.6 recipient no longer on server", "hard"),
        ("550 sorry, no mailbox here by that name. (#5.1.1 - chkusr)", "hard"),
        ("553 5.1.3 mailbox name not allowed", "hard"),
        ("550 Unrouteable address", "unproven"),
        ("550 No such user here", "unproven"),
        ("550 Unknown user: sender@relay.example", "unproven"),
        ("550 Requested action not taken: mailbox unavailable", "unproven"),
        ("551 User not local; please try <b@example.net>", "unproven"),
        ("553 Requested action not taken: mailbox name not allowed", "unproven"),
        ("550 Invalid Recipient - https://community.mimecast.com/docs/DOC-1369#550 [xyz.uk1]", "unproven"),
        ("550", "unproven"),
    ],
)  # fmt: skip
def test_what_is_said_of_the_mailbox_is_not_taken_for_blame_of_us(reply: str, disposition: str) -> None:
    """Otherwise a server that gets mails for nobody would get them for ever. Addresses and hosts are no words."""
    expected = {"hard": Disposition.HARD_BOUNCE, "unproven": Disposition.UNPROVEN}[disposition]
    assert classify_reply("rcpt", reply).disposition is expected


@pytest.mark.parametrize(
    ("reply", "disposition"),
    [
        ("550 mailbox is full", "temporary"),
        ("550 5.1.1 mailbox full", "temporary"),
        ("552 Requested mail action aborted: exceeded storage allocation", "temporary"),
        ("552 5.2.2 The email account that you tried to reach is over quota", "permanent"),
        ("552 5.2.3 message too long for this mailbox", "permanent"),
    ],
)
def test_a_full_mailbox_is_the_recipients_and_suppresses_nobody(reply: str, disposition: str) -> None:
    """5.2.2 is about the recipient's mailbox (RFC 3463, 3.3): it exists."""
    assert classify_reply("rcpt", reply).disposition == disposition


def test_a_reply_that_says_nothing_blames_nobody() -> None:
    """The text alone never counts against an address."""
    assert find_blamed_part("") is None
    assert find_blamed_part("no such user") is None
    assert find_blamed_part("<relay-denied@blocked.example> https://x.example/spam/policy") is None
    assert find_blamed_part("Relaying denied") is FailureReason.RELAY
