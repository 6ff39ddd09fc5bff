"""A thread pool with ordered results, in which no read can block for ever.

The threads belong to one call. They are daemons: if a read never returns (a stalled network disk), its thread is
abandoned, and neither the results nor the end of the process wait for it. No process is forked,
so no lock of another library is copied while it is held.
"""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from queue import SimpleQueue
from threading import Event, Thread
from typing import Generic, TypeVar

from refnet.errors import DataError
from refnet.machine.environment import cpus

Item = TypeVar("Item")
Result = TypeVar("Result")

WAIT_SECONDS = 0.1  # of each part of a longer wait
JOIN_SECONDS = 1.0  # that a thread has to finish its job at the end


@dataclass(frozen=True)
class Reading:
    """How images are read.

    Attributes
    ----------
    threads
        How many read and decode at once; None for one per processor available to this process.
    timeout
        Seconds after which a blocking read is given up.
    bad
        What to do about images that cannot be read: "few", "skip" or "stop" (:mod:`refnet.data.damaged`).
    follow_links
        Whether links that lead out of what the user named are followed (:mod:`refnet.data.readers.walk`).
    """

    threads: int | None = None
    timeout: float = 60.0
    bad: str = "few"
    follow_links: bool = False

    @property
    def workers(self) -> int:
        """The number of threads on this machine."""
        return self.threads or len(cpus())


class _Job(Generic[Item, Result]):
    """An item to work on, and its result."""

    def __init__(self, item: Item) -> None:
        self.item = item
        self.done = Event()
        self.results: list[Result] = []
        self.error: BaseException | None = None

    def do(self, work: Callable[[Item], Result]) -> None:
        try:
            self.results.append(work(self.item))
        except BaseException as error:  # noqa: BLE001 - it is raised again where the result is waited for
            self.error = error
        self.done.set()

    def is_done_within(self, seconds: float) -> bool:
        """Wait up to `seconds`; return whether the job is done.

        The wait is counted in small parts, so time during which the process is suspended (Ctrl-Z) hardly counts.
        """
        while seconds > 0 and not self.done.wait(min(seconds, WAIT_SECONDS)):
            seconds -= WAIT_SECONDS
        return self.done.is_set()

    def result(self) -> Result:
        if self.error is not None:
            raise self.error
        return self.results[0]


class _Threads(Generic[Item, Result]):
    """Threads that do jobs in the order in which they are given."""

    def __init__(self, work: Callable[[Item], Result], count: int) -> None:
        self._work = work
        self._jobs: SimpleQueue[_Job[Item, Result] | None] = SimpleQueue()
        self._dismissed = False
        self._threads = [Thread(target=self._serve, daemon=True, name=f"refnet-read-{i}") for i in range(count)]
        try:
            for thread in self._threads:
                thread.start()
        except RuntimeError as error:  # a thread's stack is memory too
            self._dismissed = True
            for _ in self._threads:
                self._jobs.put(None)
            raise MemoryError(str(error)) from error

    def give(self, item: Item) -> _Job[Item, Result]:
        job: _Job[Item, Result] = _Job(item)
        self._jobs.put(job)
        return job

    def dismiss(self) -> None:
        """Drop jobs that have not started, and wait briefly for those that have."""
        self._dismissed = True
        for _ in self._threads:
            self._jobs.put(None)
        for thread in self._threads:
            thread.join(JOIN_SECONDS)

    def _serve(self) -> None:
        while (job := self._jobs.get()) is not None:
            if not self._dismissed:
                job.do(self._work)


def in_order(
    work: Callable[[Item], Result],
    items: Iterable[Item],
    *,
    reading: Reading,
    ahead: int,
    where: Callable[[Item], str],
) -> Iterator[Result]:
    """Yield `work(item)` for each item, computed in threads, in the order of the items.

    Parameters
    ----------
    ahead
        The largest number of items started whose results have not been asked for, which bounds the memory; at least
        the number of threads.
    where
        Names an item in the message for a user.

    Raises
    ------
    DataError
        An item that is waited for takes longer than the timeout.
    BaseException
        Whatever `work` raises, when that item's result is due. No later result is yielded.
    """

    def finished(job: _Job[Item, Result]) -> Result:
        if not job.is_done_within(reading.timeout):
            raise DataError(
                f"{where(job.item)} cannot be read: it takes longer than {reading.timeout:g} s; "
                "see whether its disk answers, or allow more time"
            )
        return job.result()

    threads = _Threads(work, reading.workers)
    begun: deque[_Job[Item, Result]] = deque()
    try:
        for item in items:
            begun.append(threads.give(item))
            if len(begun) >= max(ahead, reading.workers):
                yield finished(begun.popleft())
        while begun:
            yield finished(begun.popleft())
    finally:
        threads.dismiss()
