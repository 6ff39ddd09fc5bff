"""Texts from outside, made harmless: what a file, a folder or a class is called is whatever someone wrote."""


def printable(text: str) -> str:
    """Escape what would move a terminal's cursor, change its colours, break the line or turn the writing around."""
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)
