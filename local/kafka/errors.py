"""What can keep the local broker from serving. Each text is one sentence for a person, with the way out."""


class BrokerError(Exception):
    """The broker cannot be started or has stopped by itself; nothing of it is left running."""


class JavaMissingError(BrokerError):
    """No Java that is new enough."""


class JarsUnavailableError(BrokerError):
    """Kafka's jars are not all in the cache and could not be fetched."""


class CorruptJarError(BrokerError):
    """A jar is not the one that the lock file names, even after it was fetched anew."""


class PortTakenError(BrokerError):
    """Somebody else listens on the broker's port."""


class DataFolderError(BrokerError):
    """The data folder cannot be written, or another broker uses it."""


class NotReadyError(BrokerError):
    """Kafka runs but does not serve; it was stopped."""


class BrokerDiedError(BrokerError):
    """Kafka itself ended, in start-up or later; the text carries the last error of its log."""
