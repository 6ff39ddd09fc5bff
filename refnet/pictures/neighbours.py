"""The paper's figure 4: images, each with the images whose activations are nearest to its own."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from PIL import Image

from refnet.data.dataset import Dataset, Pixels
from refnet.evaluation.neighbours import nearest
from refnet.evaluation.responses import Responses
from refnet.pictures.thumbnails import Captioned, thumbnails

QUERIES, NEIGHBOURS = 5, 6  # rows, and neighbours in each row

MIN_SIDE = 128  # pixels of an image in `draw`
GAP = 8  # pixels between images
QUERY_GAP = 24  # pixels between an image and its neighbours


class NeighbourRow(NamedTuple):
    """An image and its neighbours, the nearest first."""

    query: Captioned
    neighbours: list[Captioned]


def rows(tested: Responses, trained_on: Responses, data: Dataset) -> list[NeighbourRow]:
    """Return test images of different classes, and for each the nearest training images in the last hidden layer.

    Where both are the same images, an image is no neighbour of itself.
    """
    queries = tested.of_different_classes(QUERIES)
    near = []
    for query, index in zip(queries.hidden, queries.indices, strict=True):
        places = nearest(query, trained_on.hidden, NEIGHBOURS + 1).indices
        others = places if data.train is not data.test else places[trained_on.indices[places] != index]
        near.append(others[:NEIGHBOURS])
    query_images = thumbnails(data.test, queries.indices)
    images = thumbnails(data.train, trained_on.indices[np.unique(np.concatenate(near))])
    return [
        NeighbourRow(
            Captioned(query_images[int(index)], data.captions[label]),
            [
                Captioned(images[int(trained_on.indices[place])], data.captions[trained_on.labels[place]])
                for place in places
            ],
        )
        for index, label, places in zip(queries.indices, queries.labels, near, strict=True)
    ]


def draw(images: Sequence[tuple[Pixels, Pixels]]) -> Image.Image:
    """Draw rows: an image (H,W,C), and to its right those that are similar (n,H,W,C).

    Small images are magnified, each pixel to a square.
    """
    height, width, channels = images[0][0].shape
    zoom = max(1, -(-MIN_SIDE // max(height, width)))
    height, width = height * zoom, width * zoom
    longest = max(len(similar) for _, similar in images)
    canvas = np.full(
        (len(images) * (height + GAP) - GAP, QUERY_GAP + width + longest * (width + GAP) - GAP, channels), 255, np.uint8
    )
    for number, (query, similar) in enumerate(images):
        top = number * (height + GAP)
        lefts = [0, *(width + QUERY_GAP + place * (width + GAP) for place in range(len(similar)))]
        for left, pixels in zip(lefts, (query, *similar), strict=True):
            canvas[top : top + height, left : left + width] = pixels.repeat(zoom, axis=0).repeat(zoom, axis=1)
    return Image.fromarray(canvas[..., 0] if channels == 1 else canvas)
