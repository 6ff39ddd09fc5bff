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

    A full disk loses no line: what could not be written is kept in memory until the next call.

    Parameters
    ----------
    path
        The file; raises ``OSError`` if it cannot be opened.
    lines
        How many lines the file has.
    """

    def __init__(self, path: Path, lines: int = 0) -> None:
        self.lines = lines
        self._file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o666)
        self._unwritten = b""
        self.also: Callable[[str, dict[str, Any]], None] | None = None  # called with each line
        self._lock = threading.Lock()  # one thread may save a checkpoint, and so sync, while another logs

    def log(self, kind: str, **figures: Any) -> None:
        """Add a line. Raises ``ValueError`` for NaN and infinity, which JSON does not have."""
        line = (json.dumps({"kind": kind, **figures}, allow_nan=False) + "\n").encode()
        with self._lock:
            self._unwritten += line
            self.lines += 1
        with suppress(OSError):
            self.flush()
        if self.also:
            self.also(kind, figures)

    def flush(self) -> None:
        """Write the lines kept in memory. Raises ``OSError`` if they cannot all be written."""
        with self._lock:
            while self._unwritten:
                self._unwritten = self._unwritten[os.write(self._file, self._unwritten) :]

    def sync(self) -> None:
        """Flush all lines to the disk. Raises ``OSError``."""
        self.flush()
        os.fsync(self._file)

    def close(self) -> None:
        """Close the file, after one more try to write the lines kept in memory."""
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
    """Cut a file after `count` lines, or after its last complete line if it has fewer; return how many remain.

    The length of a file changes atomically, so a power cut leaves the old file or the new one. Raises
    ``OSError``.
    """
    path.touch()
    with path.open("r+b") as file:
        lengths = [len(line) for line in islice(file, count) if line.endswith(b"\n")]
        file.truncate(sum(lengths))
    return len(lengths)
