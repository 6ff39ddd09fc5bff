"""A picture of an experiment: the errors of both variants over the epochs, and the measures seed by seed."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from refnet.pictures.plot import COLOURS, figure_to
from refnet.reproduce.claims import Claim, Measure, Outcome
from refnet.reproduce.verdict import compare
from refnet.terminal.progress import Quiet

VARIANT_COLOURS = COLOURS[1], COLOURS[0]  # without the paper's idea, with it
PAIR_COLOUR = "#b9bfc4"


def draw(claim: Claim, outcomes: Sequence[Outcome], output: Path) -> None:
    """Draw the outcomes to a PNG or SVG file; each variant needs one. Raises ``ConfigError`` as `figure_to` does."""
    variants = [[outcome for outcome in outcomes if outcome.variant == variant.name] for variant in claim.variants]
    with figure_to(output, Quiet()) as figure:
        figure.set_size_inches(4.6 + 2.2 * len(claim.measures), 3.6)
        axes = figure.subplots(1, 1 + len(claim.measures), width_ratios=[2.1, *[1.0] * len(claim.measures)])
        _curves(axes[0], claim, variants)
        for axis, measure in zip(axes[1:], claim.measures, strict=True):
            _pairs(axis, claim, measure, variants)


def _curves(axis: Any, claim: Claim, variants: Sequence[Sequence[Outcome]]) -> None:
    """Draw the means of both errors over the seeds and, in thin lines, the watched error of each seed."""
    names = ("training", "validation") if claim.watched == "training" else ("validation", "training")
    for variant, colour, runs in zip(claim.variants, VARIANT_COLOURS, variants, strict=True):
        epochs = np.arange(1, len(runs[0].train_errors) + 1)
        errors = {
            "validation": 100 * np.array([run.validation_errors for run in runs]),
            "training": 100 * np.array([run.train_errors for run in runs]),
        }
        watched, other = (errors[name] for name in names)
        axis.plot(epochs, watched.T, color=colour, linewidth=0.6, alpha=0.3)
        axis.plot(epochs, watched.mean(axis=0), color=colour, linewidth=1.8, label=variant.name)
        axis.plot(epochs, other.mean(axis=0), color=colour, linewidth=1.4, linestyle=(0, (4, 2)))
    axis.set_title(f"{names[0].capitalize()} error, % (dashed: {names[1]})")
    axis.set_xlabel("epochs")
    axis.set_ylim(bottom=0)
    axis.xaxis.get_major_locator().set_params(integer=True)
    axis.legend(frameon=False)


def _pairs(axis: Any, claim: Claim, measure: Measure, variants: Sequence[Sequence[Outcome]]) -> None:
    """Draw one point per run and a line between the two runs of each seed; the bars are the means."""
    values = [[measure.of(run) for run in runs] for runs in variants]
    for pair in zip(*values, strict=True):
        axis.plot([0, 1], pair, color=PAIR_COLOUR, linewidth=0.9, zorder=1)
    for x, (colour, measured) in enumerate(zip(VARIANT_COLOURS, values, strict=True)):
        axis.scatter([x] * len(measured), measured, color=colour, s=22, zorder=2, linewidths=0)
        axis.hlines(np.mean(measured), x - 0.22, x + 0.22, color=colour, linewidth=2.4, zorder=3)
    axis.set_xlim(-0.5, 1.5)
    axis.set_xticks([0, 1], [variant.name for variant in claim.variants])
    axis.grid(visible=False, axis="x")
    axis.set_title(measure.name[0].upper() + measure.name[1:])
    axis.set_xlabel(compare(*values).verdict, style="italic")
