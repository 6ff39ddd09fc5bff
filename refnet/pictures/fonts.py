"""Fonts for the texts of a picture: names of classes and runs may be in any script."""

import warnings
from collections.abc import Iterator
from typing import Any

from refnet.terminal.printable import printable


def choose(figure: Any) -> str:
    """Give each text of a figure fonts that have its characters, and return the characters that no font here has."""
    from matplotlib.font_manager import fontManager, get_font  # noqa: PLC0415 - an extra
    from matplotlib.text import Text  # noqa: PLC0415

    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing from")
        figure.draw_without_rendering()  # the labels of ticks are set when a figure is drawn
    texts = figure.findobj(Text)
    own = get_font(fontManager.findfont("DejaVu Sans")).get_charmap()  # the font that matplotlib brings along
    lacking = {c for text in texts for c in text.get_text() if c.isprintable() and ord(c) not in own}
    families = []
    for family, characters in _fonts() if lacking else ():
        if lacking & characters:
            families.append(family)
            lacking -= characters
    for text in texts if families else ():
        text.set_fontfamily(["DejaVu Sans", *families])
    return printable("".join(sorted(lacking)))


def _fonts() -> Iterator[tuple[str, set[str]]]:
    """Yield the family of each font installed here, by name, and the characters that it has."""
    from matplotlib.font_manager import fontManager, get_font  # noqa: PLC0415 - an extra

    for entry in sorted(fontManager.ttflist, key=lambda entry: (entry.name, entry.style, str(entry.weight))):
        if entry.style == "normal" and "Last Resort" not in entry.name:  # which has a box for every character
            try:
                yield entry.name, set(map(chr, get_font(entry.fname).get_charmap()))
            except (OSError, RuntimeError):  # the file is gone or damaged
                continue
