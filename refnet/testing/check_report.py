"""The report of a check: its table as text and HTML, and for each failure a line of Python that repeats it."""

from dataclasses import dataclass
from html import escape
from math import isfinite

from refnet.testing.agreement import Problem
from refnet.testing.check_kinds import KINDS

HEADINGS = ("function", "check", "calls", "failed", "error/bound")
MAX_SHOWN = 3  # failures printed for each function


@dataclass(frozen=True)
class Failure:
    """What is wrong with a function in one kind of check, shown by the smallest call that fails.

    Attributes
    ----------
    sentence
        What is wrong.
    line
        A line of Python that repeats this call. It imports the functions if it can; otherwise it uses their names.
    ratio
        The largest error divided by its bound; infinite where no bound applies.
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
    """The result of one kind of check of one function.

    Attributes
    ----------
    calls
        Number of calls made.
    left_out
        Number of calls that `only` excluded.
    failed
        Number of calls that failed.
    worst
        The largest error over its bound.
    failure
        The smallest call that failed; None if none did.
    note
        A remark for the table.
    """

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
        """The cells of the row in the table."""
        return (self.function, KINDS[self.kind], str(self.calls), str(self.failed or "-"), self._worst())

    def _worst(self) -> str:
        if self.failed and not isfinite(self.worst):
            return "wrong"
        if self.kind == "signature" or not self.calls:
            return "-"
        digits = 3 if 0.95 <= self.worst < 10 else 1  # near 1, three digits show which side it is on
        return f"{self.worst:.{digits}g}" if self.worst else "exact"


@dataclass(frozen=True)
class Report:
    """The result of :func:`refnet.testing.check.check`. It is true if everything passed."""

    rows: tuple[Row, ...]
    limited: bool = False

    @property
    def passed(self) -> bool:
        """Whether every check passed."""
        return not self.failures

    @property
    def failures(self) -> tuple[Failure, ...]:
        """One failure for each kind of check that failed."""
        return tuple(row.failure for row in self.rows if row.failure)

    def require(self) -> "Report":
        """Return the report if every check passed; otherwise raise ``AssertionError`` with the failures.

        The cause of the error is the first exception that a function raised. In a test:
        ``refnet.check(lrn_forward=my_kernel).require()``.
        """
        if self.passed:
            return self
        errors = [failure.error for failure in self.failures if failure.error]
        raise AssertionError("\n".join(self._sentences())) from (errors[0] if errors else None)

    def __bool__(self) -> bool:
        """Return whether every check passed."""
        return self.passed

    def __str__(self) -> str:
        """Return the table and the failures as text."""
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
        failures = "".join(
            f"<p><b>{escape(self._title(failure))}</b> {escape(failure.sentence)}.</p>"
            f'<pre style="white-space:pre-wrap">{escape(failure.line)}</pre>'
            for failure in self._shown()
        )
        table = f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"
        return f"{table}{failures}<p>{escape(self._verdict())}</p>"

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
        return [f"{self._title(f)} {f.sentence}.\n  Repeat with: {f.line}" for f in self._shown()]

    def _shown(self) -> list[Failure]:
        """Return the first failures of each function."""
        by_function: dict[str, list[Failure]] = {}
        for failure in self.failures:
            by_function.setdefault(failure.function, []).append(failure)
        return [failure for failures in by_function.values() for failure in failures[:MAX_SHOWN]]

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
