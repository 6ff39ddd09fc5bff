"""Time whole networks in training and testing: several contenders in turn, each in its own process.

Separate processes make peak memory comparable, and taking turns makes ratios of times fair on a machine whose speed
varies. All processes run at the same time, but only the one whose turn it is computes.
"""

import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from typing import Any

from refnet.bench.contender import LAYOUTS, PEERS, Spec
from refnet.bench.timing import Timing
from refnet.errors import BackendUnavailableError, ConfigError
from refnet.terminal.progress import Advance, Show
from refnet.terminal.spelling import setting


@dataclass(frozen=True)
class Entry:
    """The times and the memory of a contender.

    Attributes
    ----------
    training, forward
        Times of a training step and of a test pass.
    peak_bytes
        Peak memory of its process in training, without the warm-up.
    """

    spec: Spec
    training: Timing
    forward: Timing
    peak_bytes: int

    def timing(self, what: str) -> Timing:
        """Return the time of "training" or "forward"."""
        return {"training": self.training, "forward": self.forward}[what]

    def images_per_second(self, what: str) -> float:
        """Return the images per second of the fastest round."""
        return self.spec.batch / self.timing(what).minimum


def specs(
    net: str, columns: int, contenders: Sequence[str], batches: Sequence[int], threads: Sequence[int]
) -> list[Spec]:
    """Return what to time: each contender with each batch size and number of threads, PyTorch's in each layout."""
    return [
        Spec(name, net, columns, batch, count, layout)
        for batch in batches
        for count in threads
        for name in contenders
        for layout in (LAYOUTS if name in PEERS else ("",))
    ]


def time_steps(wanted: Sequence[Spec], rounds: int, show: Show) -> list[Entry]:
    """Return the times and the memory of all contenders, timed in turn.

    Raises
    ------
    RefnetError
        A contender cannot run on this machine, or its process has crashed.
    """
    seconds: dict[str, list[list[float]]] = {"train": [[] for _ in wanted], "forward": [[] for _ in wanted]}
    with ExitStack() as stack, show.task("whole network", len(wanted) * (2 * rounds + 2)) as advance:
        progress = _Progress(advance)
        processes = [stack.enter_context(_process(spec)) for spec in wanted]
        for process in processes:
            progress.start(f"warming up {process.spec}")
            process.request("train")
            process.request("forget")
        for _ in range(rounds):
            for process, times in zip(processes, seconds["train"], strict=True):
                progress.start(f"training: {process.spec}")
                times.append(process.request("train")["seconds"])
        peaks = [process.request("peak")["bytes"] for process in processes]
        for process in processes:
            progress.start(f"warming up {process.spec}")
            process.request("forward")
        for _ in range(rounds):
            for process, times in zip(processes, seconds["forward"], strict=True):
                progress.start(f"forward: {process.spec}")
                times.append(process.request("forward")["seconds"])
    return [
        Entry(spec, Timing.of(training), Timing.of(forward), peak)
        for spec, training, forward, peak in zip(wanted, seconds["train"], seconds["forward"], peaks, strict=True)
    ]


class _Progress:
    def __init__(self, advance: Advance) -> None:
        self._advance, self._done = advance, -1

    def start(self, remark: str) -> None:
        """Show that a part starts; the part before it is done."""
        self._done += 1
        self._advance(self._done, remark=remark)


class _Process:
    """The process of a contender (:mod:`refnet.bench.contender`)."""

    def __init__(self, spec: Spec, errors: Any) -> None:
        self.spec, self._errors = spec, errors
        command = [sys.executable, "-m", "refnet.bench.contender", spec.as_json()]
        self._process = subprocess.Popen(  # noqa: S603 - our own module, with arguments of our own
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors, text=True
        )
        self._is_ready = False

    def request(self, command: str) -> dict[str, Any]:
        """Send a command, wait for the reply and return it."""
        if not self._is_ready:
            self._reply()
            self._is_ready = True
        assert self._process.stdin
        with suppress(BrokenPipeError):  # the process has ended; its error output says why
            print(command, file=self._process.stdin, flush=True)
        return self._reply()

    def end(self) -> None:
        """End the process."""
        self._process.kill()
        self._process.communicate()

    def _reply(self) -> dict[str, Any]:
        assert self._process.stdout
        line = self._process.stdout.readline()
        if not line:
            raise BackendUnavailableError(
                f"{self.spec}: its process ended ({self._process.wait()}){self._last_error()}"
            )
        reply: dict[str, Any] = json.loads(line)
        if "error" in reply:
            kind = ConfigError if reply["code"] == ConfigError.exit_code else BackendUnavailableError
            raise kind(f"{self.spec}: {reply['error']}")
        return reply

    def _last_error(self) -> str:
        self._errors.seek(0)
        lines = self._errors.read().decode(errors="replace").splitlines()
        if lines:
            return f": {lines[-1]}"
        return f"; if memory ran out, try a smaller {setting('batch')} or fewer {setting('contenders')}"


@contextmanager
def _process(spec: Spec) -> Iterator[_Process]:
    with tempfile.TemporaryFile() as errors:
        process = _Process(spec, errors)
        try:
            yield process
        finally:
            process.end()
