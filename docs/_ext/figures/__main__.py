"""Draw the figures of docs/figures/ again."""

from pathlib import Path

import figures

for path in sorted((Path(__file__).parents[2] / "figures").glob("*.svg")):
    path.write_text(figures.on_white(path.stem))
