"""The verdict on a claim: a 95 % confidence interval of the mean difference between pairs of runs decides it.

Source
------
Student, *The probable error of a mean*, Biometrika 6 (1908): for n differences that are drawn from one normal
distribution with mean mu, ``(mean - mu) / (s / sqrt(n))`` has a t distribution with n - 1 degrees of freedom, where s
is their standard deviation.

Decisions
---------
Two runs with the same seed are a pair, so that effects of the seed on both cancel. A claim is *shown* if the whole
interval is on the paper's side of zero, *not shown* if it is on the other side, and the experiment is *too small to
tell* if the interval contains zero. If the idea has no effect, the interval still excludes zero in one experiment of
twenty. The initial weights, the order, the crops and the dropout depend on the seed; the training images do not.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from math import inf, isfinite, sqrt
from statistics import mean, stdev
from typing import Any, Literal

Verdict = Literal["shown", "not shown", "too small to tell"]

# The 0.975 quantiles of the t distribution with 1, 2, ... degrees of freedom.
T_QUANTILES = (
    *(12.7062, 4.3027, 3.1824, 2.7764, 2.5706, 2.4469, 2.3646, 2.3060, 2.2622, 2.2281),
    *(2.2010, 2.1788, 2.1604, 2.1448, 2.1314, 2.1199, 2.1098, 2.1009, 2.0930, 2.0860),
    *(2.0796, 2.0739, 2.0687, 2.0639, 2.0595, 2.0555, 2.0518, 2.0484, 2.0452),
)
MAX_PAIRS = len(T_QUANTILES) + 1


@dataclass(frozen=True)
class Comparison:
    """One measure, compared between both variants.

    Attributes
    ----------
    without, paper
        The mean of each variant.
    without_spread, paper_spread
        Their standard deviations over the seeds; 0 for one seed.
    difference
        The mean over the pairs of the measure with the paper's idea minus without it; negative if the idea helps.
    low, high
        The ends of its 95 % confidence interval; infinite for one seed.
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
        """Return the fields for JSON, with None instead of infinity."""
        return {key: None if value in {inf, -inf} else value for key, value in asdict(self).items()}


def compare(without: Sequence[float], paper: Sequence[float]) -> Comparison:
    """Compare two variants. Values with the same index are a pair; there are 1 to `MAX_PAIRS` pairs."""
    differences = [b - a for a, b in zip(without, paper, strict=True)]
    n, difference = len(differences), mean(differences)
    half_width = T_QUANTILES[n - 2] * stdev(differences) / sqrt(n) if n > 1 else inf
    low, high = difference - half_width, difference + half_width
    verdict: Verdict = "shown" if high < 0 else "not shown" if low > 0 else "too small to tell"
    return Comparison(mean(without), mean(paper), _spread(without), _spread(paper), difference, low, high, verdict)


def _spread(values: Sequence[float]) -> float:
    return stdev(values) if len(values) > 1 else 0.0


def explain(comparison: Comparison) -> str:
    """Return the reason for the verdict."""
    if not isfinite(comparison.low):
        return "one seed gives no confidence interval"
    position = {
        "shown": "is on the paper's side of zero",
        "not shown": "is on the other side of zero",
        "too small to tell": "contains zero",
    }
    interval = f"{comparison.low:+.2f} to {comparison.high:+.2f}"
    return f"the 95 % interval of the difference, {interval}, {position[comparison.verdict]}"
