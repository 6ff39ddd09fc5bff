"""The table of commands: the purpose and the flags of each. Help needs no other module, so it starts fast."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from refnet.cli import flags
from refnet.cli.flags import JSON, key, names
from refnet.config import KEYS
from refnet.config.settings import Setting


@dataclass(frozen=True)
class Command:
    """One command.

    Attributes
    ----------
    purpose
        What it does, as in the list of commands.
    settings
        Its arguments and flags.
    explanation
        Further lines of its help.
    commands
        Its subcommands, by name.
    reads_file
        Whether its module has a function ``config_file``, which returns the TOML file to read.
    """

    purpose: str
    settings: tuple[Setting, ...] = ()
    explanation: str = ""
    commands: Mapping[str, "Command"] = field(default_factory=dict)
    reads_file: bool = False

    @property
    def by_name(self) -> dict[str, Setting]:
        """Its settings by name."""
        return {setting.name: setting for setting in self.settings}


DATA = {
    "prepare": Command(
        "decode every image once, and write the files that training reads",
        (
            flags.SOURCE,
            flags.DESTINATION,
            JSON,
            flags.SIZE,
            flags.CHANNELS,
            *flags.READING,
        ),
    ),
    "info": Command("describe a prepared folder, and verify its checksums", (flags.PREPARED, JSON)),
    "fetch": Command("download a public data set, and verify its checksums", (flags.SET, JSON, flags.TO)),
}

# In the order in which a new user needs them.
COMMANDS: Mapping[str, Command] = {
    "train": Command(
        "train a network and test it",
        (flags.CONFIG, flags.RESUME, flags.CHANGED_DATA, flags.TENSORBOARD, JSON, *KEYS.values()),
        "Every setting below can be given as a flag, in a TOML file (lr_factor = 10) or as an "
        "environment variable (REFNET_LR_FACTOR=10). A flag overrides a variable, a variable the "
        "file, and the file the defaults. Every command that has the same flag reads the same "
        "variable.",
        reads_file=True,
    ),
    "eval": Command(
        "test trained networks on labelled images: one crop or ten, one network or an ensemble",
        (
            flags.CHECKPOINTS,
            *flags.NETWORK[1:],
            *flags.LABELLED,
            flags.CROPS_OR_BOTH,
            flags.WEIGHTS,
            JSON,
        ),
    ),
    "predict": Command(
        "classify image files, with probabilities",
        (flags.IMAGE_FILES, *flags.NETWORK, flags.CROPS, JSON),
    ),
    "features": Command(
        "write the last hidden layer's outputs for labelled images to a file",
        (
            *flags.NETWORK,
            *flags.LABELLED,
            flags.output("the file to write; labels go to FILE-labels.npy beside it", "features.npy", ending=".npy"),
            JSON,
        ),
    ),
    "similar": Command(
        "find the images that look most alike to a network, and draw them",
        (
            flags.IMAGE_FILES,
            *flags.NETWORK,
            *flags.LABELLED,
            flags.COUNT,
            flags.output("the picture to write", "similar.png", ending=".png"),
            JSON,
        ),
    ),
    "data": Command(
        "prepare images once for all epochs, describe prepared images, fetch public data sets", commands=DATA
    ),
    "summary": Command(
        "describe a network: layers, columns, parameters, multiply-adds, data exchanged",
        (
            flags.NETWORK_TO_SHOW,
            flags.COLUMNS,
            key("outputs", purpose="outputs of the net", unset="the net's own"),
            key("batch", purpose="images for which memory and exchanged data are counted", by_net=False),
            JSON,
        ),
    ),
    "bench": Command(
        "time every layer and whole training steps, next to PyTorch where that is installed",
        (
            flags.NET,
            flags.COLUMNS,
            flags.BATCHES,
            flags.THREAD_COUNTS,
            flags.OPS,
            flags.STEP,
            flags.UNFUSED,
            names("backends", "backends to time, and PyTorch if installed", unset="numba,numpy"),
            names("contenders", "time exactly these: backends, torch-eager, torch-compiled", unset="the backends"),
            flags.ROUNDS,
            flags.AGAINST,
            JSON,
        ),
        "--ops times each layer of column 0 on its own, --step the whole network: training and "
        "testing, each contender in a process of its own, in turn. Without either, both. "
        "Contenders are backends, torch-eager and torch-compiled (--step only); PyTorch is timed "
        "with both of its memory layouts. Several values, as in --threads 1,2 or --batch 16,32,64, "
        "show with --step how the time scales.",
    ),
    "compare": Command(
        "check backends against the NumPy reference: every op, and every layer of a network",
        (
            names("backends", "backends to compare", ("numpy", "numba")),
            key("net", purpose="the network"),
            flags.COLUMN_COUNTS,
            key("batch", purpose="images that go through the network", default=8, by_net=False),
            flags.PRECISIONS,
            flags.EXAMPLES,
            JSON,
        ),
        "Each op is run on random calls, and each layer of a network on its own activations, "
        "forward and backward, with dropout. The table shows the largest error divided by the "
        "error that the conformance suite allows for these numbers. More than 1 is a breach (exit "
        "code 1), and so is any difference where the bits must be the same. The activations are "
        "those of the first backend.",
    ),
    "doctor": Command("describe this machine and what slows it down", (JSON,)),
    "warmup": Command("compile what training needs, so that it starts at once", (flags.NETS, flags.BACKEND, JSON)),
    "tune": Command(
        "tune GPU kernels for this card",
        (
            key("backend", purpose="the backend whose kernels are tuned", default="triton"),
            key("devices", purpose="the device to tune for"),
            key("precision"),
            flags.NET,
            key("batch", by_net=False),
        ),
    ),
    "runs": Command("list the runs: net, data, backend, progress, best error", (flags.FOLDER_OF_RUNS, JSON)),
    "show": Command("describe one run or checkpoint, and check that it is intact", (flags.RUN_OR_CHECKPOINT, JSON)),
    "report": Command(
        "write a run as one web page: network, curves, kernels, confusions, predictions",
        (
            flags.RUN,
            flags.output("the page to write", unset="RUN/report.html"),
            flags.DATA,
            *flags.READING,
            flags.BACKEND,
        ),
    ),
    "reproduce": Command(
        "test a claim of the paper: train both variants with several seeds, report the difference",
        (
            flags.CLAIM,
            flags.LIST,
            key("data", default="digits", purpose="'digits' or a path, for example to CIFAR-10"),
            flags.SEEDS,
            key("epochs", default=None, unset="the claim's own", by_net=False),
            key("images", purpose="training images, the same in all runs", unset="enough for the claim", by_net=False),
            flags.BACKEND,
            flags.THREADS,
            *flags.READING,
            key("run_dir", purpose="the folder of the runs", unset="runs/reproduce/CLAIM-NET"),
            flags.output("also draw a .png or .svg picture", unset="no picture"),
            JSON,
        ),
        "Two variants differ in one thing and are trained with the same seeds. A claim is shown if "
        "the 95 % confidence interval of the mean difference, seed by seed, is on the paper's side "
        "of zero; not shown, if it is on the other side; if it contains zero, the experiment is "
        "too small to tell. Finished runs are kept in --run-dir, so the same command continues "
        "where it was stopped. The net is chosen by the data: digits, fashion (one channel) or "
        "cifar (three). Without a name, the command lists the claims.",
    ),
    "plot": Command(
        "draw runs as PNG or SVG: kernels, curves, activations, neighbours, predictions",
        (
            flags.KIND,
            flags.RUNS,
            flags.output("a .png or .svg file", unset="KIND.png"),
            flags.IMAGE,
            flags.DATA,
            *flags.READING,
            flags.BACKEND,
        ),
    ),
    "backends": Command("list the backends", (flags.CHECK, JSON)),
}
