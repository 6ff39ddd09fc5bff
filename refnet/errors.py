"""The errors a user can meet, each with the exit code the command line ends with.

A message is one line: what is wrong, where (file, key, argument, both values), and how to mend it.
"""


class RefnetError(Exception):
    """Base of every error that refnet raises on purpose."""

    exit_code = 1


class ConfigError(RefnetError, ValueError):
    """A command, flag, configuration key or network that cannot be used (exit code 2)."""

    exit_code = 2


class ShapeError(ConfigError):
    """Arrays or hyper-parameters that do not fit an op's shape rule (exit code 2)."""


class DataError(RefnetError):
    """Images or labels that cannot be read or used (exit code 3)."""

    exit_code = 3


class CheckpointError(RefnetError):
    """A file of saved parameters that cannot be read or does not fit the network (exit code 4)."""

    exit_code = 4


class NumericError(RefnetError):
    """NaN or infinity where a finite number belongs (exit code 5)."""

    exit_code = 5


class BackendUnavailableError(RefnetError):
    """A backend that is unknown, cannot run here, or differs from the interface (exit code 6)."""

    exit_code = 6
