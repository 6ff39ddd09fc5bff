"""The process that times one contender's network: ``python -m refnet.bench.contender SPEC``.

SPEC is :class:`Spec` as JSON. Each line of standard input is one of the commands below. The process replies to each
with one line of JSON on standard output, and ends when its input ends:

========= =========================================================================================
train     takes training steps: ``{"seconds": time of one step}``
forward   computes test passes: ``{"seconds": time of one pass}``
forget    starts a new measurement of peak memory: ``{}``
peak      returns the peak memory since ``forget``: ``{"bytes": ...}``
========= =========================================================================================

The first line of output is ``{}`` when the network is ready, or ``{"error": ..., "code": ...}`` if it cannot run.
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
from refnet.errors import BackendUnavailableError, RefnetError
from refnet.nets import NetSpec, get
from refnet.terminal.spelling import setting

# PyTorch's contenders: whether torch.compile compiles the network; and their memory layouts.
PEERS = {"torch-eager": False, "torch-compiled": True}
LAYOUTS = ("nchw", "nhwc")
MIN_ROUND_SECONDS = 0.2


@dataclass(frozen=True)
class Spec:
    """A contender and what it computes.

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
        """Return the spec as JSON, for another process."""
        return json.dumps(asdict(self))


class Contender(Protocol):
    """A network with its images and labels."""

    def train(self) -> None:
        """Take a training step: forward, backward, update."""

    def forward(self) -> Any:
        """Return the scores (N,K) of a test pass, on the host."""


class BackendNet:
    """A network on a backend of refnet."""

    def __init__(self, spec: Spec) -> None:
        # Imported here, because PyTorch's processes do not need them, and their memory is measured.
        from threadpoolctl import threadpool_limits  # noqa: PLC0415

        from refnet.backend.loading import load  # noqa: PLC0415
        from refnet.network.walk import images_of, labels_of  # noqa: PLC0415
        from refnet.training.step import begin  # noqa: PLC0415

        self._plan = NetSpec(spec.net, columns=spec.columns).plan()
        self._backend = load(spec.contender, columns=spec.columns, threads=spec.threads, checked=False)
        self._limits = threadpool_limits(spec.threads, "blas")
        self._images, self._labels = images_of(self._plan, spec.batch), labels_of(self._plan, spec.batch)
        self._training = begin(self._plan, self._backend)

    def train(self) -> None:
        """Take a training step."""
        from refnet.network import passes  # noqa: PLC0415
        from refnet.network.walk import SGD_OPTIONS  # noqa: PLC0415

        images = passes.place(self._plan, self._images, self._backend)
        self._training.take(images, self._labels, SGD_OPTIONS["lr"], 1)
        self._backend.synchronize()

    def forward(self) -> Any:
        """Return the scores (N,K) of a test pass."""
        from refnet.network import passes  # noqa: PLC0415

        images = passes.place(self._plan, self._images, self._backend)
        tape = passes.forward(self._plan, self._training.params, images, self._backend, record=False)
        return self._backend.to_numpy(tape.output)


def contender(spec: Spec) -> Contender:
    """Return a contender, ready to run.

    Raises
    ------
    BackendUnavailableError
        The backend does not exist, or PyTorch is not installed.
    """
    if spec.contender not in PEERS:
        return BackendNet(spec)
    try:
        from refnet.bench.torch_peer import WholeNet  # noqa: PLC0415 - only PyTorch's contenders need it
    except (ImportError, OSError) as error:
        raise BackendUnavailableError(f"{spec.contender} needs PyTorch (pip install torch): {error}") from error
    compiled = PEERS[spec.contender]
    return WholeNet(
        get(spec.net), spec.columns, spec.batch, spec.threads, layout=spec.layout or LAYOUTS[0], compiled=compiled
    )


def forget_peak() -> dict[str, Any]:
    """Start a new measurement of peak memory, on Linux; on other systems the peak is that of the whole process."""
    with suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
    return {}


def peak_bytes() -> int:
    """Return the peak memory of this process in bytes."""
    try:
        status = Path("/proc/self/status").read_text(encoding="ascii")
        line = next(line for line in status.splitlines() if line.startswith("VmHWM"))
        return int(line.split()[1]) * 1024
    except (OSError, StopIteration):
        used = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return used if sys.platform == "darwin" else used * 1024


def _commands(built: Contender) -> Mapping[str, Callable[[], dict[str, Any]]]:
    return {
        "train": lambda: {"seconds": timed(built.train, MIN_ROUND_SECONDS)},
        "forward": lambda: {"seconds": timed(built.forward, MIN_ROUND_SECONDS)},
        "forget": forget_peak,
        "peak": lambda: {"bytes": peak_bytes()},
    }


def _serve(spec: Spec, requests: TextIO, replies: TextIO) -> None:
    """Reply to each line of `requests` with a line of JSON in `replies`."""

    def reply(content: dict[str, Any]) -> None:
        print(json.dumps(content), file=replies, flush=True)

    try:
        commands = _commands(contender(spec))
        reply({})
        for line in requests:
            reply(commands[line.strip()]())
    except RefnetError as error:
        reply({"error": error.message, "code": error.exit_code})
    except MemoryError as error:
        reply({"error": f"out of memory ({error}); a smaller {setting('batch')} needs less", "code": 2})


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent also receives Ctrl-C, and then ends this process
    output = os.fdopen(os.dup(sys.stdout.fileno()), "w")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # so that text printed by libraries is not read as a reply
    _serve(Spec(**json.loads(sys.argv[1])), sys.stdin, output)
