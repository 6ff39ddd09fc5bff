"""What a check found, as a table, a page of a notebook, and lines that repeat each failure."""

from dataclasses import dataclass
from html import escape
from math import isfinite

from refnet.testing.agreement import Problem
from refnet.testing.check_kinds import KINDS

HEADINGS = ("function", "check", "calls", "failed", "error/bound")
MAX_SHOWN = 3  # failures of a function that are printed


@dataclass(frozen=True)
class Failure:
    """What is wrong with a function in one kind of check: the smallest of the calls that fail.

    Attributes
    ----------
    sentence
        What is wrong.
    line
        The line of Python that repeats this call. Names that it cannot import are those of the caller.
    ratio
        The largest error over its bound; infinite where no bound applies.
    error
        The exception that the function raised; None if it raised none.
    problem
        The call: `problem.given` are its arrays, `problem.call.options` its keyword arguments and `problem.expected`
        the results of the reference in float64. None where there was no call.
    """

    function: str
    kind: str
    sentence: str
    line: str
    ratio: float
    error: BaseException | None = None
    problem: Problem | None = None


@dataclass(frozen=True)
class Row:
    """A kind of check of a function: calls made, calls left out, calls that failed, the worst error over its bound."""

    function: str
    kind: str
    calls: int
    left_out: int
    failed: int
    worst: float
    failure: Failure | None = None
    note: str = ""

    @property
    def cells(self) -> tuple[str, ...]:
        """The texts of the row in the table."""
        return (self.function, KINDS[self.kind], str(self.calls), str(self.failed or "-"), self._worst())

    def _worst(self) -> str:
        if self.failed and not isfinite(self.worst):
            return "wrong"
        if self.kind == "signature" or not self.calls:
            return "-"
        near = 0.95 <= self.worst < 10
        return f"{self.worst:.{3 if near else 1}g}" if self.worst else "exact"


@dataclass(frozen=True)
class Report:
    """The result of :func:`refnet.testing.check.check`. It is true where everything passed."""

    rows: tuple[Row, ...]
    limited: bool = False

    @property
    def passed(self) -> bool:
        """Whether nothing failed."""
        return not self.failures

    @property
    def failures(self) -> tuple[Failure, ...]:
        """One failure for each kind of check that failed."""
        return tuple(row.failure for row in self.rows if row.failure)

    def require(self) -> "Report":
        """Raise ``AssertionError`` with every failure, from the function's own exception; return the report if passed.

        For a test: ``refnet.check(lrn_forward=my_kernel).require()``.
        """
        if self.passed:
            return self
        errors = [failure.error for failure in self.failures if failure.error]
        raise AssertionError("\n".join(self._sentences())) from (errors[0] if errors else None)

    def __bool__(self) -> bool:
        """Tell whether everything passed."""
        return self.passed

    def __str__(self) -> str:
        """Write the table and the failures."""
        table = [self._headings(), *map(self._cells, self.rows)]
        widths = [max(len(cells[i]) for cells in table) for i in range(len(table[0]))]
        numbers = range(2, 6 if self.limited else 5)
        lines = []
        for cells in table:
            texts = [
                text.rjust(width) if i in numbers else text.ljust(width)
                for i, (text, width) in enumerate(zip(cells, widths, strict=True))
            ]
            lines.append("  ".join(texts).rstrip())
        lines.insert(1, "  ".join("-" * width for width in widths))
        return "\n".join([*lines, "", *self._sentences(), self._verdict()])

    __repr__ = __str__

    def _repr_html_(self) -> str:
        style = "text-align:left"
        head = "".join(f'<th style="{style}">{escape(text)}</th>' for text in self._headings())
        body = ""
        for row in self.rows:
            colour = ";color:#b00020" if row.failed else ""
            cells = "".join(f'<td style="{style}{colour}">{escape(text)}</td>' for text in self._cells(row))
            body += f"<tr>{cells}</tr>"
        below = "".join(
            f"<p><b>{escape(self._title(failure))}</b> {escape(failure.sentence)}.</p>"
            f'<pre style="white-space:pre-wrap">{escape(failure.line)}</pre>'
            for failure in self._shown()
        )
        return (
            f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>{below}<p>{escape(self._verdict())}</p>"
        )

    def _headings(self) -> tuple[str, ...]:
        extra = ("left out",) if self.limited else ()
        return (*HEADINGS[:3], *extra, *HEADINGS[3:], *self._note("note"))

    def _cells(self, row: Row) -> tuple[str, ...]:
        extra = (str(row.left_out or "-"),) if self.limited else ()
        return (*row.cells[:3], *extra, *row.cells[3:], *self._note(row.note))

    def _note(self, text: str) -> tuple[str, ...]:
        return (text,) if any(row.note for row in self.rows) else ()

    def _title(self, failure: Failure) -> str:
        return f"{failure.function}, {KINDS[failure.kind]}:"

    def _sentences(self) -> list[str]:
        return [f"{self._title(f)} {f.sentence}.\n  Again: {f.line}" for f in self._shown()]

    def _shown(self) -> list[Failure]:
        """Return the first failures of each function."""
        functions = dict.fromkeys(failure.function for failure in self.failures)
        return [f for name in functions for f in [f for f in self.failures if f.function == name][:MAX_SHOWN]]

    def _verdict(self) -> str:
        failed, total = len(self.failures), len(self.rows)
        checks = "1 check" if total == 1 else f"{total} checks"
        if failed:
            hidden = failed - len(self._shown())
            more = f" {hidden} more are in `failures` of this report." if hidden else ""
            return f"{failed} of {checks} failed.{more}"
        left_out = sum(row.left_out for row in self.rows)
        limit = f" `only` left out {left_out} calls." if self.limited else ""
        return f"{checks} passed.{limit}"
