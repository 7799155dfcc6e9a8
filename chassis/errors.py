"""What the chassis' own adapters raise."""


class ChassisError(Exception):
    """Something that an operator can read and act upon; its text is one sentence, without secrets."""


class SettingsError(ChassisError):
    """The environment does not hold what the service needs; the text lists every fault, one a line."""


class CannotListenError(ChassisError):
    """A port that the service is told to listen on is not free, or not ours to take."""
