"""How long work shows itself: a live bar on a terminal, plain lines elsewhere."""

import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from typing import Protocol, TextIO

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from refnet.printable import printable


class Advance(Protocol):
    """Says how far a task is."""

    def __call__(self, done: int, total: int | None = None, remark: str = "", detail: str = "") -> None:
        """Give the parts done, of how many (if that was not known before), a remark, and what a terminal adds to it."""


class Show(Protocol):
    """Where a long job reports to."""

    def say(self, line: str) -> None:
        """Print one line that stays."""

    def task(self, name: str, total: int | None = None) -> AbstractContextManager[Advance]:
        """Show a task while it lasts; call what is entered with the parts done, of how many, and a remark."""


class Live:
    """A terminal: a bar that is redrawn in place, and lines above it."""

    def __init__(self, console: Console) -> None:
        self.console = console

    def say(self, line: str) -> None:
        """Print one line that stays."""
        self.console.print(printable(line), highlight=False, markup=False, emoji=False, soft_wrap=True)

    @contextmanager
    def task(self, name: str, total: int | None = None) -> Iterator[Advance]:
        """Show a bar with the parts done, the time left and a remark."""
        columns = (
            TextColumn("{task.description}"),
            BarColumn(bar_width=10),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
        )
        with Progress(*columns, TextColumn("{task.fields[remark]}"), console=self.console, transient=True) as bar:
            task = bar.add_task(name, total=total, remark="")

            def advance(done: int, total: int | None = None, remark: str = "", detail: str = "") -> None:
                bar.update(task, completed=done, total=total, remark=f"{remark}  {detail}".strip())

            yield advance


class Plain:
    """A file, a pipe or a log: whole lines, and for a long task one at least `every` seconds apart."""

    def __init__(self, stream: TextIO, every: float = 10.0) -> None:
        self.stream = stream
        self.every = every

    def say(self, line: str) -> None:
        """Print one line."""
        print(printable(line), file=self.stream, flush=True)

    @contextmanager
    def task(self, name: str, total: int | None = None) -> Iterator[Advance]:
        """Print now and then how far the task is."""
        said = time.monotonic()

        def advance(done: int, total: int | None = total, remark: str = "", detail: str = "") -> None:  # noqa: ARG001
            nonlocal said
            if time.monotonic() - said >= self.every:
                said = time.monotonic()
                self.say(f"{name}: {done}/{total} {remark}".rstrip())

        yield advance


class Quiet:
    """Nowhere: for tests and for programs that look at the result alone."""

    def say(self, line: str) -> None:
        """Ignore the line."""

    @contextmanager
    def task(self, name: str, total: int | None = None) -> Iterator[Advance]:  # noqa: ARG002
        """Ignore the task."""
        yield lambda done, total=None, remark="", detail="": None  # noqa: ARG005


class Lasting:
    """Another way of showing, for work that must not end because nobody can be shown it any more."""

    def __init__(self, show: Show) -> None:
        self._show = show

    def say(self, line: str) -> None:
        """Print one line, if it can be printed."""
        try:
            self._show.say(line)
        except OSError:
            self._show = Quiet()

    @contextmanager
    def task(self, name: str, total: int | None = None) -> Iterator[Advance]:
        """Show a task, as long as it can be shown."""
        stack = ExitStack()
        told: Advance = lambda *_, **__: None  # noqa: E731 - it has the type of what replaces it
        with suppress(OSError):
            told = stack.enter_context(self._show.task(name, total))

        def advance(done: int, total: int | None = None, remark: str = "", detail: str = "") -> None:
            with suppress(OSError):
                told(done, **({} if total is None else {"total": total}), remark=remark, detail=detail)

        try:
            yield advance
        finally:
            with suppress(OSError):
                stack.close()


def on(stream: TextIO | None) -> Live | Plain | Quiet:
    """Choose the way of showing that suits a stream; None is what Python has for a closed one."""
    if stream is None:
        return Quiet()
    return Live(Console(file=stream)) if stream.isatty() else Plain(stream)
