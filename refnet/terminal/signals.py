"""Ctrl-C and its like ask a run to stop after the step under way; a second one ends it at once."""

import os
import signal
import sys
import threading
from contextlib import suppress
from pathlib import Path
from types import FrameType
from typing import Any, Self

ASKING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
NOTICE = b"refnet: stopping after this step, to save it; once more stops at once\n"


class Interrupted(KeyboardInterrupt):
    """A run that a signal stopped. Its exit code is 128 plus the signal's number, as in a shell.

    `run` is its folder; None where the run had none yet.
    """

    def __init__(self, number: int, message: str = "", run: Path | None = None) -> None:
        super().__init__(message)
        self.number = number
        self.run = run
        self.exit_code = 128 + number


class Stop:
    """In this context the first signal is only stored, in `asked`; the second raises `Interrupted`.

    A signal that was ignored (as ``nohup`` has SIGHUP ignored, and a shell Ctrl-C in its background) stays so. Outside
    the main thread, where Python delivers no signals, it does nothing.
    """

    def __init__(self) -> None:
        self.asked: int | None = None
        self._before: dict[int, Any] = {}

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():
            for number in ASKING:
                if signal.getsignal(number) is not signal.SIG_IGN:
                    self._before[number] = signal.signal(number, self._take)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _take(self, number: int, _: FrameType | None) -> None:
        if self.asked is not None:
            raise Interrupted(number, "; stopped at once")
        self.asked = number
        if sys.stderr is not None:
            with suppress(OSError):
                os.write(2, NOTICE)  # past Python's buffers, into which the interrupted code may just be writing
