"""The paper's network, and the one-GPU network that the paper compares it with."""

from refnet.nets.net import Net
from refnet.network.plan import Layer, conv, dropout, linear, lrn, maxpool, relu

# Paper, section 5. The authors lowered the learning rate by hand when the validation error stopped improving.
RECIPE = {
    "batch": 128,
    "lr": 0.01,
    "momentum": 0.9,
    "weight_decay": 5e-4,
    "epochs": 90,
    "schedule": "plateau",
    "lr_factor": 10.0,
    "lr_drops": 3,
    "patience": 5,
    "columns": 2,
    "colour_noise": 0.1,  # section 4.1
}

# The standard deviation of the initial weights of conv3, conv4 and conv5. The paper's text says 0.01 for every layer;
# the authors' code has 0.03 for these three. With 0.01 the activations that reach fc6 are 27 times smaller, and the
# loss stays at chance for hundreds of steps. So the code's value is the default.
SIGMAS = {"code2012": 0.03, "paper": 0.01}


def paper(init: str = "code2012") -> Net:
    """Return AlexNet as the paper's text describes it (section 3.5, figure 2): 60,965,224 parameters in two columns."""
    layers = _layers(init, convs=(96, 256, 384, 384, 256))
    return Net("paper", (3, 224, 224), 256, layers, tuple(SIGMAS), RECIPE, data=None, flip=True)


def half(init: str = "code2012") -> Net:
    """Return the one-GPU net of section 3.2, with half the kernels except in conv5: 59,798,312 parameters."""
    layers = _layers(init, convs=(48, 128, 192, 192, 256))
    recipe = RECIPE | {"columns": 1}
    return Net("half", (3, 224, 224), 256, layers, tuple(SIGMAS), recipe, data=None, flip=True)


def _layers(init: str, convs: tuple[int, int, int, int, int]) -> tuple[Layer, ...]:
    middle = SIGMAS[init]
    return (
        conv("conv1", convs[0], 11, stride=4, ceil=True, sigma=0.01, bias=0),
        relu("relu1"),
        lrn("norm1"),
        maxpool("pool1"),
        conv("conv2", convs[1], 5, pad=2, sigma=0.01, bias=1),
        relu("relu2"),
        lrn("norm2"),
        maxpool("pool2"),
        conv("conv3", convs[2], 3, pad=1, reads="all", sigma=middle, bias=0),
        relu("relu3"),
        conv("conv4", convs[3], 3, pad=1, sigma=middle, bias=1),
        relu("relu4"),
        conv("conv5", convs[4], 3, pad=1, sigma=middle, bias=1),
        relu("relu5"),
        maxpool("pool5"),
        linear("fc6", 4096, sigma=0.01, bias=1),
        relu("relu6"),
        dropout("drop6"),
        linear("fc7", 4096, sigma=0.01, bias=1),
        relu("relu7"),
        dropout("drop7"),
        linear("fc8", 1000, sigma=0.01, bias=0, columns="one"),
    )
