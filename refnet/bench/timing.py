"""Timing in rounds, each of which times every contender, so that changes in the machine's speed affect all alike."""

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from statistics import median
from typing import TypeVar

K = TypeVar("K")
Work = Callable[[], object]

# A round repeats short work until it has taken this long. Before that, one call wakes the threads up.
MIN_ROUND_SECONDS = 0.05
# Pause between contenders: OpenBLAS's threads keep spinning after a product, and slow down whatever is timed next (by
# up to one half).
PAUSE_SECONDS = 0.1


@dataclass(frozen=True)
class Timing:
    """The time of one call in seconds: minimum and median of the rounds."""

    minimum: float
    median: float

    @classmethod
    def of(cls, seconds: Sequence[float]) -> "Timing":
        """Return the minimum and the median of the rounds' seconds."""
        return cls(min(seconds), median(seconds))

    def __sub__(self, other: "Timing") -> "Timing | None":
        """Return the time without that of a part; None if the part took longer, so that the difference is noise."""
        left = Timing(self.minimum - other.minimum, self.median - other.median)
        return left if min(left.minimum, left.median) > 0 else None

    def as_dict(self) -> dict[str, float]:
        """Return keys and values for JSON."""
        return asdict(self)


def timed(work: Work, min_seconds: float = MIN_ROUND_SECONDS) -> float:
    """Return the seconds of one call. Short work is called once, then repeatedly for about `min_seconds`."""
    began = time.perf_counter()
    work()
    once = time.perf_counter() - began
    if once >= min_seconds:
        return once
    repeats = math.ceil(min_seconds / max(once, 1e-7))
    began = time.perf_counter()
    for _ in range(repeats):
        work()
    return (time.perf_counter() - began) / repeats


def in_rounds(works: Mapping[K, Work], rounds: int) -> dict[K, Timing]:
    """Return the time of each function in `works`. Each is called once to warm up, then all are timed in turn."""
    for work in works.values():
        work()
    seconds: dict[K, list[float]] = {key: [] for key in works}
    for _ in range(rounds):
        for key, work in works.items():
            if len(works) > 1:
                time.sleep(PAUSE_SECONDS)
            seconds[key].append(timed(work))
    return {key: Timing.of(times) for key, times in seconds.items()}
