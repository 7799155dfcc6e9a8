"""What a server's reply says of the sending side, read from its text. Pure.

Many servers say with a bare 550 both that a mailbox is unknown and that they do not relay for us, and some send the
enhanced code of one with the text of the other. So the text may only take blame from an address, never put it there:
a text that is not understood changes nothing. The text is searched and then forgotten, since it may hold addresses.
"""

import re
from typing import Final

from notifier.errors import FailureReason

_BRACKETED: Final = re.compile(r"<[^<>]*>")
_DOTTED: Final = re.compile(r"[\w-]+(?:\.[\w-]+)+")
"""A host name, an IP address or an enhanced code."""
_SIGNS: Final = re.compile(r"[\W_]+")


def _compile(*patterns: str) -> re.Pattern[str]:
    return re.compile("|".join(rf"\b(?:{each})" for each in patterns))


_FEW: Final = r"(?:\w+ ){0,3}"
"""Up to three words between two words."""

_NOT: Final = r"(?:deni|deny|not|prohib|refus|reject|forbid|disab|disallow|restrict|block|fail|suspend|paused)"

_PATTERNS: Final = (
    (
        FailureReason.AUTHENTICATION,
        _compile(
            r"smtp auth",
            r"auth\w* (?:is )?(?:required|needed|mandatory)",
            r"(?:not|must|must first|please|requires?|without) (?:be )?(?:smtp )?(?:authenti|log ?in\b)",
            r"pop before smtp",
        ),
    ),
    (
        FailureReason.RELAY,
        _compile(
            r"relaying\b",
            rf"relay(?:s|ed)?\b(?! recipients? (?:table|map))(?= {_FEW}{_NOT})",
            r"(?:not?|cannot|unable|t|refus\w*|allow\w*|permit\w*|open|unauthori\w+|den\w+|disallow\w*) "
            rf"{_FEW}relay\b(?! recipients? (?:table|map))",
            r"rcpthosts\b",
            r"(?:local|internal) (?:users?|recipients?|domains?|addresses) only\b",
            r"only (?:local|internal) (?:users?|recipients?|domains?|addresses)\b",
            r"not (?:a |the )?(?:valid )?gateway\b",
            r"not accept\w* (?:e ?)?(?:mails?|messages?) (?:for|to) ",
        ),
    ),
    (
        FailureReason.QUOTA,
        _compile(
            r"(?:sending|send|sender|submission|outgoing|outbound|smtp|daily|hourly|monthly|weekly|recipients?|connection"
            r"|rate|traffic|per (?:hour|day|minute|second|user)) (?:(?!size\b|mailbox\b)\w+ ){0,2}"
            r"(?:quota|limit|limits|limited|threshold|allowance|credits?)\b",
            r"rate ?limit",
            r"(?:message|mail|email|sending|send) rate\b",
            r"too (?:many (?!hops|received)|fast|quickly|frequent|much (?:mail|e ?mail|traffic))",
            r"throttl",
            rf"max(?:imum)? {_FEW}(?:per|each) (?:hour|day|minute|second|month)",
            r"(?:e ?)?mails per (?:hour|day|minute|second|month)",
            r"defers and failures",
            r"unusual (?:sending )?(?:activity|rate|volume)",
            r"receiving mail (?:too|at a rate)",
            r"(?:exceed\w*|reached|over) (?:\w+ ){0,4}"
            r"(?:rate|sending|daily|hourly|monthly|per hour|per day|threshold)\b",
            r"credits?\b",
            r"(?:message|mail|email) limit\b",
            r"(?:sending|submission|daily|hourly|monthly) (?:quota|limit)",
        ),
    ),
    (
        FailureReason.ACCOUNT,
        _compile(
            r"your (?:account|tenant|subscription|mailbox|organi[sz]ation|plan|service|smtp)\b",
            rf"(?:account|domain|user|sending|mail) {_FEW}(?:{_NOT}\w*|unable) {_FEW}(?:to send|from sending)\b",
            r"(?:not (?:yet )?(?:allowed|permitted|authori\w+|activated|enabled)|unable|prevented|suspended|blocked"
            r"|disabled|restricted) (?:to send|from sending)\b",
            rf"sending (?:mail |e ?mail )?(?:\w+ ){{0,6}}{_NOT}",
            r"tenant\b",
            r"sandbox\b",
            r"outbound\b",
            r"outgoing (?:e ?)?(?:mails?|messages?)\b",
            r"(?:non ?payment|unpaid|billing|invoice|overdue|trial (?:account|period)|activate your)\b",
        ),
    ),
    (
        FailureReason.SENDER,
        _compile(
            r"senders?\b",
            r"mail ?from\b",
            r"from (?:address|header|domain|field|line)\b",
            r"originator\b",
            r"(?:return|reverse) ?path\b",
            r"envelope from\b",
            r"send ?as",
            r"send (?:\w+ )?on behalf",
            r"(?:spoof|forge)",
            r"(?:helo|ehlo)\b",
            r"not (?:been )?verified\b",
            r"identit(?:y|ies)\b",
            r"call ?(?:back|out)\b",
        ),
    ),
    (
        FailureReason.CONTENT,
        _compile(
            r"(?:spam\w*|virus\w*|malware|phish\w*|infected|unsolicited|junk|bulk|attachments?|contents?|contains|mime"
            r"|headers?|subject|dangerous|newsletters?)\b",
            r"(?:message|mail|email) (?:was |is |has been |been )?"
            r"(?:reject|refus|block|discard|classif|not accepted|denied)",
        ),
    ),
    (
        FailureReason.POLICY,
        _compile(
            r"polic(?:y|ies)\b",
            r"(?:black|block|deny) ?list",
            r"(?:blocked|blocking|banned|prohibit\w*|forbidden|unauthori[sz]ed|denied|disallowed|administrative\w*"
            r"|reputation|dnsbl|rbl|spf|dkim|dmarc|ptr|rdns|gr[ae]ylist\w*)\b",
            r"reverse dns\b",
            r"(?<!mailbox name )not (?:allowed|permitted|authori[sz]ed)\b",
            r"your (?:ip|host|server|domain|network|message|mail|email|isp|client)\b",
            r"(?:client|connecting) (?:host|ip|server)\b",
            r"ips?\b",
            r"(?:start)?tls\b",
            r"encrypt",
            r"(?<!not )listed (?:in|at|by|on)\b",
            r"local restrictions?\b",
        ),
    ),
    (
        FailureReason.MAILBOX_FULL,
        _compile(
            r"(?:mailbox|inbox|storage|disk|user|recipient|account)\b (?:\w+ ){0,5}(?:full|quota|space)\b",
            rf"(?:exceed\w*|insufficient) {_FEW}(?:storage|disk|space|mailbox)\b",
            r"over ?quota\b",
        ),
    ),
    (FailureReason.QUOTA, _compile(r"quota\b")),
)
"""In order of precedence: for each part of the sending side the words by which servers blame it, and the words about a
full mailbox, which is no fault of the address either."""


def find_blamed_part(text: str) -> FailureReason | None:
    """Return the part of the sending side that a refusal blames; None: the text names none, or is not understood.

    The part is AUTHENTICATION, RELAY, QUOTA, ACCOUNT, SENDER, CONTENT or POLICY; or MAILBOX_FULL, of the recipient.
    Addresses, URLs and host names in the text are ignored.
    """
    words = _SIGNS.sub(" ", " ".join(filter(_is_word, _BRACKETED.sub(" ", text.lower()).split())))
    return next((reason for reason, pattern in _PATTERNS if pattern.search(words)), None)


def _is_word(token: str) -> bool:
    """Return False for an address, a URL or a host name: a mailbox may be called relay@spam.example."""
    return "@" not in token and "://" not in token and not _DOTTED.fullmatch(token.strip("()[]{},;:.!?'\"#"))
