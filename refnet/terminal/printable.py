"""Make text from outside safe to print: the names of files, folders and classes may contain anything."""

from collections.abc import Iterable, Sequence

NAMED = 3  # names in a message; more are only counted


def printable(text: object) -> str:
    """Escape characters that would move the cursor, change colours, break the line or reverse the writing direction."""
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in str(text))


def reason(error: Exception) -> str:
    """Return the error of another library in one line: the first line of its message, or the error's name."""
    return printable(str(error).partition("\n")[0]) or type(error).__name__


def counted(count: int, noun: str) -> str:
    """Return a number with its noun, such as ``1 step`` or ``1,066 steps``."""
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def duration(seconds: float) -> str:
    """Return a time in words: ``1.6 s``, ``12 min 5 s`` or ``3 h 25 min``."""
    minutes, rest = divmod(seconds, 60)
    hours, minutes = divmod(int(minutes), 60)
    if hours:
        return f"{hours} h {minutes:02} min"
    return f"{minutes} min {rest:.0f} s" if minutes else f"{rest:.1f} s"


def dimensions(shape: Iterable[int]) -> str:
    """Return the lengths of the axes with an x between them, such as 32x32x3."""
    return "x".join(map(str, shape))


def first_few(names: Sequence[str]) -> str:
    """Return the first `NAMED` names and how many more there are: "a, b, c and 5 more"."""
    more = f" and {len(names) - NAMED:,} more" if len(names) > NAMED else ""
    return ", ".join(map(printable, names[:NAMED])) + more
