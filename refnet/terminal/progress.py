"""Progress of long work: a live bar on a terminal, plain lines elsewhere."""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from datetime import timedelta
from typing import Protocol, TextIO

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, Task, TextColumn
from rich.table import Column
from rich.text import Text

from refnet.terminal.printable import printable
from refnet.terminal.spelling import with_arguments, with_flags
from refnet.terminal.streams import is_terminal
from refnet.terminal.wrapping import wrapped


class Advance(Protocol):
    """Reports the progress of a task."""

    def __call__(
        self, done: int, total: int | None = None, remark: str = "", detail: str = "", left: float | None = None
    ) -> None:
        """Report the parts done, their total (if not known before), a remark, and a detail that only a terminal shows.

        `left` is the time in seconds until the whole work is done, if this task is only a part of it.
        """


class Show(Protocol):
    """Shows the progress and the messages of long work."""

    def spell(self, message: str) -> str:
        """Return a message in the reader's spelling of settings, for a file that keeps it."""

    def say(self, line: str) -> None:
        """Print one line that stays. It may contain settings (:func:`refnet.terminal.spelling.setting`)."""

    def note(self, line: str) -> None:
        """Print one line about this machine, which is no part of the command's output."""

    def task(self, name: str, total: int | None = None) -> AbstractContextManager[Advance]:
        """Show a task while the context lasts; it yields a function to report parts done, their total and a remark."""


class Live:
    """Progress on a terminal: a bar that is redrawn in place, with lines above it. `spelling` is as for :func:`on`."""

    def __init__(self, console: Console, spelling: Callable[[str], str] = with_flags) -> None:
        self.console = console
        self.spell = spelling

    def say(self, line: str) -> None:
        """Print one line that stays."""
        text = wrapped(printable(self.spell(line)), self.console.width)
        self.console.print(text, highlight=False, markup=False, emoji=False, soft_wrap=True)

    note = say

    @contextmanager
    def task(self, name: str, total: int | None = None) -> Iterator[Advance]:
        """Show a bar with the parts done, the time left and a remark."""
        columns = (
            TextColumn("{task.description}"),
            BarColumn(bar_width=10),
            MofNCompleteColumn(),
            _TimeLeft(),
        )
        last = TextColumn("{task.fields[remark]}", table_column=Column(ratio=1, no_wrap=True, overflow="crop"))
        with Progress(*columns, last, console=self.console, transient=True, expand=True) as bar:
            task = bar.add_task(name, total=total, remark="", left=None)

            def advance(
                done: int, total: int | None = None, remark: str = "", detail: str = "", left: float | None = None
            ) -> None:
                bar.update(task, completed=done, total=total, remark=f"{remark}  {detail}".strip(), left=left)

            yield advance


class _TimeLeft(ProgressColumn):
    """The time left: of the whole work if the task reports it, otherwise of the task."""

    max_refresh = 0.5

    def render(self, task: Task) -> Text:
        """Return the time as text, with dashes while it is not known."""
        left = task.fields["left"] if task.fields["left"] is not None else task.time_remaining
        return Text("-:--:--" if left is None else clock(left))


class Plain:
    """Progress in a file or a pipe: whole lines, during a task at least `every` seconds apart.

    `spelling` is as for :func:`on`.
    """

    def __init__(self, stream: TextIO, every: float = 10.0, spelling: Callable[[str], str] = with_flags) -> None:
        self.stream = stream
        self.every = every
        self.spell = spelling

    def say(self, line: str) -> None:
        """Print one line."""
        print(printable(self.spell(line)), file=self.stream, flush=True)

    def note(self, line: str) -> None:
        """Print one line to standard error."""
        if sys.stderr is not None:
            Plain(sys.stderr, spelling=self.spell).say(line)

    @contextmanager
    def task(self, name: str, total: int | None = None) -> Iterator[Advance]:
        """Print the progress of the task every `every` seconds."""
        printed = time.monotonic()

        def advance(
            done: int,
            total: int | None = total,
            remark: str = "",
            detail: str = "",  # noqa: ARG001 - for terminals
            left: float | None = None,
        ) -> None:
            nonlocal printed
            if time.monotonic() - printed >= self.every:
                printed = time.monotonic()
                time_left = "" if left is None else f"  {clock(left)} left"
                self.say(f"{name}: {done}/{total} {remark}{time_left}".rstrip())

        yield advance


class Quiet:
    """No progress, for tests and for programs that need only the result."""

    def spell(self, message: str) -> str:
        """Return a message in the spelling for Python."""
        return with_arguments(message)

    def say(self, line: str) -> None:
        """Ignore the line."""

    def note(self, line: str) -> None:
        """Ignore the line."""

    @contextmanager
    def task(self, name: str, total: int | None = None) -> Iterator[Advance]:  # noqa: ARG002
        """Ignore the task."""
        yield lambda done, total=None, remark="", detail="", left=None: None  # noqa: ARG005


class Lasting:
    """A display that becomes quiet when its output is closed, so that the work continues."""

    def __init__(self, show: Show) -> None:
        self._show = show

    def spell(self, message: str) -> str:
        """Return a message as the display spells it."""
        return self._show.spell(message)

    def say(self, line: str) -> None:
        """Print one line, if it can be printed."""
        try:
            self._show.say(line)
        except OSError:
            self._show = Quiet()

    def note(self, line: str) -> None:
        """Print one line about this machine, if it can be printed."""
        with suppress(OSError):
            self._show.note(line)

    @contextmanager
    def task(self, name: str, total: int | None = None) -> Iterator[Advance]:
        """Show a task until its output is closed."""
        stack = ExitStack()
        inner: Advance = lambda *_, **__: None  # noqa: E731 - a variable, because the next lines may replace it
        with suppress(OSError):
            inner = stack.enter_context(self._show.task(name, total))

        def advance(
            done: int, total: int | None = None, remark: str = "", detail: str = "", left: float | None = None
        ) -> None:
            with suppress(OSError):
                inner(done, **({} if total is None else {"total": total}), remark=remark, detail=detail, left=left)

        try:
            yield advance
        finally:
            with suppress(OSError):
                stack.close()


class Pace:
    """Estimates the time left from the duration of the parts done since the first.

    It includes work between parts (validating, saving), but not what only the first part does (compiling).
    """

    def __init__(self) -> None:
        self._done, self._began = 0, 0.0

    def left(self, parts: int) -> float | None:
        """Record that a part is done; return the seconds that `parts` more will take, or None after the first part."""
        now = time.monotonic()
        self._done += 1
        if self._done == 1:
            self._began = now
            return None
        return parts * (now - self._began) / (self._done - 1)


def clock(seconds: float) -> str:
    """Format seconds as hours:minutes:seconds, with days before them if there are any."""
    return str(timedelta(seconds=round(seconds)))


def on(stream: TextIO | None, spelling: Callable[[str], str] = with_flags) -> Live | Plain | Quiet:
    """Return the display that suits a stream. The stream is None where Python has no standard error.

    `spelling` writes the settings in a line: ``with_flags`` for the command, ``with_arguments`` for a Python caller
    (:mod:`refnet.terminal.spelling`).
    """
    if stream is None:
        return Quiet()
    return Live(Console(file=stream), spelling) if is_terminal(stream) else Plain(stream, spelling=spelling)
