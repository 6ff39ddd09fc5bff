"""Saves checkpoints in the background: training waits only for a copy in memory, which a thread writes to disk."""

import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from refnet.errors import CheckpointError, NumericError
from refnet.runs import generations
from refnet.runs.checkpoint import Checkpoint, HostArray, HostArrays
from refnet.runs.metrics import Metrics
from refnet.runs.state import Facts, State

MAX_FAILURES = 3  # in a row; then the run ends


class Saver:
    """Writes one run's checkpoints, at most one at a time.

    The copy of the arrays uses the same buffers each time, so that memory does not grow after the first save. The
    thread hashes and writes; it calls no backend. It first checks that every number is finite, so that a diverged run
    keeps its last good checkpoint.

    Parameters
    ----------
    run
        The run's folder.
    metrics
        Its metrics, which are flushed to the disk before a checkpoint that counts their lines.
    minutes, steps
        The interval between checkpoints; None for no limit in steps.
    warn
        Called with one line for a failure that does not end the run.
    """

    def __init__(
        self, run: Path, metrics: Metrics, *, minutes: float, steps: int | None, warn: Callable[[str], None]
    ) -> None:
        self.saved: State | None = None  # the last that is on the disk
        self._run = run
        self._metrics = metrics
        self._minutes = minutes
        self._steps = steps
        self._warn = warn
        self._begun = time.monotonic()
        self._buffers: HostArrays = {}
        self._writing: threading.Thread | None = None
        self._state: State | None = None
        self._error: Exception | None = None
        self._failures = 0

    def reserve(self, params: Mapping[str, Any], velocities: Mapping[str, Any]) -> None:
        """Allocate the buffers for the copy now, so that the first save is as fast as the others.

        If there is too little memory, none is allocated.
        """
        try:
            for kind, arrays in (("param", params), ("velocity", velocities)):
                for name, a in arrays.items():
                    self._buffers[f"{kind}/{name}"] = np.full(a.shape, 0, np.float32)
        except MemoryError:
            self._buffers.clear()

    def due(self, step: int) -> bool:
        """Tell whether a checkpoint is due after this step."""
        if self._steps and step % self._steps == 0:
            return True
        return time.monotonic() - self._begun >= 60 * self._minutes

    def save(
        self,
        facts: Facts,
        params: Mapping[str, Any],
        velocities: Mapping[str, Any],
        mean: HostArray,
        to_numpy: Callable[[Any], npt.NDArray[Any]],
        *,
        must: bool = False,
    ) -> None:
        """Copy the arrays and start to write them, after any earlier write has finished.

        Parameters
        ----------
        params, velocities
            The backend's arrays, which may change as soon as this returns.
        must
            Return only when the checkpoint is on the disk, and raise if that fails.

        Raises
        ------
        CheckpointError
            It is the third failure in a row, or `must` and the disk is full or cannot be written to.
        NumericError
            A parameter or velocity is not finite; the checkpoints on the disk are unchanged.
        """
        self.wait()
        self._begun = time.monotonic()
        self._state = facts.state
        kinds = {"param": params, "velocity": velocities}
        try:
            copied = {k: {n: self._copy(f"{k}/{n}", to_numpy(a)) for n, a in kinds[k].items()} for k in kinds}
            in_background = not must
        except MemoryError:  # then write the arrays themselves while training waits
            self._buffers.clear()
            copied = {k: {n: to_numpy(a) for n, a in kinds[k].items()} for k in kinds}
            in_background = False
        checkpoint = Checkpoint(facts, copied["param"], copied["velocity"], mean)
        if in_background:
            with suppress(RuntimeError):  # no memory for a thread
                writing = threading.Thread(target=self._write, args=[checkpoint], daemon=True)
                writing.start()
                self._writing = writing
                return
        self._write(checkpoint)
        self._settle(must=must)

    def poll(self) -> None:
        """Settle a write that has ended, without waiting for one that has not. Raises as `save` does."""
        if self._writing and not self._writing.is_alive():
            self.wait()

    def wait(self) -> None:
        """Wait until nothing is being written. Raises as `save` does."""
        if self._writing:
            self._writing.join()
            self._writing = None
            self._settle()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        """Wait for a write in progress, unless the user has interrupted."""
        if self._writing and not (kind and issubclass(kind, KeyboardInterrupt)):
            self._writing.join()

    def _copy(self, name: str, a: npt.NDArray[Any]) -> HostArray:
        if name not in self._buffers:
            self._buffers[name] = np.empty(a.shape, np.float32)
        np.copyto(self._buffers[name], a, casting="no")
        return self._buffers[name]

    def _write(self, checkpoint: Checkpoint) -> None:
        try:
            for name, a in checkpoint.tensors().items():
                if not np.isfinite(a).all():
                    raise NumericError(f"{name} is not finite after step {checkpoint.facts.state.step}")  # noqa: TRY301
            self._metrics.sync()
            generations.save(self._run, checkpoint)
        except OSError as error:
            self._error = CheckpointError(f"{self._run}: the metrics cannot be written: {error.strerror}")
        except MemoryError:
            self._error = CheckpointError(f"{self._run}: there is too little memory to save")
        except Exception as error:  # noqa: BLE001 - raised again in the thread that trains
            self._error = error

    def _settle(self, *, must: bool = False) -> None:
        error, self._error = self._error, None
        if error is None:
            self.saved, self._failures = self._state, 0
            return
        if not isinstance(error, CheckpointError):
            raise error
        self._failures += 1
        if must or self._failures >= MAX_FAILURES:
            count = f" ({self._failures} times in a row)" if self._failures > 1 else ""
            raise CheckpointError(f"{error.message}{count}") from error
        self._warn(f"warning: {error.message}; training goes on, and earlier checkpoints are unchanged")
