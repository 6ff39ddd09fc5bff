"""The file ``metrics.jsonl``: one line of JSON for each step and epoch, written as it happens, and read back."""

import json
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from itertools import islice
from pathlib import Path
from typing import Any, Self


class Metrics:
    """A file that only grows.

    A disk that is full costs no line: what it did not take waits in memory for the next call.

    Parameters
    ----------
    path
        The file; raises ``OSError`` if it cannot be opened.
    lines
        How many it holds.
    """

    def __init__(self, path: Path, lines: int = 0) -> None:
        self.lines = lines
        self._file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o666)
        self._waiting = b""
        self.also: Callable[[str, dict[str, Any]], None] | None = None  # is told of each line, too
        self._one = threading.Lock()  # a thread that saves a checkpoint syncs, while another logs

    def log(self, kind: str, **figures: Any) -> None:
        """Add a line. Raises ``ValueError`` for NaN and infinity, which JSON does not have."""
        line = (json.dumps({"kind": kind, **figures}, allow_nan=False) + "\n").encode()
        with self._one:
            self._waiting += line
            self.lines += 1
        with suppress(OSError):
            self.flush()
        if self.also:
            self.also(kind, figures)

    def flush(self) -> None:
        """Write what waits. Raises ``OSError`` if the disk does not take all of it."""
        with self._one:
            while self._waiting:
                self._waiting = self._waiting[os.write(self._file, self._waiting) :]

    def sync(self) -> None:
        """Bring all lines to the disk. Raises ``OSError``."""
        self.flush()
        os.fsync(self._file)

    def close(self) -> None:
        """Close the file, when what waits has been tried once more."""
        with suppress(OSError):
            self.flush()
        os.close(self._file)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def lines(path: Path, last_bytes: int | None = None) -> Iterator[dict[str, Any]]:
    """Yield the lines of a file, the oldest first; those that are cut or hold no JSON object are left out.

    `last_bytes` reads only the end of a long file. Raises ``OSError``.
    """
    with path.open("rb") as file:
        if last_bytes is not None:
            file.seek(max(0, file.seek(0, os.SEEK_END) - last_bytes))
        for line in file:
            try:
                figures = json.loads(line)
            except (ValueError, RecursionError):
                continue
            if isinstance(figures, dict):
                yield figures


def truncate(path: Path, count: int) -> int:
    """Cut a file behind so many lines, or behind its last whole line if it has fewer; return how many it has.

    The length of a file changes at once, so that a power cut leaves it as it was or as it should be. Raises
    ``OSError``.
    """
    path.touch()
    with path.open("r+b") as file:
        kept = [len(line) for line in islice(file, count) if line.endswith(b"\n")]
        file.truncate(sum(kept))
    return len(kept)
