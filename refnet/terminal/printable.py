"""Texts from outside, made harmless: what a file, a folder or a class is called is whatever someone wrote."""


def printable(text: object) -> str:
    """Escape what would move a terminal's cursor, change its colours, break the line or turn the writing around."""
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in str(text))


def reason(error: Exception) -> str:
    """Say in one line what another library found wrong: the first line of its message, or the error's name."""
    return printable(str(error).partition("\n")[0]) or type(error).__name__
