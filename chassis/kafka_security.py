"""How every Kafka client of a process connects: plainly, by TLS, with SASL, or with both.

These settings are the same for all clients of a process, so the code that makes one passes on what
`chassis.kafka_options` returns. Services read them at their start with their other settings, which reports faults.
"""

from typing import Any, Final, Literal, Self

from pydantic import Field, SecretStr, field_validator, model_validator

from chassis.setting_files import EnvironmentSettings
from chassis.tls import create_trust

SecurityProtocol = Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"]

_WITH_TLS: Final = ("SSL", "SASL_SSL")
_WITH_SASL: Final = ("SASL_PLAINTEXT", "SASL_SSL")


class KafkaSecuritySettings(EnvironmentSettings):
    """The settings with which all Kafka clients of a process secure their connections, named as Kafka's own."""

    kafka_security_protocol: SecurityProtocol = "PLAINTEXT"
    kafka_sasl_mechanism: Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"] = "SCRAM-SHA-512"
    kafka_username: str | None = Field(default=None, min_length=1)
    kafka_password: SecretStr | None = Field(default=None, min_length=1)
    kafka_ca: str | None = Field(default=None, description="PEM; KAFKA_CA_FILE names a file")
    """The authorities that the brokers' certificates are signed by; None: those of the system."""

    @field_validator("kafka_ca")
    @classmethod
    def _require_certificates(cls, text: str | None) -> str | None:
        """Return the text unchanged. Raises ValueError if it holds no certificate."""
        if text is not None:
            create_trust(text)
        return text

    @model_validator(mode="after")
    def _require_consistent_settings(self) -> Self:
        """Return the settings. Raises ValueError for credentials or authorities that the protocol would not use."""
        protocol = self.kafka_security_protocol
        has_credentials = (self.kafka_username is not None, self.kafka_password is not None)
        if protocol in _WITH_SASL and not all(has_credentials):
            raise ValueError(f"KAFKA_SECURITY_PROTOCOL: {protocol} needs KAFKA_USERNAME and KAFKA_PASSWORD")
        if protocol not in _WITH_SASL and any(has_credentials):
            raise ValueError(
                f"KAFKA_SECURITY_PROTOCOL: {protocol} sends no KAFKA_USERNAME or KAFKA_PASSWORD; unset them, or set "
                "SASL_SSL"
            )
        if protocol not in _WITH_TLS and self.kafka_ca is not None:
            raise ValueError(f"KAFKA_SECURITY_PROTOCOL: {protocol} uses no TLS and no KAFKA_CA; set SSL or SASL_SSL")
        return self

    def build_client_options(self) -> dict[str, Any]:
        """Return the options of aiokafka's clients that these settings describe; empty for PLAINTEXT."""
        options: dict[str, Any] = {}
        if self.kafka_security_protocol != "PLAINTEXT":
            options["security_protocol"] = self.kafka_security_protocol
        if self.kafka_security_protocol in _WITH_TLS:
            options["ssl_context"] = create_trust(self.kafka_ca)
        if self.kafka_password is not None:
            options |= {
                "sasl_mechanism": self.kafka_sasl_mechanism,
                "sasl_plain_username": self.kafka_username,
                "sasl_plain_password": self.kafka_password.get_secret_value(),
            }
        return options
