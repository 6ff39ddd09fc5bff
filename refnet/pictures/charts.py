"""How training went, as four charts: loss, validation error, learning rate and speed."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from refnet.runs.history import History


@dataclass(frozen=True, eq=False)
class Line:
    """One line of a chart; x and y are finite and equally long."""

    label: str
    x: npt.NDArray[np.float64]
    y: npt.NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Chart:
    """Lines over one axis.

    Attributes
    ----------
    x_label
        What x counts.
    percent
        y is a fraction, shown in percent.
    log
        y is above 0 and has a logarithmic axis.
    """

    title: str
    lines: Sequence[Line]
    x_label: str
    percent: bool = False
    log: bool = False


def charts(history: History, longest: int = 0) -> list[Chart]:
    """Return the charts of a run; `longest` is the number of steps of the longest run in the same picture."""
    epochs = history.epochs
    validation = Line("validation", epochs["step"], epochs["validation_loss"])
    errors = [Line(f"top-{k}", epochs["epoch"], epochs[f"validation_top{k}_error"]) for k in (1, 5)]
    return [
        Chart("Loss", [Line("training", *history.smooth("loss", longest)), validation], "steps"),
        Chart("Validation error", errors, "epochs", percent=True),
        Chart("Learning rate", [Line("learning rate", *history.rate())], "steps", log=True),
        Chart("Images per second", [Line("images/s", *history.speed(longest))], "steps"),
    ]
