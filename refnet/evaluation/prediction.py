"""What a network predicts for one image."""

from dataclasses import dataclass

import numpy as np

from refnet.evaluation.protocol import Probabilities
from refnet.evaluation.trained import Trained

TOP_CLASSES = 5


@dataclass(frozen=True, eq=False, repr=False)
class Prediction:
    """The prediction of a network for one image.

    Attributes
    ----------
    class_name
        The name of the most probable class.
    label
        The number of the most probable class.
    probability
        The probability of the most probable class.
    top5
        The five most probable classes with their probabilities, the most probable first.
    probabilities
        The probability of every output: float64 (K,).
    """

    class_name: str
    label: int
    probability: float
    top5: tuple[tuple[str, float], ...]
    probabilities: Probabilities

    def __repr__(self) -> str:
        others = ", ".join(f"{name} {p:.1%}" for name, p in self.top5[1:])
        return f"<{self.class_name} {self.probability:.1%}; then {others}>"


def prediction(trained: Trained, p: Probabilities) -> Prediction:
    """Return the prediction for one image from the probabilities of the network's outputs, float64 (K,)."""
    labels = np.argsort(-p, kind="stable")[:TOP_CLASSES].tolist()
    top5 = tuple((trained.called(label), float(p[label])) for label in labels)
    return Prediction(top5[0][0], labels[0], top5[0][1], top5, p)
