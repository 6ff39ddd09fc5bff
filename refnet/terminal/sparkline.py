"""A curve in one line of text, for a terminal: the values of a whole run as a few blocks of different heights."""

from math import isfinite

BLOCKS = "▁▂▃▄▅▆▇█"
MIN_BLOCKS = 8  # of a long curve, which has fewer than twice as many


class Sparkline:
    """A curve of all values so far. Each block is the mean of equally many values, more as the curve grows."""

    def __init__(self) -> None:
        self._means: list[float] = []
        self._per_block = 1
        self._sum, self._count = 0.0, 0

    def add(self, value: float) -> None:
        """Add a value, unless it is NaN or infinite."""
        if not isfinite(value):
            return
        self._sum, self._count = self._sum + value, self._count + 1
        if self._count < self._per_block:
            return
        self._means.append(self._sum / self._count)
        self._sum, self._count = 0.0, 0
        if len(self._means) == 2 * MIN_BLOCKS:
            self._means = [(a + b) / 2 for a, b in zip(self._means[::2], self._means[1::2], strict=True)]
            self._per_block *= 2

    def __str__(self) -> str:
        if not self._means:
            return ""
        low, high = min(self._means), max(self._means)
        scale = (len(BLOCKS) - 1) / (high - low or 1.0)
        return "".join(BLOCKS[round((mean - low) * scale)] for mean in self._means)
