"""Standard streams as other programs replace them: by an object of a notebook, by a logger, or by nothing."""

from typing import Any


def is_terminal(stream: Any) -> bool:
    """Return whether a stream is a terminal. None, and objects that can only write and flush, are none."""
    isatty = getattr(stream, "isatty", None)
    return isatty is not None and bool(isatty())
