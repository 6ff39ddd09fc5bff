"""Stop a run by a signal such as Ctrl-C: the first stops it after the current step, the second at once."""

import os
import signal
import sys
import threading
from contextlib import suppress
from pathlib import Path
from types import FrameType
from typing import Any, Self

STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
NOTICE = b"refnet: stopping after this step to save the run; a second signal stops at once\n"


class Interrupted(KeyboardInterrupt):
    """A signal has stopped a run. The exit code is 128 plus the signal's number, as in a shell.

    `run` is the run's folder; None if it has none yet.
    """

    def __init__(self, number: int, message: str = "", run: Path | None = None) -> None:
        super().__init__(message)
        self.number = number
        self.run = run
        self.exit_code = 128 + number


class Stop:
    """A context in which the first signal is only stored, in `asked`, and the second raises `Interrupted`.

    A signal that is already ignored stays ignored: ``nohup`` ignores SIGHUP, and a shell ignores Ctrl-C in background
    jobs. Outside the main thread the context does nothing, because Python delivers signals only to the main thread.
    """

    def __init__(self) -> None:
        self.asked: int | None = None
        self._before: dict[int, Any] = {}

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():
            for number in STOP_SIGNALS:
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
                os.write(2, NOTICE)  # not through Python's buffers, which the interrupted code may be writing to
