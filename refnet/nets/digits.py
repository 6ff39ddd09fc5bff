"""A small AlexNet for 8x8 digits that has every kind of layer of the paper and trains in seconds."""

from refnet.nets.net import Net
from refnet.network.plan import conv, dropout, linear, lrn, maxpool, relu

RECIPE = {
    "batch": 32,
    "lr": 0.015,
    "momentum": 0.9,
    "weight_decay": 5e-4,
    "epochs": 26,
    # With only 140 validation images, their error does not show reliably when it has stopped improving.
    "schedule": "fixed",
    "drop_epochs": (18, 23),
    "lr_factor": 10.0,
    "columns": 2,
    "threads": 1,  # its matrix products are so small that threads would mostly wait for each other
}


def digits() -> Net:
    """Return the net: two columns that read each other at conv3 and in the fully connected layers.

    The sigmas, about sqrt(2 / inputs), keep the size of activations from layer to layer; conv1's is smaller because
    pixels are as large as 16. LRN's alpha is larger than the paper's, which is meant for activations in the hundreds.
    """
    layers = (
        conv("conv1", 32, 3, pad=1, sigma=0.1, bias=0),
        relu("relu1"),
        lrn("norm1", alpha=0.01),
        maxpool("pool1"),
        conv("conv2", 64, 3, pad=1, sigma=0.1, bias=0),
        relu("relu2"),
        lrn("norm2", alpha=0.01),
        conv("conv3", 64, 3, pad=1, reads="all", sigma=0.06, bias=0),
        relu("relu3"),
        conv("conv4", 64, 3, pad=1, sigma=0.08, bias=0),
        relu("relu4"),
        maxpool("pool4"),
        linear("fc5", 128, sigma=0.08, bias=0),
        relu("relu5"),
        dropout("drop5"),
        linear("fc6", 10, sigma=0.1, bias=0, columns="one"),
    )
    return Net("digits", (1, 8, 8), 10, layers, ("default",), RECIPE, data="digits", flip=False)
