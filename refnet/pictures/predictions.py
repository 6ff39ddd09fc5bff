"""The images on which a network is most and least right, each with its most probable classes."""

from typing import NamedTuple

import numpy as np

from refnet.data.dataset import Dataset
from refnet.evaluation.responses import Responses
from refnet.pictures.thumbnails import Captioned, thumbnails

CLASSES = 5  # shown for each image


class Bar(NamedTuple):
    """A class and its probability."""

    caption: str
    probability: float
    correct: bool


class Prediction(NamedTuple):
    """An image with its correct class as caption, and its most probable classes, the most probable first."""

    shown: Captioned
    bars: list[Bar]


def predictions(responses: Responses, data: Dataset, count: int) -> dict[str, list[Prediction]]:
    """Return test images, "best" and "worst": those whose correct class is the most and the least probable."""
    best, worst = responses.best_and_worst(count)
    images = thumbnails(data.test, responses.indices[np.concatenate([best, worst])])

    def prediction(place: int) -> Prediction:
        p, label = responses.p[place], int(responses.labels[place])
        order = np.argsort(-p, kind="stable")[:CLASSES]
        bars = [Bar(data.captions[k], float(p[k]), k == label) for k in order]
        return Prediction(Captioned(images[int(responses.indices[place])], data.captions[label]), bars)

    return {title: [prediction(int(place)) for place in places] for title, places in (("best", best), ("worst", worst))}
