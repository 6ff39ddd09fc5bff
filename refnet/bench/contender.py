"""One contender's whole network in a process of its own: ``python -m refnet.bench.contender SPEC``.

SPEC is :class:`Spec` as JSON. The process answers each line of standard input, one of the words below, with one line of
JSON on standard output, and ends when its input does:

========= =========================================================================================
train     takes training steps: ``{"seconds": of one}``
forward   computes test passes: ``{"seconds": of one}``
forget    counts the peak of its memory from here on: ``{}``
peak      ``{"bytes": the most memory that it held since}``
========= =========================================================================================

The first line comes unasked when the network stands: ``{}``, or ``{"error": ..., "code": ...}`` where it cannot.
"""

import json
import os
import resource
import signal
import sys
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol, TextIO

from refnet.bench.timing import timed
from refnet.errors import BackendUnavailableError, RefnetError, setting
from refnet.nets import NetSpec, get

# PyTorch's contenders: whether the network is compiled, and the memory layouts that there are to choose from.
PEERS = {"torch-eager": False, "torch-compiled": True}
LAYOUTS = ("nchw", "nhwc")
MIN_ROUND_SECONDS = 0.2


@dataclass(frozen=True)
class Spec:
    """What a contender computes.

    Attributes
    ----------
    contender
        The name of a backend, or one of ``PEERS``.
    layout
        The memory layout of a peer's images; empty for a backend.
    """

    contender: str
    net: str
    columns: int
    batch: int
    threads: int
    layout: str = ""

    def __str__(self) -> str:
        layout = f" {self.layout}" if self.layout else ""
        return f"{self.contender}{layout}, batch {self.batch}, {self.threads} thread{'s' if self.threads > 1 else ''}"

    def as_json(self) -> str:
        """Write it for another process."""
        return json.dumps(asdict(self))


class Contender(Protocol):
    """A network with its images and labels."""

    def train(self) -> None:
        """Take a training step: forward, backward, update."""

    def forward(self) -> Any:
        """Compute the scores (N,K) of a test pass, on the host."""


class BackendNet:
    """A network on a backend of refnet."""

    def __init__(self, spec: Spec) -> None:
        # Imported here, since a peer's process has no use for them and its memory is counted.
        from threadpoolctl import threadpool_limits  # noqa: PLC0415

        from refnet.backend.loading import load  # noqa: PLC0415
        from refnet.network.walk import images_of, labels_of  # noqa: PLC0415
        from refnet.training.step import begin  # noqa: PLC0415

        self._plan = NetSpec(spec.net, columns=spec.columns).plan()
        self._backend = load(spec.contender, columns=spec.columns, threads=spec.threads)
        self._limits = threadpool_limits(spec.threads, "blas")
        self._images, self._labels = images_of(self._plan, spec.batch), labels_of(self._plan, spec.batch)
        self._training = begin(self._plan, self._backend)

    def train(self) -> None:
        """Take a training step."""
        from refnet.network import passes  # noqa: PLC0415
        from refnet.network.walk import RATES  # noqa: PLC0415

        images = passes.place(self._plan, self._images, self._backend)
        self._training.take(images, self._labels, RATES["lr"], 1)
        self._backend.synchronize()

    def forward(self) -> Any:
        """Compute the scores of a test pass."""
        from refnet.network import passes  # noqa: PLC0415

        images = passes.place(self._plan, self._images, self._backend)
        tape = passes.forward(self._plan, self._training.params, images, self._backend, record=False)
        return self._backend.to_numpy(tape.output)


def contender(spec: Spec) -> Contender:
    """Build a contender.

    Raises
    ------
    BackendUnavailableError
        There is no such backend, or no PyTorch.
    """
    if spec.contender not in PEERS:
        return BackendNet(spec)
    try:
        from refnet.bench.torch_peer import WholeNet  # noqa: PLC0415 - where PyTorch is asked for
    except (ImportError, OSError) as error:
        raise BackendUnavailableError(f"{spec.contender} needs PyTorch (pip install torch): {error}") from error
    compiled = PEERS[spec.contender]
    return WholeNet(
        get(spec.net), spec.columns, spec.batch, spec.threads, layout=spec.layout or LAYOUTS[0], compiled=compiled
    )


def forget_peak() -> dict[str, Any]:
    """Count the peak from here on, where Linux lets us; elsewhere it stays that of the whole process."""
    with suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
    return {}


def peak_bytes() -> int:
    """Tell the most memory that this process held."""
    try:
        status = Path("/proc/self/status").read_text(encoding="ascii")
        line = next(line for line in status.splitlines() if line.startswith("VmHWM"))
        return int(line.split()[1]) * 1024
    except (OSError, StopIteration):
        used = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return used if sys.platform == "darwin" else used * 1024


def _answers(built: Contender) -> Mapping[str, Callable[[], dict[str, Any]]]:
    return {
        "train": lambda: {"seconds": timed(built.train, MIN_ROUND_SECONDS)},
        "forward": lambda: {"seconds": timed(built.forward, MIN_ROUND_SECONDS)},
        "forget": forget_peak,
        "peak": lambda: {"bytes": peak_bytes()},
    }


def _serve(spec: Spec, asked: TextIO, answered: TextIO) -> None:
    def say(answer: dict[str, Any]) -> None:
        print(json.dumps(answer), file=answered, flush=True)

    try:
        answers = _answers(contender(spec))
        say({})
        for line in asked:
            say(answers[line.strip()]())
    except RefnetError as error:
        say({"error": error.message, "code": error.exit_code})
    except MemoryError as error:
        say({"error": f"out of memory ({error}); a smaller {setting('batch')} needs less", "code": 2})


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # whoever started it hears Ctrl-C too, and ends it
    own = os.fdopen(os.dup(sys.stdout.fileno()), "w")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # what libraries print is no answer
    _serve(Spec(**json.loads(sys.argv[1])), sys.stdin, own)
