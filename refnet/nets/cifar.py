"""AlexNet for small images: CIFAR-10 (32x32, colour) and Fashion-MNIST (28x28, grey)."""

from refnet.nets.net import Net
from refnet.network.plan import Layer, conv, dropout, linear, lrn, maxpool, relu

RECIPE = {
    "batch": 128,
    "lr": 0.01,
    "momentum": 0.9,
    "weight_decay": 5e-4,
    "epochs": 20,
    "schedule": "fixed",
    "drop_epochs": (15, 18),
    "lr_factor": 10.0,
    "columns": 2,
}


def cifar() -> Net:
    """Return the net for CIFAR-10: crops of 28x28 from 32x32, mirrored half of the time."""
    return Net("cifar", (3, 28, 28), 32, _layers(conv1_sigma=0.02), ("default",), RECIPE, data=None, flip=True)


def fashion() -> Net:
    """Return the net for Fashion-MNIST: crops of 26x26 from 28x28, mirrored half of the time."""
    recipe = RECIPE | {"epochs": 14, "drop_epochs": (10, 13)}
    return Net("fashion", (1, 26, 26), 28, _layers(conv1_sigma=0.03), ("default",), recipe, data=None, flip=True)


def _layers(conv1_sigma: float) -> tuple[Layer, ...]:
    """Return the layers: two columns that read each other at conv3 and in the fully connected layers.

    The sigmas of conv1 and conv2 scale pixels, whose standard deviation is about 60 grey levels, to activations of
    about 1. Those of the later layers, about sqrt(2 / inputs), keep activations at that size.
    """
    return (
        conv("conv1", 32, 5, pad=2, sigma=conv1_sigma, bias=0),
        relu("relu1"),
        lrn("norm1"),
        maxpool("pool1"),
        conv("conv2", 64, 5, pad=2, sigma=0.02, bias=0),
        relu("relu2"),
        lrn("norm2"),
        maxpool("pool2"),
        conv("conv3", 128, 3, pad=1, reads="all", sigma=0.05, bias=0),
        relu("relu3"),
        conv("conv4", 128, 3, pad=1, sigma=0.05, bias=0),
        relu("relu4"),
        maxpool("pool4"),
        linear("fc5", 256, sigma=0.04, bias=0),
        relu("relu5"),
        dropout("drop5"),
        linear("fc6", 10, sigma=0.05, bias=0, columns="one"),
    )
