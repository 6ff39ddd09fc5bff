"""Two GPUs that are not here: streams that work in any order their events allow, and graphs recorded from them.

Kernels run in Triton's interpreter, on arrays of the host that say they lie on a GPU. What is asked for is queued, and
taken from the streams at random. That a stream waits for too little is seen, as wrong numbers; what memory an
allocator gives away too early is not.
"""

import random
import sys
from collections import deque
from contextlib import contextmanager, nullcontext

import numpy as np
import pytest
import torch
from refnet_triton import _configs, _graph, _launch, _memory, _scalars

from refnet import backend as backends
from refnet import nets
from refnet.network.fuse import fuse
from refnet.training.step import StepSettings, begin

GPUS = [torch.device("cuda", 0), torch.device("cuda", 1)]


class Event:
    happened = False

    def happen(self):
        self.happened = True
        return True


class Stream:
    """A queue of work; each piece says whether it could be done yet."""

    def __init__(self, device):
        self.device, self.queue, self.graph = device, deque(), None

    def add(self, work):
        (self.graph.calls if self.graph else self.queue).append(work)

    def record_event(self):
        assert not self.graph, "an event belongs between graphs"
        event = Event()
        self.add(event.happen)
        return event

    def wait_event(self, event):
        assert not self.graph, "waiting belongs between graphs"
        self.add(lambda: event.happened)

    def wait_stream(self, other):
        self.wait_event(other.record_event())


class Graph:
    """A CUDA graph: the work of one stream, to be queued again and again."""

    def __init__(self, world):
        self.world, self.calls, self.device = world, [], None
        world.graphs.append(self)

    def replay(self):
        self.world.current[self.device].queue.extend(self.calls)


class World:
    """All streams of both GPUs."""

    def __init__(self, seed):
        self.random, self.streams, self.graphs = random.Random(seed), [], []  # noqa: S311 - no secret
        self.current = {device: self.stream(device) for device in GPUS}

    def stream(self, device):
        self.streams.append(Stream(device))
        return self.streams[-1]

    @contextmanager
    def using(self, stream):
        before, self.current[stream.device] = self.current[stream.device], stream
        yield
        self.current[stream.device] = before

    @contextmanager
    def recording(self, graph, pool, stream):
        assert pool == "memory"
        assert not any(other.graph for other in self.streams), "one graph at a time"
        graph.device, stream.graph = stream.device, graph
        with self.using(stream):
            yield
        stream.graph = None

    def finish(self, stream):
        """Work until a stream has nothing to do; others get as far as chance lets them."""
        while stream.queue:
            busy = [other for other in self.streams if other.queue]
            self.random.shuffle(busy)
            if not any(self.done(other) for other in busy):
                raise AssertionError("every stream waits for another")

    @staticmethod
    def done(stream):
        if stream.queue[0]():
            stream.queue.popleft()
            return True
        return False

    def copy(self, target, source):
        """Queue a copy as torch does: between devices, the streams of both wait for each other."""
        coming, leaving = self.current[target.device], self.current[source.device]
        if coming is not leaving:
            leaving.wait_stream(coming)
        leaving.add(worked(lambda: plain(target).copy_(plain(source))))
        if coming is not leaving:
            coming.wait_stream(leaving)


