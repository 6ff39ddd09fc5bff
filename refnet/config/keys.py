"""The keys of a training run: a field of ``Config`` for each."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from importlib import import_module
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from refnet.config.settings import Allowed, Setting, number, one_of, path_text, switch, text, texts, whole

if TYPE_CHECKING:
    from refnet.nets.spec import NetSpec

NETWORK, IMAGES, COMPUTING = "network", "images", "computing"
TRAINING, SCHEDULE, RUN = "training", "learning rate schedule", "run folder"

SCHEDULE_GROUP = "refnet.schedules"  # the entry-point group by which other packages add schedules
SCHEDULES: Mapping[str, str] = {  # refnet's own, see refnet.training.schedule
    "plateau": "refnet.training.schedule:plateau",
    "fixed": "refnet.training.schedule:fixed",
}


class Nets(NamedTuple):
    """The known nets: by name, the recipe (keys and values) of each, and the names of its initialisations."""

    recipes: Mapping[str, Mapping[str, object]]
    inits: Mapping[str, Sequence[str]]


def registered() -> Nets:
    """Return the registered nets. Their registry is imported only in this call, so that help starts fast."""
    registry: Any = import_module("refnet.nets.registry")
    return Nets(registry.RECIPES, registry.INITS)


def _variants() -> Iterable[str]:
    variants: Iterable[str] = import_module("refnet.nets.variants").VARIANTS
    return variants


def _schedules() -> Iterable[str]:
    points: Iterable[str] = import_module("refnet.machine.packages").points(SCHEDULE_GROUP, SCHEDULES)
    return points


def _key(
    default: object, allowed: Allowed, purpose: str, unset: str = "", *, group: str, metavar: str = ""
) -> Mapping[str, Setting]:
    key = Setting("", allowed, purpose, default, unset, group, variable=True, by_net=True, metavar=metavar)
    return {"setting": key}


@dataclass(frozen=True, kw_only=True)
class Config:
    """The keys of a training run. A new key is one field here.

    No field has a default, because most values depend on the net; :func:`configure` returns a complete configuration.
    """

    net: str = field(
        metadata=_key(
            "digits", one_of(lambda: registered().recipes), "the network to train", group=NETWORK, metavar="NET"
        )
    )
    init: str | None = field(
        metadata=_key(
            None, text("the name of one of the net's inits"), "the initial weights", "the net's own", group=NETWORK
        )
    )
    variant: tuple[str, ...] = field(
        metadata=_key((), one_of(_variants, many=True), "changes to the net", "none", group=NETWORK)
    )
    outputs: int | None = field(
        metadata=_key(
            None, whole(1), "outputs of the net, at least one for each class", "one for each class", group=NETWORK
        )
    )
    data: str | None = field(
        metadata=_key(
            None,
            path_text("'digits' or a path"),
            "the images to train on: 'digits' or a path",
            "the net's own",
            group=IMAGES,
            metavar="PATH",
        )
    )
    images: int | None = field(
        metadata=_key(
            None,
            whole(1),
            "use only this many training images (and the same fraction for validation)",
            "all",
            group=IMAGES,
        )
    )
    backend: str = field(
        metadata=_key(
            "auto",
            text("the name of a backend, or auto for the fastest"),
            "which backend to use: auto (the fastest), numba, numpy, triton",
            group=COMPUTING,
        )
    )
    columns: int = field(metadata=_key(2, whole(1, 2), "columns into which the network is split", group=NETWORK))
    devices: tuple[str, ...] = field(
        metadata=_key(
            (),
            texts("names of devices, separated by commas"),
            "devices that compute the columns: one for all, or one for each",
            "the backend's choice",
            group=COMPUTING,
        )
    )
    precision: Literal["ieee", "tf32x3", "tf32"] | None = field(
        metadata=_key(
            None,
            one_of(("ieee", "tf32x3", "tf32")),
            "precision of GPU matrix products: ieee (float32), tf32x3 (three TF32 products), tf32",
            "the backend's choice",
            group=COMPUTING,
        )
    )
    exchange: Literal["fp32", "fp16", "none"] = field(
        metadata=_key(
            "fp32",
            one_of(("fp32", "fp16", "none")),
            "how columns exchange activations: as fp32, as fp16, or none (no convolution reads the other column)",
            group=NETWORK,
        )
    )
    graph: bool = field(metadata=_key(False, switch(), "record training steps as CUDA graphs", group=COMPUTING))
    checked: bool = field(
        metadata=_key(
            False, switch(), "check the arguments and results of every op, for example for NaN", group=COMPUTING
        )
    )
    threads: int | None = field(
        metadata=_key(None, whole(1), "number of threads that compute", "one per core", group=COMPUTING)
    )
    seed: int = field(metadata=_key(0, whole(0, 2**32 - 1), "seed of all random numbers", group=TRAINING))
    epochs: int = field(metadata=_key(1, whole(1), "passes over the training images", group=TRAINING))
    max_steps: int | None = field(
        metadata=_key(None, whole(1), "stop after this many training steps", "no limit", group=TRAINING)
    )
    batch: int = field(metadata=_key(128, whole(1), "images per training step", group=TRAINING))
    augment: bool = field(
        metadata=_key(True, switch(), "random crops and mirroring (--no-augment: centre crop only)", group=IMAGES)
    )
    flip: bool | None = field(
        metadata=_key(
            None,
            switch(),
            "mirror half of the crops (--no-flip: none, as for digits and letters)",
            "the net's own",
            group=IMAGES,
        )
    )
    colour_noise: float = field(
        metadata=_key(
            0.0,
            number("at least 0", lambda v: v >= 0),
            "strength of the random colour shift, in standard deviations of the training images' colours",
            group=IMAGES,
        )
    )
    crop_sharing: int = field(metadata=_key(1, whole(1), "consecutive images that share a random crop", group=IMAGES))
    read_threads: int | None = field(
        metadata=_key(None, whole(1), "number of threads that read images", "one per core", group=IMAGES)
    )
    read_timeout: float = field(
        metadata=_key(60.0, number("above 0", lambda v: v > 0), "seconds to wait for an image", group=IMAGES)
    )
    bad: Literal["few", "skip", "stop"] = field(
        metadata=_key(
            "few",
            one_of(("few", "skip", "stop")),
            "images that cannot be read: leave out a few (10, or 1 % if that is more), skip all of them, or stop",
            group=IMAGES,
        )
    )
    follow_links: bool = field(
        metadata=_key(False, switch(), "follow links that lead out of the folder of the images", group=IMAGES)
    )
    lr: float = field(
        metadata=_key(0.01, number("above 0", lambda v: v > 0), "learning rate at the start", group=TRAINING)
    )
    momentum: float = field(
        metadata=_key(0.9, number("at least 0 and below 1", lambda v: 0 <= v < 1), "momentum", group=TRAINING)
    )
    weight_decay: float = field(
        metadata=_key(5e-4, number("at least 0", lambda v: v >= 0), "weight decay", group=TRAINING)
    )
    schedule: str = field(
        metadata=_key(
            "plateau",
            one_of(_schedules),
            "when the learning rate drops: plateau (the validation error stops improving) or fixed (at --drop-epochs)",
            group=SCHEDULE,
        )
    )
    lr_factor: float = field(
        metadata=_key(
            10.0,
            number("above 1", lambda v: v > 1),
            "number by which the learning rate is divided at a drop",
            group=SCHEDULE,
        )
    )
    lr_drops: int = field(metadata=_key(3, whole(0), "plateau: number of drops before training ends", group=SCHEDULE))
    patience: int = field(
        metadata=_key(3, whole(1), "plateau: epochs without improvement before a drop", group=SCHEDULE)
    )
    drop_epochs: tuple[int, ...] = field(
        metadata=_key(
            (),
            Allowed(
                int,
                "rising whole numbers of at least 1, separated by commas",
                lambda v: all(a < b for a, b in pairwise((0, *v))),
                many=True,
            ),
            "fixed: epochs after which the learning rate drops",
            "none",
            group=SCHEDULE,
        )
    )
    score_train: int = field(
        metadata=_key(
            0, whole(0), "training images to classify after each epoch, which shows overfitting", group=TRAINING
        )
    )
    checkpoint_minutes: float = field(
        metadata=_key(30.0, number("above 0", lambda v: v > 0), "maximum minutes between checkpoints", group=RUN)
    )
    checkpoint_steps: int | None = field(
        metadata=_key(None, whole(1), "maximum steps between checkpoints", "no limit", group=RUN)
    )
    non_finite: Literal["stop", "skip"] = field(
        metadata=_key(
            "stop",
            one_of(("stop", "skip")),
            "when a loss or gradient is NaN or infinite: stop, or skip the step",
            group=TRAINING,
        )
    )
    run_dir: str | None = field(
        metadata=_key(
            None,
            path_text("the path of a folder"),
            "the folder of the run",
            "a new folder in ./runs",
            group=RUN,
            metavar="FOLDER",
        )
    )

    @property
    def spec(self) -> "NetSpec":
        """The network that is trained; where `outputs` is None, the trainer takes their number from the data."""
        kind: type[NetSpec] = import_module("refnet.nets.spec").NetSpec
        return kind(self.net, self.init, self.variant, self.columns, self.exchange, self.outputs)


KEYS: Mapping[str, Setting] = {f.name: replace(f.metadata["setting"], name=f.name) for f in fields(Config)}
DEFAULTS: Mapping[str, Any] = {name: key.default for name, key in KEYS.items()}
