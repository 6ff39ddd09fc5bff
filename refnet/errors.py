"""The errors that refnet raises on purpose, each with the exit code of the command.

A message is one line: what is wrong, where (file, key, argument, both values), and a remedy. A setting in it is written
in two spellings (:mod:`refnet.terminal.spelling`).
"""

import sys
from collections.abc import Callable
from typing import Any, NoReturn

from refnet.terminal.spelling import setting, with_arguments, with_flags


class RefnetError(Exception):
    """Base of every error that refnet raises on purpose. Its text names arguments; `message` has both spellings."""

    exit_code = 1

    @property
    def message(self) -> str:
        """The message with both spellings of each setting, of which :func:`with_flags` chooses one."""
        return super().__str__()

    def __str__(self) -> str:
        """Return the message with the names of arguments."""
        return with_arguments(self.message)


def message_of(error: Exception) -> str:
    """Return the message of any error; that of a ``RefnetError`` has both spellings of each setting."""
    return error.message if isinstance(error, RefnetError) else str(error)


def end(name: str, main: Callable[[], int]) -> NoReturn:
    """Run a program that is not a command of refnet, and exit with its code or with that of a ``RefnetError``."""
    try:
        sys.exit(main())
    except RefnetError as error:
        sys.stderr.write(f"{name}: {with_flags(error.message)}\n")
        sys.exit(error.exit_code)


class ConfigError(RefnetError, ValueError):
    """A command, flag, configuration key or network that cannot be used (exit code 2)."""

    exit_code = 2


class ShapeError(ConfigError):
    """Arrays whose shapes or dtypes do not fit an op or a network (exit code 2)."""


class ArgumentError(ConfigError):
    """A value that an op cannot take: a hyper-parameter out of its range, a label that is not a class (exit code 2)."""


class DataError(RefnetError):
    """Images or labels that cannot be read or used (exit code 3)."""

    exit_code = 3


class CheckpointError(RefnetError):
    """A file of saved parameters that cannot be read or does not fit the network (exit code 4)."""

    exit_code = 4


class NumericError(RefnetError):
    """NaN or infinity where a finite number is required (exit code 5)."""

    exit_code = 5


class BackendUnavailableError(RefnetError):
    """A backend that is unknown, cannot run here, or differs from the interface (exit code 6)."""

    exit_code = 6


class DeviceMemoryError(BackendUnavailableError):
    """A device that is out of memory (exit code 6).

    Parameters
    ----------
    device
        Name of the device.
    total
        Bytes of memory on the device; None if unknown.
    remedy
        What to do, in words.
    available
        Bytes that this process uses or could use: `total` minus what other processes use. `total` if not given.
    """

    def __init__(
        self,
        device: str,
        total: int | None,
        remedy: str = f"a smaller {setting('batch')} needs less",
        available: int | None = None,
    ) -> None:
        size = "" if total is None else f" ({total / 1e9:.1f} GB)"
        if total and available is not None and available < 0.9 * total:  # the driver itself uses a few per cent
            size = f" ({total / 1e9:.1f} GB, {available / 1e9:.1f} GB of it not used by other processes)"
        super().__init__(f"device {device} is out of memory{size}; {remedy}")
        self._arguments = device, total, remedy, available
        self.device = device
        self.total = total
        self.available = total if available is None else available

    def __reduce__(self) -> tuple[Any, ...]:
        """Return how to make the error again, in another process."""
        return type(self), self._arguments
