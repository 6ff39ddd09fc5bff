"""Times of a whole network, in training and testing, for several contenders in turn, each in its own process.

Separate processes make peak memory comparable, and taking turns makes ratios of times fair on a machine whose speed
varies. All processes exist at the same time; all wait except the one whose turn it is.
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
        Peak memory of its process in training, after the warm-up.
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
    """Return what to time: each contender with each batch size and number of threads, peers in each layout."""
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
        A contender cannot run on this machine, or its process has ended.
    """
    seconds: dict[str, list[list[float]]] = {"train": [[] for _ in wanted], "forward": [[] for _ in wanted]}
    with ExitStack() as stack, show.task("whole network", len(wanted) * (2 * rounds + 2)) as advance:
        began = _Progress(advance)
        processes = [stack.enter_context(_process(spec)) for spec in wanted]
        for process in processes:
            began.now(f"warming up {process.spec}")
            process.ask("train")
            process.ask("forget")
        for _ in range(rounds):
            for process, times in zip(processes, seconds["train"], strict=True):
                began.now(f"training: {process.spec}")
                times.append(process.ask("train")["seconds"])
        peaks = [process.ask("peak")["bytes"] for process in processes]
        for process in processes:
            began.now(f"warming up {process.spec}")
            process.ask("forward")
        for _ in range(rounds):
            for process, times in zip(processes, seconds["forward"], strict=True):
                began.now(f"forward: {process.spec}")
                times.append(process.ask("forward")["seconds"])
    return [
        Entry(spec, Timing.of(training), Timing.of(forward), peak)
        for spec, training, forward, peak in zip(wanted, seconds["train"], seconds["forward"], peaks, strict=True)
    ]


class _Progress:
    def __init__(self, advance: Advance) -> None:
        self._advance, self._begun = advance, -1

    def now(self, remark: str) -> None:
        """Show what begins now; what began before is finished."""
        self._begun += 1
        self._advance(self._begun, remark=remark)


class _Process:
    """The process of a contender, which answers questions."""

    def __init__(self, spec: Spec, errors: Any) -> None:
        self.spec, self._errors = spec, errors
        command = [sys.executable, "-m", "refnet.bench.contender", spec.as_json()]
        self._process = subprocess.Popen(  # noqa: S603 - our own module, with arguments of our own
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors, text=True
        )
        self._stands = False

    def ask(self, word: str) -> dict[str, Any]:
        """Send a question; wait for the answer and return it."""
        if not self._stands:
            self._answer()
            self._stands = True
        assert self._process.stdin
        with suppress(BrokenPipeError):  # the process has ended; its error output says why
            print(word, file=self._process.stdin, flush=True)
        return self._answer()

    def end(self) -> None:
        """End the process."""
        self._process.kill()
        self._process.communicate()

    def _answer(self) -> dict[str, Any]:
        assert self._process.stdout
        line = self._process.stdout.readline()
        if not line:
            raise BackendUnavailableError(
                f"{self.spec}: its process ended ({self._process.wait()}){self._last_words()}"
            )
        answer: dict[str, Any] = json.loads(line)
        if "error" in answer:
            kind = ConfigError if answer["code"] == ConfigError.exit_code else BackendUnavailableError
            raise kind(f"{self.spec}: {answer['error']}")
        return answer

    def _last_words(self) -> str:
        self._errors.seek(0)
        lines = self._errors.read().decode(errors="replace").splitlines()
        if lines:
            return f": {lines[-1]}"
        return f"; if memory was short, try a smaller {setting('batch')} or fewer {setting('contenders')}"


@contextmanager
def _process(spec: Spec) -> Iterator[_Process]:
    with tempfile.TemporaryFile() as errors:
        process = _Process(spec, errors)
        try:
            yield process
        finally:
            process.end()
