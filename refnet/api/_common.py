"""What the modules of this folder share: types of arguments, messages as warnings, and tables for a notebook."""

import inspect
import warnings
from collections.abc import Mapping, Sequence
from html import escape
from os import PathLike
from typing import Any, Literal, TypeAlias

from refnet.terminal.progress import Quiet
from refnet.terminal.spelling import with_arguments

Crops: TypeAlias = Literal["centre", "ten"]
AnyPath: TypeAlias = str | PathLike[str]
Arrays: TypeAlias = Sequence[Any]  # a pair (images, labels)


class Warnings(Quiet):
    """Shows no progress, and issues messages as warnings."""

    def say(self, line: str) -> None:
        """Warn, at the line of the user's program that called refnet."""
        frame, level = inspect.currentframe(), 1
        while frame and frame.f_globals.get("__name__", "").partition(".")[0] == "refnet":
            frame, level = frame.f_back, level + 1
        warnings.warn(with_arguments(line).removeprefix("note: ").removeprefix("warning: "), stacklevel=level)


def html_table(facts: Mapping[str, str]) -> str:
    """Return an HTML table with a row for each fact."""
    rows = "".join(f"<tr><th>{escape(name)}</th><td>{escape(text)}</td></tr>" for name, text in facts.items())
    return f"<table>{rows}</table>"
