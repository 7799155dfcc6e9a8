"""DKIM signatures, verified as a receiver does."""

import re
from base64 import b64encode
from dataclasses import replace

import dkim
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

from notifier.mail import SigningKey, alert_mail, alerts_mail, signed
from tests.notifier.alerts import ALERT, CAUSE, CONTACT, EARLIER, NOW, SENDER, a_day_at_five_airports

PRIVATE = rsa.generate_private_key(65537, 2048)
READER = replace(CONTACT, name="Zoë, Ålesund", unsubscribe_url="https://example.org/u?t=" + "a." * 100)
MAILS = {
    "alert": alert_mail(replace(ALERT, earlier=EARLIER), READER, SENDER, NOW, CAUSE).as_bytes(),
    "night": alerts_mail(a_day_at_five_airports(NOW), READER, SENDER, NOW, CAUSE).as_bytes(),
}


def pem(form: PrivateFormat = PrivateFormat.PKCS8) -> bytes:
    return PRIVATE.private_bytes(Encoding.PEM, form, NoEncryption())


KEY = SigningKey("example.org", "tower1", pem())


def verifies(message: bytes) -> bool:
    public = b64encode(PRIVATE.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)).decode()

    def dns(name: bytes, timeout: int = 5) -> str | None:
        return f"v=DKIM1; k=rsa; p={public}" if name.rstrip(b".") == b"tower1._domainkey.example.org" else None

    return dkim.verify(message, dnsfunc=dns)


@pytest.mark.parametrize("name", MAILS)
@pytest.mark.parametrize("form", [PrivateFormat.PKCS8, PrivateFormat.TraditionalOpenSSL])
def test_a_receiver_believes_it(name: str, form: PrivateFormat) -> None:
    """The mail is as it was, after a signature that holds."""
    whole = signed(MAILS[name], replace(KEY, private_key=pem(form)))
    assert whole.endswith(MAILS[name])
    assert whole.startswith(b"DKIM-Signature: ")
    assert verifies(whole)


def test_it_covers_how_to_leave_the_list() -> None:
    """RFC 8058, 4: a receiver offers one click only where both headers are signed."""
    value = re.sub(rb"\s", b"", signed(MAILS["alert"], KEY).partition(b"\r\nDate:")[0])
    covered = re.search(rb";h=([^;]+);", value)[1].lower().split(b":")
    for name in (b"list-unsubscribe", b"list-unsubscribe-post", b"from", b"to", b"subject", b"date", b"message-id"):
        assert covered.count(name) == 2  # once more than it is there: nobody can add another
    assert {b"list-id", b"auto-submitted", b"mime-version", b"content-type"} <= {*covered}


@pytest.mark.parametrize(
    ("was", "becomes"),
    [
        (b"<https://example.org/", b"<https://evil.example/"),
        (b"List-Unsubscribe-Post:", b"X-Removed:"),
        (b"\r\nSubject: ", b"\r\nSubject: again\r\nSubject: "),
        (b"\r\nDate: ", b"\r\nList-Unsubscribe: <https://evil.example/>\r\nDate: "),
        (b"departures", b"arrivals"),
    ],
)
def test_what_was_changed_on_the_way_is_seen(was: bytes, becomes: bytes) -> None:
    """Another link, a link less, one more, another text."""
    whole = signed(MAILS["alert"], KEY)
    assert was in whole
    assert not verifies(whole.replace(was, becomes, 1))


@pytest.mark.parametrize(
    "private",
    [
        b"",
        b"no key",
        b"-----BEGIN RSA PRIVATE KEY-----\nabc\n-----END RSA PRIVATE KEY-----\n",
        ec.generate_private_key(ec.SECP256R1()).private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()),
    ],
)
def test_what_is_no_key_is_said_at_once(private: bytes) -> None:
    """Before the first mail, and without the key in the words."""
    with pytest.raises(ValueError, match="the DKIM key must be an RSA private key in PEM") as refused:
        SigningKey("example.org", "tower1", private)
    assert "BEGIN" not in str(refused.value)
    assert "BEGIN" not in repr(KEY)
