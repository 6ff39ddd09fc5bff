"""A picture of an experiment: the errors of both arms over the epochs, and the measures seed by seed."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from refnet.pictures.plot import COLOURS, figure_to
from refnet.reproduce.claims import Claim, Measure, Outcome
from refnet.reproduce.verdict import compare

ARM_COLOURS = COLOURS[1], COLOURS[0]  # without the paper's idea, with it
PAIR_COLOUR = "#b9bfc4"


def draw(claim: Claim, outcomes: Sequence[Outcome], output: Path) -> None:
    """Draw at least one seed of each arm to a PNG or SVG file. Raises ``ConfigError`` as `figure_to`."""
    arms = [[outcome for outcome in outcomes if outcome.arm == arm.name] for arm in claim.arms]
    with figure_to(output) as figure:
        figure.set_size_inches(4.6 + 2.2 * len(claim.measures), 3.6)
        axes = figure.subplots(1, 1 + len(claim.measures), width_ratios=[2.1, *[1.0] * len(claim.measures)])
        _curves(axes[0], claim, arms)
        for axis, measure in zip(axes[1:], claim.measures, strict=True):
            _pairs(axis, claim, measure, arms)


def _curves(axis: Any, claim: Claim, arms: Sequence[Sequence[Outcome]]) -> None:
    """Draw the means of both errors over the seeds and, in thin lines, the watched error of each seed."""
    names = ("training", "validation") if claim.watched == "training" else ("validation", "training")
    for arm, colour, runs in zip(claim.arms, ARM_COLOURS, arms, strict=True):
        epochs = np.arange(1, len(runs[0].train_errors) + 1)
        errors = {
            "validation": 100 * np.array([run.validation_errors for run in runs]),
            "training": 100 * np.array([run.train_errors for run in runs]),
        }
        watched, other = (errors[name] for name in names)
        axis.plot(epochs, watched.T, color=colour, linewidth=0.6, alpha=0.3)
        axis.plot(epochs, watched.mean(axis=0), color=colour, linewidth=1.8, label=arm.name)
        axis.plot(epochs, other.mean(axis=0), color=colour, linewidth=1.4, linestyle=(0, (4, 2)))
    axis.set_title(f"{names[0].capitalize()} error, % (dashed: {names[1]})")
    axis.set_xlabel("epochs")
    axis.set_ylim(bottom=0)
    axis.xaxis.get_major_locator().set_params(integer=True)
    axis.legend(frameon=False)


def _pairs(axis: Any, claim: Claim, measure: Measure, arms: Sequence[Sequence[Outcome]]) -> None:
    """Draw one point per run and a line between the two runs of each seed; the bars are the means."""
    values = [[measure.of(run) for run in runs] for runs in arms]
    for pair in zip(*values, strict=True):
        axis.plot([0, 1], pair, color=PAIR_COLOUR, linewidth=0.9, zorder=1)
    for place, (colour, column) in enumerate(zip(ARM_COLOURS, values, strict=True)):
        axis.scatter([place] * len(column), column, color=colour, s=22, zorder=2, linewidths=0)
        axis.hlines(np.mean(column), place - 0.22, place + 0.22, color=colour, linewidth=2.4, zorder=3)
    axis.set_xlim(-0.5, 1.5)
    axis.set_xticks([0, 1], [arm.name for arm in claim.arms])
    axis.grid(visible=False, axis="x")
    axis.set_title(measure.name[0].upper() + measure.name[1:])
    axis.set_xlabel(compare(*values).verdict, style="italic")
