"""How often a network is wrong: top-1 and top-5 error and loss over a set of images."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
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


@dataclass(frozen=True)
class Score:
    """Mean loss, and the fractions of images that were classified wrongly, in [0, 1]."""

    loss: float
    top1_error: float
    top5_error: float


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
    """Classify the centre crop of every image of a split, `batch` at a time. `between` is called before each batch.

    Raises
    ------
    NumericError
        The loss is NaN or infinite.
    """
    _, height, width = plan.input_shape
    loss = top1 = top5 = 0.0
    there = backend.asarray(mean)
    for some in batches(split, np.arange(len(split)), batch, reading=reading):
        between()
        indices, labels = some.indices, some.labels
        draws = centre(len(indices), split.shape, (height, width))
        images = passes.crop(plan, backend.asarray(some.images), there, draws, backend)
        output = passes.forward(plan, params, images, backend, record=False).output
        batch_loss, p = backend.softmax_xent.forward(output, backend.asarray(labels))
        host = backend.to_numpy(p)
        loss += float(backend.to_numpy(batch_loss)) * len(indices)
        top1 += top_k_error(host, labels, 1) * len(indices)
        top5 += top_k_error(host, labels, 5) * len(indices)
    if not isfinite(loss):
        raise NumericError(f"the loss over {len(split)} images is {loss}; the parameters have grown beyond all measure")
    return Score(loss / len(split), top1 / len(split), top5 / len(split))


def top_k_error(p: npt.NDArray[Any], labels: npt.NDArray[Any], k: int) -> float:
    """Mean over samples of the chance that the truth is not among the k most probable classes.

    Classes as probable as the truth share the places that are left (code2012 counts so too): with g classes above
    the truth and t, itself included, level with it, the truth is among the k with chance ``(k - g) / t``, held to
    [0, 1]. A truth whose probability is NaN is never among them. p is (N,K), labels (N,).
    """
    truth = p[np.arange(len(labels)), labels][:, None]
    above = (p > truth).sum(axis=1)
    level = (p == truth).sum(axis=1)
    among = np.where(level > 0, np.clip((k - above) / np.maximum(level, 1), 0, 1), 0)
    return float(1 - among.mean())
