"""The flags that are not keys of a training run. Commands take their flags from here and from `KEYS`."""

from collections.abc import Iterable
from dataclasses import replace
from importlib import import_module
from pathlib import Path

from refnet.config import KEYS
from refnet.config.settings import (
    Allowed,
    Setting,
    one_of,
    path,
    path_text,
    path_texts,
    paths,
    switch,
    texts,
    whole,
    whole_numbers,
)

FILE, FOLDER = "the path of a file", "the path of a folder"


def _claims() -> Iterable[str]:
    claims: Iterable[str] = import_module("refnet.reproduce.claims").CLAIMS
    return claims


def _data_sets() -> Iterable[str]:
    sets: Iterable[str] = import_module("refnet.data.fetch").SETS
    return sets


def key(name: str, **changes: object) -> Setting:
    """Return a key of a training run as a flag of another command, with changes such as its own default and help."""
    return replace(KEYS[name], **{"group": "options", **changes})  # type: ignore[arg-type]


JSON = Setting("json", switch(), "print one JSON object instead of text", False)
BACKEND, DEVICES = key("backend"), key("devices")
THREADS = key("threads", unset="the net's recipe, or one per core")
NET, COLUMNS = key("net", default="paper", purpose="the network"), key("columns")
NETWORK_TO_SHOW = replace(NET, positional=True)

# A trained network and its images.
CHECKPOINT = Setting(
    "checkpoint",
    path("the path of a run or a .safetensors file"),
    "a run folder (its checkpoint with the lowest validation error is used) or a .safetensors file",
    required=True,
    metavar="RUN|FILE",
)
CHECKPOINTS = replace(
    CHECKPOINT,
    allowed=paths("paths of runs or .safetensors files"),
    several=True,
    purpose=f"{CHECKPOINT.purpose}; repeat it for an ensemble",
)
DATA = key("data", purpose="labelled images: 'digits' or a path", unset="the network's training data set")
SPLIT = Setting("split", one_of(("test", "validation", "train")), "which of its images", "test")
BATCH = key("batch", purpose="images per forward pass", by_net=False)
READING = (key("read_threads"), key("read_timeout"), key("bad"), key("follow_links"))
NETWORK = (CHECKPOINT, BACKEND, DEVICES, THREADS)
LABELLED = (DATA, SPLIT, BATCH, *READING)
IMAGE_FILES = Setting(
    "images",
    path_texts("paths of image files or folders"),
    "image files, folders of images or patterns such as 'photos/*.jpg'; - is standard input",
    positional=True,
    required=True,
    several=True,
    metavar="IMAGE",
)
CROPS = Setting("crops", one_of(("centre", "ten")), "the centre crop, or the mean of the paper's ten crops", "ten")
CROPS_OR_BOTH = replace(
    CROPS,
    allowed=one_of(("centre", "ten", "both")),
    default="both",
    purpose="the centre crop, the mean of the paper's ten crops, or both",
)
WEIGHTS = Setting(
    "weights",
    one_of(("equal", "search")),
    "weights of the networks of an ensemble: equal, or by search on the validation images",
    "equal",
)
COUNT = Setting("count", whole(1, 100), "how many images to show for each; the paper shows 6", 6)

# Runs and files.
RUN = Setting("run", path(FOLDER), "a run folder", positional=True, required=True, metavar="RUN")
RUNS = Setting(
    "runs",
    paths("paths of folders"),
    "run folders; several share one picture",
    positional=True,
    required=True,
    several=True,
    metavar="RUN",
)
RUN_OR_CHECKPOINT = Setting(
    "what",
    path("the path of a run or a .safetensors file"),
    "a run folder or a .safetensors file",
    positional=True,
    required=True,
    metavar="RUN|CHECKPOINT",
)
FOLDER_OF_RUNS = Setting("folder", path(FOLDER), "the folder with the runs", Path("runs"), positional=True)
KIND = Setting(
    "kind",
    one_of(("kernels", "curves", "activations", "neighbours", "predictions")),
    "what to draw: kernels, curves, activations, neighbours or predictions",
    positional=True,
    required=True,
)
IMAGE = Setting("image", whole(0), "activations: the number of the test image", 0)


