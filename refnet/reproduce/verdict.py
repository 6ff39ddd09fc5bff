"""The rule by which a claim is judged: the 95 % confidence interval of a mean difference between pairs.

Source
------
Student, *The probable error of a mean*, Biometrika 6 (1908): for n differences that are drawn from one normal
distribution, ``(mean - truth) / (s / sqrt(n))`` has a t distribution with n - 1 degrees of freedom, s being their
standard deviation.

Decisions
---------
Pairs are runs with the same seed, so that what a seed does to both does not count. A claim is *shown* where the whole
interval is on its side of zero, *not shown* where it is on the other side, and the experiment is *too small to tell*
where zero lies within. One run in twenty with no effect at all leaves zero outside. What varies with a seed is the
first weights, the order, the crops and the dropout; the training images are the same ones.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from math import inf, isfinite, sqrt
from statistics import mean, stdev
from typing import Any, Literal

Verdict = Literal["shown", "not shown", "too small to tell"]

# Quantiles 0.975 of the t distribution with 1, 2, ... degrees of freedom.
T = (
    *(12.7062, 4.3027, 3.1824, 2.7764, 2.5706, 2.4469, 2.3646, 2.3060, 2.2622, 2.2281),
    *(2.2010, 2.1788, 2.1604, 2.1448, 2.1314, 2.1199, 2.1098, 2.1009, 2.0930, 2.0860),
    *(2.0796, 2.0739, 2.0687, 2.0639, 2.0595, 2.0555, 2.0518, 2.0484, 2.0452),
)
MOST = len(T) + 1  # pairs


@dataclass(frozen=True)
class Comparison:
    """Two arms in one measure.

    Attributes
    ----------
    without, paper
        The mean of each arm.
    without_spread, paper_spread
        Their standard deviations over the seeds; 0 for one seed.
    difference
        What the paper's idea adds to the measure, less than zero where it helps: the mean over the pairs.
    low, high
        Where its 95 % confidence interval begins and ends; infinite for one seed.
    """

    without: float
    paper: float
    without_spread: float
    paper_spread: float
    difference: float
    low: float
    high: float
    verdict: Verdict

    def as_dict(self) -> dict[str, Any]:
        """Give everything ready for JSON, which has no infinity: None stands for it."""
        return {key: None if value in {inf, -inf} else value for key, value in asdict(self).items()}


def compare(without: Sequence[float], paper: Sequence[float]) -> Comparison:
    """Compare two arms, of which the runs at the same place are a pair: at least one, and `MOST` at most."""
    differences = [b - a for a, b in zip(without, paper, strict=True)]
    n, difference = len(differences), mean(differences)
    half = T[n - 2] * stdev(differences) / sqrt(n) if n > 1 else inf
    low, high = difference - half, difference + half
    verdict: Verdict = "shown" if high < 0 else "not shown" if low > 0 else "too small to tell"
    return Comparison(mean(without), mean(paper), _spread(without), _spread(paper), difference, low, high, verdict)


def _spread(values: Sequence[float]) -> float:
    return stdev(values) if len(values) > 1 else 0.0


def explain(comparison: Comparison) -> str:
    """Say in a sentence why the verdict is what it is."""
    if not isfinite(comparison.low):
        return "one seed has no spread to compare a difference with"
    where = {
        "shown": "lies on the paper's side of zero",
        "not shown": "lies on the other side of zero",
        "too small to tell": "contains zero",
    }
    interval = f"{comparison.low:+.2f} to {comparison.high:+.2f}"
    return f"the 95 % interval of the difference, {interval}, {where[comparison.verdict]}"
