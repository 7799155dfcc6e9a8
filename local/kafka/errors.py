"""The errors of the local broker. Each text is one sentence for a person, and says what to do."""


class BrokerError(Exception):
    """The broker cannot be started, or has ended by itself; no process of it is left running."""


class JavaMissingError(BrokerError):
    """No Java that is new enough was found."""


class JarsUnavailableError(BrokerError):
    """Kafka's jars are not all in the cache, and some could not be downloaded."""


class CorruptJarError(BrokerError):
    """A jar's checksum differs from the lock file's, even after the jar was downloaded again."""


class PortTakenError(BrokerError):
    """The broker's port is in use by another program."""


class DataFolderError(BrokerError):
    """The data folder cannot be written, or another broker uses it."""


class NotReadyError(BrokerError):
    """Kafka ran but did not get ready in time; it was stopped."""


class BrokerDiedError(BrokerError):
    """The Kafka process ended by itself; the text has the last error of its log."""
