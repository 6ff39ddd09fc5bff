"""A small curve of one line of text, for a terminal: a whole run's figures in a few blocks."""

from math import isfinite

BLOCKS = "▁▂▃▄▅▆▇█"
WIDTH = 8  # stretches at least, once there are so many figures; below twice as many


class Sparkline:
    """Means of equally long stretches of all figures so far; a stretch grows twofold whenever there are too many."""

    def __init__(self) -> None:
        self._means: list[float] = []
        self._length = 1
        self._sum, self._count = 0.0, 0

    def add(self, figure: float) -> None:
        """Take a figure; one that is not finite is passed over."""
        if not isfinite(figure):
            return
        self._sum, self._count = self._sum + figure, self._count + 1
        if self._count < self._length:
            return
        self._means.append(self._sum / self._count)
        self._sum, self._count = 0.0, 0
        if len(self._means) == 2 * WIDTH:
            self._means = [(a + b) / 2 for a, b in zip(self._means[::2], self._means[1::2], strict=True)]
            self._length *= 2

    def __str__(self) -> str:
        if not self._means:
            return ""
        low, high = min(self._means), max(self._means)
        scale = (len(BLOCKS) - 1) / (high - low or 1.0)
        return "".join(BLOCKS[round((mean - low) * scale)] for mean in self._means)
