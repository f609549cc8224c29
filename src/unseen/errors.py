"""Errors that a user can act on. Each says what was seen, what was expected, and what to do.

The command line prints the message without a traceback and leaves with `exit_code`:
2 where the call or its configuration is wrong, 1 where the work failed.
"""


class UnseenError(Exception):
    """Anything that is not a fault of this package."""

    exit_code = 1


class ConfigError(UnseenError):
    """A value, key or name in a configuration, or an argument, that cannot be used."""

    exit_code = 2


class ImageError(UnseenError):
    """A file that cannot be read or written as an image."""


class DataError(UnseenError):
    """A folder of images that does not hold what is needed."""


class CheckpointError(UnseenError):
    """A weight file that cannot be loaded, or does not fit."""


class TrainingError(UnseenError):
    """Training cannot go on: the loss is not finite, the state does not fit the experiment."""


class StudyError(UnseenError):
    """A study that cannot be run or reported as it stands."""
