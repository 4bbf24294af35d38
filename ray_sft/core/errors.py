"""The errors that a user can fix, in one tree.

    RaySFTError
    +-- ConfigError        a recipe, an option or a command line
    +-- DataError          rows, columns, files
    +-- BundleError        a bundle that is missing, damaged or of the wrong format
    +-- TrainingError      a run that cannot start or did not finish
    +-- CompressionError   a pass or a gate that refused
    +-- ServeError         a service that cannot start or answer

Programmer errors are plain ``assert``; they do not belong here.
"""

__all__ = [
    "BundleError",
    "CompressionError",
    "ConfigError",
    "DataError",
    "RaySFTError",
    "ServeError",
    "TrainingError",
    "reason_of",
]


class RaySFTError(Exception):
    """Anything a user can fix. The message says what, why and how, with the value."""


class ConfigError(RaySFTError):
    """A recipe, an option or a command line is wrong."""


class DataError(RaySFTError):
    """Rows, columns or files are missing or malformed."""


class BundleError(RaySFTError):
    """A bundle is missing, damaged or of the wrong format."""


class TrainingError(RaySFTError):
    """A training run cannot start or did not finish."""


class CompressionError(RaySFTError):
    """A compression pass or one of its gates refused."""


class ServeError(RaySFTError):
    """A service cannot start, or a request cannot be answered."""


def reason_of(error: BaseException) -> str:
    """What a library's error says in its first line, for a message of ours; or its name."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
