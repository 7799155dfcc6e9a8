"""DKIM signatures, verified as a receiving server does."""

import re
from base64 import b64encode
from dataclasses import replace

import dkim
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

from notifier.mail import SigningKey, compose_alert_mail, compose_alerts_mail, sign_mail
from tests.notifier.alerts import ALERT, CAUSE, CONTACT, EARLIER, NOW, SENDER, a_day_at_five_airports

PRIVATE = rsa.generate_private_key(65537, 2048)
READER = replace(CONTACT, name="Zoë, Ålesund", unsubscribe_url="https://example.org/u?t=" + "a." * 100)
MAILS = {
    "alert": compose_alert_mail(replace(ALERT, earlier=EARLIER), READER, SENDER, NOW, CAUSE).as_bytes(),
    "night": compose_alerts_mail(a_day_at_five_airports(NOW), READER, SENDER, NOW, CAUSE).as_bytes(),
}


def export_key(key_format: PrivateFormat = PrivateFormat.PKCS8) -> bytes:
    return PRIVATE.private_bytes(Encoding.PEM, key_format, NoEncryption())


KEY = SigningKey("example.org", "tower1", export_key())


def has_valid_signature(message: bytes) -> bool:
    """Return True if the mail's DKIM signature is valid for the test's public key."""
    public = b64encode(PRIVATE.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)).decode()

    def dns(name: bytes, timeout: int = 5) -> str | None:
        return f"v=DKIM1; k=rsa; p={public}" if name.rstrip(b".") == b"tower1._domainkey.example.org" else None

    return dkim.verify(message, dnsfunc=dns)


@pytest.mark.parametrize("name", MAILS)
@pytest.mark.parametrize("key_format", [PrivateFormat.PKCS8, PrivateFormat.TraditionalOpenSSL])
def test_a_signature_is_valid(name: str, key_format: PrivateFormat) -> None:
    """A signed mail is a valid signature followed by the unchanged mail."""
    signed_mail = sign_mail(MAILS[name], replace(KEY, private_key=export_key(key_format)))
    assert signed_mail.endswith(MAILS[name])
    assert signed_mail.startswith(b"DKIM-Signature: ")
    assert has_valid_signature(signed_mail)


def test_a_signature_covers_the_unsubscribe_headers() -> None:
    """RFC 8058, 4: a mail program offers one-click unsubscription only where both headers are signed."""
    value = re.sub(rb"\s", b"", sign_mail(MAILS["alert"], KEY).partition(b"\r\nDate:")[0])
    covered = re.search(rb";h=([^;]+);", value)[1].lower().split(b":")
    for name in (b"list-unsubscribe", b"list-unsubscribe-post", b"from", b"to", b"subject", b"date", b"message-id"):
        assert covered.count(name) == 2  # once more than the mail has it: nobody can add another
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
def test_a_changed_mail_has_no_valid_signature(was: bytes, becomes: bytes) -> None:
    """A changed link, a removed link, an added header and a changed text all break the signature."""
    signed_mail = sign_mail(MAILS["alert"], KEY)
    assert was in signed_mail
    assert not has_valid_signature(signed_mail.replace(was, becomes, 1))


@pytest.mark.parametrize(
    "private",
    [
        b"",
        b"no key",
        b"-----BEGIN RSA PRIVATE KEY-----\nabc\n-----END RSA PRIVATE KEY-----\n",
        ec.generate_private_key(ec.SECP256R1()).private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()),
    ],
)
def test_an_invalid_key_is_rejected_at_once(private: bytes) -> None:
    """Creating the SigningKey raises ValueError, and neither the error nor the repr holds the private key."""
    with pytest.raises(ValueError, match="the DKIM key must be an RSA private key in PEM") as refused:
        SigningKey("example.org", "tower1", private)
    assert "BEGIN" not in str(refused.value)
    assert "BEGIN" not in repr(KEY)