class Placed(torch.Tensor):
    """An array of the host that says where it would lie; what is done to it is queued there."""

    world: World

    @property
    def device(self):
        return self.__dict__["place"]

    def record_stream(self, stream):
        pass

    @classmethod
    def __torch_function__(cls, function, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        first = next(a for a in [kwargs.get("out"), *args, *(args[0] if isinstance(args[0], tuple | list) else [])]
                     if isinstance(a, Placed))  # fmt: skip
        stream = cls.world.current[first.device]
        if function is torch.Tensor.copy_ and isinstance(args[1], Placed):
            cls.world.copy(*args[:2])
            return first
        if function is torch.Tensor.copy_:  # from pinned memory, to which nobody writes again
            assert kwargs == {"non_blocking": True}
            stream.add(worked(lambda: plain(first).copy_(args[1])))
            return first
        if function is torch.Tensor.fill_:
            stream.add(worked(lambda: plain(first).fill_(args[1])))
            return first
        if function is torch.cat:
            stream.add(worked(lambda: torch.cat([plain(a) for a in args[0]], kwargs["dim"], out=plain(first))))
            return first
        if function is torch.Tensor.cpu:
            cls.world.finish(stream)
            return plain(first)
        return placed(super().__torch_function__(function, types, args, kwargs), first.device)


def placed(result, device):
    if isinstance(result, tuple | list):
        return type(result)(placed(one, device) for one in result)
    if isinstance(result, torch.Tensor):
        result = result.as_subclass(Placed)
        result.place = device
    return result


def plain(a):
    return a.as_subclass(torch.Tensor) if isinstance(a, Placed) else a


def worked(work):
    def run():
        work()
        return True

    return run


@pytest.fixture
def on_two_gpus(monkeypatch):
    """Give a function that puts the process on two GPUs, with chance from a seed, and returns a backend for them."""
    launch, empty = _launch.launch, _memory.empty

    def queued(kernel, programs, *arguments, **kwargs):
        tensors = [a for argument in arguments for a in (argument if isinstance(argument, tuple) else [argument])
                   if isinstance(a, torch.Tensor)]  # fmt: skip
        (device,) = {a.device for a in tensors}
        bare = [tuple(map(plain, a)) if isinstance(a, tuple) else plain(a) for a in arguments]
        stream = Placed.world.current[device]
        stream.add(worked(lambda: launch(kernel, programs, *bare, **kwargs)))

    def poisoned(shape, dtype=torch.float32, device="cpu"):
        a = empty(shape, dtype).fill_(float("nan") if dtype.is_floating_point else 77)
        return placed(a, torch.device(device))

    def put(seed):
        world = Placed.world = World(seed)
        fakes = {
            "Stream": world.stream,
            "current_stream": world.current.__getitem__,
            "stream": world.using,
            "device": lambda _: nullcontext(),
            "synchronize": lambda device: world.finish(world.current[device]),
            "graph_pool_handle": lambda: "memory",
            "CUDAGraph": lambda: Graph(world),
            "graph": world.recording,
        }
        for name, fake in fakes.items():
            monkeypatch.setattr(torch.cuda, name, fake)
        monkeypatch.setattr(_launch, "architecture", lambda _: _configs.INTERPRETER)
        monkeypatch.setattr(_memory, "empty", poisoned)
        monkeypatch.setattr(_memory, "pinned", torch.clone)
        monkeypatch.setattr(_scalars, "_scalars", {})
        for name, module in list(sys.modules.items()):
            if name.startswith("refnet_triton.") and getattr(module, "launch", None) is launch:
                monkeypatch.setattr(module, "launch", queued)
        backend = backends.load("triton", columns=2, checked=False)
        backend.devices = GPUS
        return backend

    return put


def drawn(*sizes):
    rng = np.random.default_rng(2)
    return [(rng.integers(-8, 9, (n, 1, 8, 8)).astype(np.float32), rng.integers(0, 10, n)) for n in sizes]


BATCHES = drawn(2, 2, 2, 1)
RESUMED = drawn(1, 2, 2, 2)  # a run that resumes just before the short last batch of an epoch


def trained(backend, batches=BATCHES, *, graph=False):
    """Train on batches with a rate that falls, the images moved to the other column; return losses and parameters.

    As in training, but that nobody looks at the losses, and so waits for a step, before the end.
    """
    training = begin(fuse(nets.get("digits").plan(2)), backend, StepSettings(seed=11, graph=graph))
    forward, finish = training.halves
    losses = [backend.asarray(np.zeros(1, np.float32)) for _ in batches]
    for step, (images, labels) in enumerate(batches, start=1):
        crops = backend.asarray(images)
        placed = [backend.move(crops, column) for column in range(2)]
        loss, kept = forward(placed, backend.asarray(labels), step)
        losses[step - 1].copy_(loss.view(1))
        finish(kept, 0.02 / step)
    arrays = {**{f"loss {step}": loss for step, loss in enumerate(losses, start=1)}, **training.params}
    return {name: backend.to_numpy(a).tobytes() for name, a in arrays.items()}


@pytest.fixture(scope="module")
def on_one_device():
    return trained(backends.load("triton", columns=2))


@pytest.mark.parametrize(("graph", "seed"), [(False, 0), (True, 0), (True, 1)])
def test_two_devices_have_the_bits_of_one(on_two_gpus, on_one_device, graph, seed):
    assert trained(on_two_gpus(seed), graph=graph) == on_one_device
    graphs = Placed.world.graphs
    assert {graph.device for graph in graphs} == (set(GPUS) if graph else set())
    assert all(graph.calls for graph in graphs)
    # Graphs are cut where the devices change, which is seldom.
    assert 3 * len(graphs) <= sum(len(graph.calls) for graph in graphs)


def test_a_run_that_resumes_with_a_short_batch_records_the_full_ones(on_two_gpus):
    eager = trained(backends.load("triton", columns=2), RESUMED)
    assert trained(on_two_gpus(0), RESUMED, graph=True) == eager
    assert Placed.world.graphs


@pytest.mark.parametrize(
    ("sizes", "recorded"),
    [
        ((2, 2, 2, 1), [0, 1, 1, 0]),
        ((1, 2, 2, 2), [0, 0, 1, 1]),
        ((1, 2, 1, 2, 1, 2), [0, 0, 1, 1, 0, 1]),  # two batches an epoch: the larger replaces the shorter
        ((2, 1, 2, 1, 1, 2), [0, 0, 1, 0, 0, 1]),
        ((1, 1, 1), [0, 1, 1]),
    ],
)
def test_which_batches_are_recorded(sizes, recorded):
    """A step that repeats a recording returns itself as what the second half needs."""
    step = _graph.GraphedStep(lambda *_: (None, "eager"), lambda *_: None, [])
    found = []
    for number, (images, labels) in enumerate(drawn(*sizes)):
        _, kept = step.forward([torch.from_numpy(images)], torch.from_numpy(labels), number)
        step.backward(kept, 0.1)
        found.append(kept is step)
    assert found == list(map(bool, recorded))


def test_another_model_between_the_halves_changes_no_mask(on_two_gpus):
    """Dropout draws its mask again in the second half, from the number of the step, which is in device memory."""
    backend = on_two_gpus(0)
    plan = fuse(nets.get("digits").plan(2))
    parameters = []
    for disturbed in (False, True):
        training, other = (begin(plan, backend, StepSettings(seed=11, graph=True)) for _ in range(2))
        for step, (images, labels) in enumerate(BATCHES, start=1):
            crops = backend.asarray(images)
            placed = [backend.move(crops, column) for column in range(2)]
            _, kept = training.halves[0](placed, backend.asarray(labels), step)
            if disturbed:
                other.halves[0](placed, backend.asarray(labels), 100 + step)
            training.halves[1](kept, 0.1)
        parameters.append({name: backend.to_numpy(a).tobytes() for name, a in training.params.items()})
    assert parameters[0] == parameters[1]


def test_no_gpu_waits_for_a_copy_from_the_host(on_two_gpus):
    """The copy is queued on a stream of its own; work that does not read it can be done first."""
    backend = on_two_gpus(0)
    world, host = Placed.world, np.arange(6, dtype=np.float32)
    first, second = backend.asarray(host), backend.asarray(host)
    total = backend.add(first, first)
    host[:] = -1  # the caller's array is free again
    uploads = backend._uploads[GPUS[0]]
    assert world.current[GPUS[0]] is not uploads
    assert [len(stream.queue) for stream in (uploads, world.current[GPUS[0]])] == [4, 2]
    np.testing.assert_array_equal(backend.to_numpy(total), 2 * np.arange(6, dtype=np.float32))
    np.testing.assert_array_equal(backend.to_numpy(second), np.arange(6, dtype=np.float32))


def forgotten(monkeypatch, what):
    """Leave out one of the things that keep streams in order."""
    if what == "readers wait for copies":
        monkeypatch.setattr(_memory, "arrive", lambda *arrays: [a.__dict__.pop(_memory.ARRIVAL, None) for a in arrays])
    else:
        monkeypatch.setattr(Stream, "wait_stream", lambda *_: None)


@pytest.mark.parametrize("what", ["readers wait for copies", "copies wait for arrays"])
def test_what_keeps_streams_in_order_is_needed(on_two_gpus, on_one_device, monkeypatch, what):
    backend = on_two_gpus(0)
    forgotten(monkeypatch, what)
    assert trained(backend, graph=True) != on_one_device