def output(purpose: str, default: str = "", unset: str = "", ending: str = "") -> Setting:
    """Return the flag for the file to write. If `ending` is given, the file's name must end in it."""
    rule = f"{FILE} that ends in {ending}" if ending else FILE
    default_path = Path(default) if default else None
    metavar = f"FILE{ending}"
    return Setting("output", path(rule, ending=ending), purpose, default_path, unset, letter="o", metavar=metavar)


# Training.
CONFIG = Setting("config", path(FILE), "read settings from a TOML file", unset="none", metavar="FILE")
RESUME = Setting("resume", path(FOLDER), "resume the run in this folder", unset="start a new run", metavar="RUN")
CHANGED_DATA = Setting("changed_data", switch(), "with --resume: accept that the images have changed", False)
TENSORBOARD = Setting("tensorboard", switch(), "also write files for TensorBoard to RUN/tensorboard", False)

# Measuring and checking.
BATCHES = key("batch", allowed=whole_numbers(), by_net=False, default=(), unset="the net's recipe", metavar="N,...")
THREAD_COUNTS = key(
    "threads", allowed=whole_numbers(), by_net=False, default=(), unset="the net's recipe", metavar="N,..."
)
NETS = key(
    "net",
    allowed=replace(NET.allowed, many=True, distinct=True),
    default=(),
    purpose="the networks",
    unset="all",
    metavar="NET,...",
)
OPS = Setting("ops", switch(), "time single layers", False)
STEP = Setting("step", switch(), "time whole training and test steps", False)
UNFUSED = Setting("unfused", switch(), "time each ReLU on its own, not together with the layer before it", False)
ROUNDS = Setting("rounds", whole(1), "number of times that each is timed", 3)
AGAINST = Setting("against", path(FILE), "compare with a table saved by --json", unset="no table", metavar="FILE")
COLUMN_COUNTS = key(
    "columns",
    allowed=whole_numbers(2),
    by_net=False,
    default=(2,),
    purpose="numbers of columns of the network; one table for each",
    metavar="N,...",
)
PRECISIONS = key(
    "precision",
    allowed=replace(KEYS["precision"].allowed, many=True, distinct=True),
    default=(),
    purpose="precisions of GPU matrix products (ieee, tf32x3, tf32), each compared",
    unset="the backend's own",
    metavar="NAME,...",
)
EXAMPLES = Setting("examples", whole(1), "random calls for each function of an op", 20)
CHECK = Setting("check", switch(), "load each backend and report whether it can run here", False)


def names(name: str, purpose: str, default: tuple[str, ...] = (), unset: str = "") -> Setting:
    """Return a flag that takes names, separated by commas."""
    return Setting(
        name, texts("names, separated by commas", distinct=True), purpose, default, unset, metavar="NAME,..."
    )


# The paper's claims.
CLAIM = Setting("claim", one_of(_claims), "the claim to test", unset="list them", positional=True)
LIST = Setting("list", switch(), "list the claims", False)
SEEDS = Setting("seeds", whole(1, 30), "runs per variant; at least 2 for a verdict", 5)

# Data sets.
SOURCE = Setting(
    "source",
    path_text("the path of images"),
    "images: a folder for each class, ILSVRC2012, CIFAR-10 or IDX files",
    positional=True,
    required=True,
    metavar="SRC",
)
DESTINATION = Setting(
    "destination", path(FOLDER), "a new folder, or one to continue", positional=True, required=True, metavar="DST"
)
PREPARED = Setting("directory", path(FOLDER), "a prepared folder", positional=True, required=True, metavar="DST")
SIZE = Setting("size", whole(1, 4096), "side of the square images, in pixels; the paper's is 256", 256)
CHANNELS = Setting("channels", Allowed(int, "1 or 3", lambda v: v in {1, 3}, range="1 or 3"), "1 (grey) or 3 (RGB)", 3)
SET = Setting("name", one_of(_data_sets), "the data set", positional=True, required=True)
TO = Setting("to", path(FOLDER), "the folder to make", unset="one in the user's cache", metavar="FOLDER")
