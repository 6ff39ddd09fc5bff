"""The score of a network: loss, top-1 and top-5 error over a set of images."""

from collections.abc import Callable, Mapping
from math import isfinite
from typing import Any

import numpy as np
import numpy.typing as npt

from refnet.backend.interface import Array, Backend
from refnet.data.crops import centre
from refnet.data.dataset import Split
from refnet.data.loader import batches
from refnet.data.parallel import Reading
from refnet.errors import NumericError
from refnet.network import passes
from refnet.network.plan import Plan
from refnet.runs.state import Score


class Errors:
    """Counts how many images are classified wrongly, batch by batch.

    Attributes
    ----------
    count
        How many images so far.
    """

    def __init__(self) -> None:
        self.count = 0
        self._wrong = {1: 0.0, 5: 0.0}

    def add(self, p: npt.NDArray[Any], labels: npt.NDArray[Any]) -> None:
        """Count a batch: p (N,K), labels (N,)."""
        self.count += len(labels)
        for k in self._wrong:
            self._wrong[k] += top_k_error(p, labels, k) * len(labels)

    @property
    def top1_error(self) -> float:
        """The fraction of images whose correct class is not the most probable."""
        return self._wrong[1] / self.count

    @property
    def top5_error(self) -> float:
        """The fraction of images whose correct class is not among the five most probable."""
        return self._wrong[5] / self.count


def score(
    plan: Plan,
    params: Mapping[str, Array],
    split: Split,
    mean: npt.NDArray[np.float32],
    backend: Backend,
    *,
    batch: int,
    between: Callable[[], None] = lambda: None,
    reading: Reading = Reading(),  # noqa: B008 - it cannot be changed
) -> Score:
    """Return the mean loss and the errors for the centre crops of a split, `batch` images at a time.

    `between` is called before each batch.

    Raises
    ------
    NumericError
        The loss is NaN or infinite.
    """
    _, height, width = plan.input_shape
    loss, errors = 0.0, Errors()
    device_mean = backend.asarray(mean)
    for read in batches(split, np.arange(len(split)), batch, reading=reading):
        between()
        indices, labels = read.indices, read.labels
        draws = centre(len(indices), split.shape, (height, width))
        images = passes.crop(plan, backend.asarray(read.images), device_mean, draws, backend)
        output = passes.forward(plan, params, images, backend, record=False).output
        batch_loss, p = backend.softmax_xent.forward(output, backend.asarray(labels))
        loss += float(backend.to_numpy(batch_loss)) * len(indices)
        errors.add(backend.to_numpy(p), labels)
    if not isfinite(loss):
        raise NumericError(f"the loss over {len(split)} images is {loss}; the parameters have grown beyond all measure")
    return Score(loss / len(split), errors.top1_error, errors.top5_error)


def top_k_error(p: npt.NDArray[Any], labels: npt.NDArray[Any], k: int) -> float:
    """Return the mean chance that the correct class is not among the k most probable: p (N,K), labels (N,).

    Classes that tie with the correct one share the remaining places, as in code2012: with g classes more probable than
    the correct class and t as probable, itself included, it is among the k with chance ``(k - g) / t``, clipped to
    [0, 1]. A correct class whose probability is NaN is never among them.
    """
    correct = p[np.arange(len(labels)), labels][:, None]
    above = (p > correct).sum(axis=1)
    level = (p == correct).sum(axis=1)
    among = np.where(level > 0, np.clip((k - above) / np.maximum(level, 1), 0, 1), 0)
    return float(1 - among.mean())
