"""What the conformance suite does not ask of the Triton backend; its kernels run in Triton's interpreter.

Collected only where ``TRITON_INTERPRET`` is set, by ``nox -s tests-triton``.
"""

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import numpy as np
import pytest
import torch
from networks import assert_losses_agree, convolves_backwards, multiplies_backwards
from refnet_triton import _devices, _launch, _layout, _memory, _product, _scalars
from refnet_triton import sgd as triton_sgd
from refnet_triton._configs import Config
from threadpoolctl import threadpool_limits
from torch.utils._python_dispatch import TorchDispatchMode
from triton.runtime.errors import OutOfResources

from refnet import backend as backends
from refnet import nets, ops
from refnet.backend.reference import NumpyBackend
from refnet.cli.main import main
from refnet.errors import ArgumentError, BackendUnavailableError, ConfigError, DeviceMemoryError, ShapeError
from refnet.network import passes
from refnet.network.fuse import fuse
from refnet.network.initial import initialise
from refnet.network.layers import RandomKey
from refnet.network.plan import crossings
from refnet.training import session
from refnet.training.step import StepSettings, begin

SEED = 11
RNG = np.random.default_rng(0)


def normal(*shape):
    return RNG.standard_normal(shape).astype(np.float32)


# Odd arguments -------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def triton():
    return backends.load("triton", columns=2, checked=False)


def test_it_agrees_with_its_chapters_on_an_empty_batch(triton):
    x, w, b = normal(0, 3, 7, 7), normal(4, 3, 3, 3), normal(4)
    options = {"stride": 1, "pad": 1}
    y = triton.conv2d.forward(*map(triton.asarray, (x, w, b)), **options)
    assert tuple(y.shape) == (0, 4, 7, 7)
    found = triton.conv2d.backward(y, *map(triton.asarray, (x, w)), **options)
    for ours, right in zip(found, ops.conv2d.backward(normal(0, 4, 7, 7), x, w, **options), strict=True):
        np.testing.assert_array_equal(triton.to_numpy(ours), right)
    dy, x, w = normal(0, 5), normal(0, 6), normal(5, 6)
    found = triton.linear.backward(*map(triton.asarray, (dy, x, w)))
    for ours, right in zip(found, ops.linear.backward(dy, x, w), strict=True):
        np.testing.assert_array_equal(triton.to_numpy(ours), right)


def test_arrays_that_are_not_contiguous_or_not_float32(triton):
    x = triton.asarray(normal(4, 6))
    with pytest.raises(ShapeError, match="contiguous"):
        triton.relu.forward(x[:, ::2])
    with pytest.raises(ShapeError, match=r"float32, not torch\.float64"):
        triton.relu.forward(x.double())
    with pytest.raises(ConfigError, match="float32, not float64"):
        triton.asarray(np.ones(2))


def test_a_checked_backend_converts_views_and_half_precision(triton):
    checked = backends.load("triton", devices=["cpu"])
    x = triton.asarray(normal(4, 6))
    right = checked.relu.forward(x[:, ::2].contiguous())
    assert checked.relu.forward(x[:, ::2]).equal(right)
    assert checked.relu.forward(x.half()).dtype == torch.float32
    with pytest.raises(ShapeError, match=r"relu: x is torch\.float64, and backend triton computes in float32"):
        checked.relu.forward(x.double())
    with pytest.raises(
        ArgumentError, match=r"relu: x must be an array of backend triton \(a torch tensor\), it is of type"
    ):
        checked.relu.forward(np.ones(3, np.float32))
    with pytest.raises(ArgumentError, match="relu: x is on device meta, the backend computes on cpu; move it there"):
        checked.relu.forward(x.to("meta"))
    with pytest.raises(ArgumentError, match="sgd: w is changed in place, so it must be contiguous"):
        checked.sgd.step_(x[:, ::2], right, right, lr=0.1, momentum=0.9, weight_decay=0.0)


def test_a_pad_wider_than_the_filter(triton):
    x, w = normal(2, 3, 4, 5), normal(6, 3, 2, 1)
    options = {"stride": 2, "pad": 3}
    (shape,) = ops.conv2d.forward_shapes(x.shape, w.shape, (6,), **options)
    dy = normal(*shape)
    found = triton.conv2d.backward(*map(triton.asarray, (dy, x, w)), **options)
    for ours, right in zip(found, ops.conv2d.backward(dy, x, w, **options), strict=True):
        np.testing.assert_allclose(triton.to_numpy(ours), right, rtol=1e-5, atol=1e-5)


def test_more_parameters_than_a_launch_takes(triton, monkeypatch):
    monkeypatch.setattr(triton_sgd, "MAX_PARAMETERS", 3)
    w, v, g = ([normal(length, 2) for length in (5, 1, 300, 2, 7, 4, 9)] for _ in range(3))
    rates = {"lr": 0.1, "momentum": 0.9, "weight_decays": [0.1, 0, 0.2, 0.3, 0, 0, 0.1]}
    there = [[triton.asarray(a) for a in arrays] for arrays in (w, v, g)]
    triton.sgd.steps_(*there, **rates)
    ops.sgd.steps_(w, v, g, **rates)
    for ours, right in zip(there[0] + there[1], w + v, strict=True):
        np.testing.assert_array_equal(triton.to_numpy(ours), right)


# Failures ------------------------------------------------------------------------------------------------------------


# Several threads and processes ---------------------------------------------------------------------------------------


def test_calls_from_several_threads_give_what_one_thread_gives(triton):
    x = triton.asarray(normal(2, 5, 4, 4))

    def op(step):
        y = triton.dropout.forward(x, drop=0.5, key=(1, 2), counter=(step % 3, 0, 0, 0))
        return triton.to_numpy(triton.lrn.forward(y, n=3, k=2.0, alpha=0.1, beta=0.75)[0]).tobytes()

    alone = [op(step) for step in range(3)]
    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(op, range(12))) == alone * 4


FORKED = """
import multiprocessing
import numpy as np
from refnet.backend import load
backend = load("triton", devices=["cpu"])
def op(_):
    return backend.relu.forward(backend.asarray(np.ones((2, 3), np.float32)))
op(0)
with multiprocessing.get_context("fork").Pool(1) as pool:
    try:
        print(pool.map(op, range(2)))
    except Exception as error:
        print(type(error).__name__, error)
"""


def test_a_forked_process_says_that_it_cannot_compute():
    done = subprocess.run([sys.executable, "-c", FORKED], capture_output=True, text=True, timeout=100, check=False)
    assert done.returncode == 0
    assert done.stdout.strip() == (
        "BackendUnavailableError backend triton cannot compute in a process that was forked after it was loaded; "
        "start processes with multiprocessing.get_context('spawn')"
    )


class Stubborn:
    """A kernel that cannot be run."""

    __name__ = "stubborn"

    def __init__(self, error):
        self.error = error

    def __getitem__(self, _):
        def run(*_, **__):
            raise self.error

        return run


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (OutOfResources(300_000, 232_448, "shared memory"), "shared memory"),
        (RuntimeError("PassManager::run failed"), "PassManager::run failed; try another precision"),
    ],
)
def test_a_kernel_that_does_not_compile(error, said):
    with pytest.raises(
        BackendUnavailableError, match=f"kernel stubborn cannot be compiled for interpreter .*{said}"
    ) as caught:
        _launch.launch(Stubborn(error), (1,), torch.empty(3), config=Config())
    assert caught.value.exit_code == 6


def test_another_error_of_a_launch_is_not_called_the_compilers():
    with pytest.raises(RuntimeError, match="illegal memory access"):
        _launch.launch(Stubborn(RuntimeError("an illegal memory access")), (1,), torch.empty(3), config=Config())


def test_more_programs_than_a_grid_has():
    with pytest.raises(ShapeError, match=r"kernel stubborn would need \(1, 65536\) programs"):
        _launch.launch(Stubborn(RuntimeError()), (1, 2**16), torch.empty(3), config=Config())


def test_images_of_more_numbers_than_32_bits_count():
    laid = _layout.Laid(torch.empty((1, 2**15, 2**14, 4), device="meta"))
    with pytest.raises(ShapeError, match=r"fewer than 2\^31 numbers with their border, not 2147483648"):
        laid.windows(1, 1, 1, 1)
    assert _layout.one_pixel(2**31 - 1).RUN == 2**31 - 1


def test_precision_is_for_gpus():
    with pytest.raises(ConfigError, match="precision='tf32' needs a GPU"):
        backends.load("triton", devices=["cpu"], precision="tf32")


@pytest.mark.parametrize("devices", [["cpu"], ["cpu", "cpu"]])
def test_steps_are_recorded_on_gpus(devices):
    with pytest.raises(ConfigError, match="graph records the steps of GPUs"):
        backends.load("triton", columns=2, devices=devices, graph=True)


def test_the_interpreter_does_not_run_on_a_gpu(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    with pytest.raises(BackendUnavailableError, match="Triton is the interpreter in this process"):
        backends.load("triton", devices=["cuda:0"])


# Networks ------------------------------------------------------------------------------------------------------------


class BackwardsOrder(NumpyBackend):
    """NumPy, with the sums of layers that ReLU follows taken from the last to the first."""

    conv2d_relu, linear_relu = convolves_backwards(ops.conv2d_relu), multiplies_backwards(ops.linear_relu)


def losses(backend, steps, *, columns=2, batch=16):
    """Train digits for some steps, with dropout, momentum and decay."""
    plan = fuse(nets.get("digits").plan(columns))
    training = begin(plan, backend, StepSettings(seed=SEED))
    rng = np.random.default_rng(1)
    images, labels = rng.integers(-8, 9, (batch, 1, 8, 8)).astype(np.float32), rng.integers(0, 10, batch)
    placed = passes.place(plan, images, backend)
    return np.array([training.take(placed, labels, 0.02, step) for step in range(1, steps + 1)])


@pytest.mark.parametrize("columns", [1, 2])
def test_twenty_steps_of_training(columns):
    """|dloss| <= 4 times the divergence of two NumPy runs that only differ in the order of their sums (testing.md)."""
    with threadpool_limits(1):
        reference, other_order, found = (
            losses(backend, 20, columns=columns)
            for backend in (NumpyBackend(columns), BackwardsOrder(columns), backends.load("triton", columns=columns))
        )
    assert 0 < np.abs(other_order - reference).max() < 1e-2
    assert_losses_agree(found, reference, other_order)
    assert reference[-5:].mean() < 0.85 * reference[:5].mean()


def moved(monkeypatch, **options):
    """Bytes that `send` carried in each direction in the forward and in the backward pass, and what was recorded."""
    backend = backends.load("triton", columns=2, checked=False, **options)
    plan, batch = nets.get("digits").plan(2), 3
    params = passes.place_params(plan, initialise(plan, SEED), backend)
    images = passes.place(plan, normal(batch, 1, 8, 8), backend)
    carried, send = [], backend.send
    size = backend.exchange_itemsize

    def counting(a, column, *, gradient):
        carried.append((column, a.numel() * size))
        return send(a, column, gradient=gradient)

    monkeypatch.setattr(backend, "send", counting)
    tape = passes.forward(plan, params, images, backend, random_key=RandomKey(SEED, 1))
    forward = list(carried)
    carried.clear()
    passes.backward(tape, backend.asarray(normal(batch, 10)))
    return plan, batch, forward, list(carried), tape.crossings


@pytest.mark.parametrize(("exchange", "size"), [("fp32", 4), ("fp16", 2)])
def test_what_crosses_is_what_the_plan_says_to_the_byte(monkeypatch, exchange, size):
    plan, batch, forward, backward, recorded = moved(monkeypatch, exchange=exchange)
    expected = crossings(plan, batch, itemsize=size)
    assert recorded == expected
    assert sorted(forward) == sorted((crossing.target, crossing.nbytes) for crossing in expected)
    assert sorted(backward) == sorted((crossing.source, crossing.nbytes) for crossing in expected)


def test_without_exchange_only_the_fully_connected_layers_read_the_other_column():
    net = nets.get("paper")
    into = {crossing.into for crossing in crossings(net.plan(2, exchange=False), 128)}
    assert into == {"fc6", "fc7", "fc8"}
    assert {crossing.into for crossing in crossings(net.plan(2), 128)} == {"conv3", *into}


@pytest.mark.parametrize(("gradient", "dtype"), [(False, torch.float16), (True, torch.bfloat16)])
def test_half_precision_rounds_what_crosses(gradient, dtype):
    backend = backends.load("triton", columns=2, exchange="fp16")
    a = normal(3, 4)
    expected = torch.from_numpy(a).to(dtype).to(torch.float32).numpy()
    np.testing.assert_array_equal(backend.to_numpy(backend.send(backend.asarray(a), 1, gradient=gradient)), expected)
    assert (expected != a).any()


def test_half_precision_keeps_small_gradients():
    """Gradients of 1e-6 and less, which reach conv3, are zero or subnormal in fp16."""
    backend = backends.load("triton", columns=2, exchange="fp16")
    gradients = np.float32(10.0) ** np.arange(-30, 1, dtype=np.float32)
    arrived = backend.to_numpy(backend.send(backend.asarray(gradients), 1, gradient=True))
    np.testing.assert_allclose(arrived, gradients, rtol=2**-8, atol=0)


def test_half_precision_rounds_neither_images_nor_a_column_s_own_maps(monkeypatch):
    backend = backends.load("triton", columns=2, checked=False, exchange="fp16")
    plan = nets.get("digits").plan(2)
    images = normal(2, 1, 8, 8)
    for placed in passes.place(plan, images, backend):
        np.testing.assert_array_equal(backend.to_numpy(placed), images)
    sent, send = [], backend.send

    def recording(a, column, *, gradient):
        sent.append(gradient)
        return send(a, column, gradient=gradient)

    monkeypatch.setattr(backend, "send", recording)
    params = passes.place_params(plan, initialise(plan, SEED), backend)
    tape = passes.forward(plan, params, passes.place(plan, images, backend), backend)
    passes.backward(tape, backend.asarray(normal(2, 10)))
    crossed = len(crossings(plan, 2))
    assert sent == [False] * crossed + [True] * crossed


# Streams -------------------------------------------------------------------------------------------------------------


class FakeStream:
    """A stream that writes down what it is told."""

    def __init__(self, name, log):
        self.name, self.log = name, log

    def wait_stream(self, other):
        self.log.append(f"{self.name} waits for {other.name}")

    def wait_event(self, event):
        self.log.append(f"{self.name} waits for {event}")

    def record_event(self):
        self.log.append(f"{self.name} records")
        return f"the copy on {self.name}"


class FakeArray:
    """An array of a device that is not here."""

    dtype, shape = torch.float32, (2, 3)

    def __init__(self, device, log):
        self.device, self.log = device, log

    def copy_(self, other, *, non_blocking):
        assert non_blocking
        self.log.append(f"{other.device} to {self.device}")

    def record_stream(self, stream):
        self.log.append(f"{self.device} array is used on {stream.name}")


def test_a_move_between_devices_makes_only_its_reader_wait(monkeypatch):
    log, backend = [], backends.load("triton", columns=2, checked=False)
    here, there = torch.device("cuda:0"), torch.device("cuda:1")
    backend.devices = [here, there]

    @contextmanager
    def current(stream):
        log.append(f"on {stream.name}")
        yield

    monkeypatch.setattr(torch.cuda, "Stream", lambda device: FakeStream(f"copies of {device}", log))
    monkeypatch.setattr(torch.cuda, "current_stream", lambda device: FakeStream(f"work of {device}", log))
    monkeypatch.setattr(torch.cuda, "stream", current)
    monkeypatch.setattr(_memory, "empty", lambda _shape, _dtype, device: FakeArray(device, log))
    moved = backend.move(FakeArray(here, log), 1)
    assert log == [
        "on copies of cuda:1",
        "copies of cuda:0 waits for work of cuda:0",
        "on copies of cuda:0",
        "on copies of cuda:1",
        "cuda:0 to cuda:1",
        "copies of cuda:1 records",
        "cuda:0 array is used on copies of cuda:0",
        "cuda:1 array is used on work of cuda:1",
    ]
    log.clear()
    _memory.arrive(moved)
    _memory.arrive(moved)
    assert log == ["work of cuda:1 waits for the copy on copies of cuda:1"]
    assert backend.move(moved, 1) is moved


def test_every_op_waits_for_what_is_on_its_way(monkeypatch):
    log, backend = [], backends.load("triton")
    monkeypatch.setattr(torch.cuda, "current_stream", lambda _: FakeStream("work", log))
    a = backend.asarray(normal(2, 3))
    setattr(a, _memory.ARRIVAL, "the copy")
    backend.relu.forward(a)
    backend.relu.forward(a)
    assert log == ["work waits for the copy"]


# Recorded steps ------------------------------------------------------------------------------------------------------


class Recording(TorchDispatchMode):
    """Stands in for a CUDA graph: notes launches and copies with their very arrays, runs none, and repeats."""

    def __init__(self):
        super().__init__()
        self.calls = []

    def replay(self):
        for call in self.calls:
            call()

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        if function not in {torch.ops.aten.copy_.default, torch.ops.aten.cat.out}:
            return function(*args, **kwargs)  # what makes arrays and views, and no work
        self.calls.append(lambda: function(*args, **kwargs))
        return kwargs.get("out", args[0])


@pytest.fixture
def recordings(monkeypatch):
    made = []

    @contextmanager
    def record(graph, pool, stream):  # noqa: ARG001
        made.append(graph)
        launch = _launch.launch

        def noted(*args, **kwargs):
            graph.calls.append(lambda: launch(*args, **kwargs))

        with pytest.MonkeyPatch.context() as patch:
            for name, module in list(sys.modules.items()):
                if name.startswith("refnet_triton.") and getattr(module, "launch", None) is launch:
                    patch.setattr(module, "launch", noted)
            with graph:
                yield

    monkeypatch.setattr(torch.cuda, "Stream", lambda device: f"recordings of {device}")
    monkeypatch.setattr(torch.cuda, "graph_pool_handle", lambda: "memory")
    monkeypatch.setattr(torch.cuda, "CUDAGraph", Recording)
    monkeypatch.setattr(torch.cuda, "graph", record)
    return made


def stepped(batches, *, graph):
    """Train on batches with a rate that falls; return losses and parameters."""
    backend = backends.load("triton", columns=2)
    training = begin(fuse(nets.get("digits").plan(2)), backend, StepSettings(seed=SEED, graph=graph))
    found = [
        training.take(passes.place(training.plan, images, backend), labels, 0.02 / step, step)
        for step, (images, labels) in enumerate(batches, start=1)
    ]
    return found, {name: backend.to_numpy(a).tobytes() for name, a in training.params.items()}


def test_a_recorded_step_has_the_bits_of_the_eager_one(recordings):
    """Steps, rates and images change, and the last batch is short; the record's arguments never do."""
    rng = np.random.default_rng(2)
    sizes = (4, 4, 4, 4, 3)
    batches = [(rng.integers(-8, 9, (n, 1, 8, 8)).astype(np.float32), rng.integers(0, 10, n)) for n in sizes]
    eager, graphed = stepped(batches, graph=False), stepped(batches, graph=True)
    assert len(recordings) == 2
    assert all(len(graph.calls) > 20 for graph in recordings)
    assert graphed == eager


def test_a_record_with_the_step_in_its_arguments_would_be_seen(recordings, monkeypatch):
    """If numbers did not stand in memory, the comparison above would fail."""
    monkeypatch.setattr(_scalars, "set_step", lambda _: None)
    rng = np.random.default_rng(2)
    batches = [(rng.integers(-8, 9, (4, 1, 8, 8)).astype(np.float32), rng.integers(0, 10, 4)) for _ in range(4)]
    eager, graphed = stepped(batches, graph=False), stepped(batches, graph=True)
    assert len(recordings) == 2
    assert graphed != eager


# Without the chip ----------------------------------------------------------------------------------------------------

COMPILE = """
from refnet import nets
from refnet.network.fuse import fuse
from refnet_triton import _offline
for architecture, instruction in (("sm_80", "mma.sync"), ("sm_90", "wgmma"), ("gfx942", "v_mfma")):
    launches = _offline.different(_offline.step_launches(fuse(nets.get("digits").plan(2)), 32, architecture, "tf32"))
    launch = next(launch for launch in launches if launch.kernel.__name__ == "multiply")
    kernel = _offline.compiled(launch, architecture)
    assert instruction in (kernel.asm.get("ptx") or kernel.asm["amdgcn"]), architecture
    print(architecture, len(launches))
"""


def test_kernels_compile_for_chips_that_are_not_here(monkeypatch):
    monkeypatch.delenv("TRITON_INTERPRET")
    done = subprocess.run([sys.executable, "-c", COMPILE], check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.splitlines()) == 3


DRESS_REHEARSAL = """
import numpy as np
import torch
from triton.backends.compiler import GPUTarget
from triton.runtime import driver
from triton.runtime.jit import JITFunction

from refnet import nets
from refnet.network import passes
from refnet.network.fuse import fuse
from refnet.training.step import begin
from refnet_triton import TritonBackend, _devices, _launch, _memory


class H100:
    get_current_target = staticmethod(lambda: GPUTarget("cuda", 90, 32))
    get_current_device = staticmethod(lambda: 0)
    get_current_stream = staticmethod(lambda device: 0)


driver.set_active(H100())
run, compiled = JITFunction.run, set()


def compile_only(self, *arguments, grid, warmup, **options):
    compiled.add(run(self, *arguments, grid=grid, warmup=True, **options).hash)


JITFunction.run = compile_only
_devices.find = lambda names: [torch.device("cpu")]
# Nothing is computed, and the trainer looks whether gradients are finite.
_memory.empty = lambda shape, dtype=torch.float32, device="cpu": torch.zeros(shape, dtype=dtype, device=device)
_devices.precision = lambda asked, devices: "tf32"
_launch.architecture = lambda device: "sm_90"
for columns, batch, kind in ((2, 1, np.int32), (1, 13, np.int64)):
    backend, plan = TritonBackend(columns), fuse(nets.get("digits").plan(columns))
    forward, finish = begin(plan, backend).halves
    images = passes.place(plan, np.zeros((batch, 1, 8, 8), np.float32), backend)
    _, kept = forward(images, backend.asarray(np.zeros(batch, kind)), 1)
    finish(kept, 0.01)
print(len(compiled))
"""


def test_a_step_compiles_as_a_gpu_would_be_given_it(monkeypatch):
    """All but the launch itself: Triton looks at the arguments, of which it treats 1 and multiples of 16 apart."""
    monkeypatch.delenv("TRITON_INTERPRET")
    done = subprocess.run([sys.executable, "-c", DRESS_REHEARSAL], check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) > 80


# Out of memory -------------------------------------------------------------------------------------------------------

# What torch 2.11 to 2.13 and Triton 3.6 and 3.7 raise where a device has no memory left: the allocator; CUDA's runtime
# and its driver, asked by torch; a kernel that is loaded, on NVIDIA and on AMD; and the host's allocator.
SHORTAGES = {
    "allocator": torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has a total capacity"),
    "runtime": torch.AcceleratorError("CUDA error: out of memory\nCUDA kernel errors might be asynchronously reported"),
    "driver": RuntimeError("CUDA driver error: out of memory"),
    "kernel": RuntimeError("Triton Error [CUDA]: out of memory"),
    "AMD's kernel": RuntimeError("Triton Error [HIP]:  Code: 2, Messsage: out of memory"),
    "host": RuntimeError("[enforce fail at alloc_cpu.cpp:127] err == 0. DefaultCPUAllocator: can't allocate memory"),
}


def failing(error, after=0):
    """Raise an error at the call after a given number of calls."""
    calls = iter(range(after))

    def refuse(*_, **__):
        if next(calls, None) is None:
            raise error

    return refuse


@pytest.fixture
def a_card(monkeypatch):
    """Let the device of the interpreter be taken for a GPU of 8 GB when memory has run out."""
    monkeypatch.setattr(_memory, "_free_and_total", lambda _: (10**9, 8 * 10**9))
    monkeypatch.setattr(torch.cuda, "memory_reserved", lambda _: 6 * 10**9)


def ended(capsys, tmp_path, *flags):
    """Train digits on the command line until memory runs out; return the line of the error."""
    run = tmp_path / "run"
    assert main(["train", "--backend", "triton", "--devices", "cpu", "--run-dir", str(run), *flags]) == 6
    error = capsys.readouterr().err
    assert len(error.splitlines()) == 1, error
    return error


@pytest.mark.usefixtures("a_card")
@pytest.mark.parametrize("error", SHORTAGES.values(), ids=SHORTAGES)
def test_memory_that_runs_out_while_parameters_are_laid_down(capsys, monkeypatch, tmp_path, error):
    monkeypatch.setattr(_memory, "empty", failing(error))
    assert (
        "device cpu is out of memory (8.0 GB, 7.0 GB of it not used by other processes); --batch 16 would fit"
        in ended(capsys, tmp_path)
    )
    assert not (tmp_path / "run").exists()


@pytest.mark.usefixtures("a_card")
@pytest.mark.parametrize("error", SHORTAGES.values(), ids=SHORTAGES)
@pytest.mark.parametrize("what", ["_launch.launch", "torch.Tensor.copy_", "torch.Tensor.cpu", "torch.cat"])
def test_memory_that_runs_out_in_a_step(capsys, monkeypatch, tmp_path, error, what):
    """In a launch, where kernels are loaded; in copies to a device, to a column and to the host; where arrays meet."""
    laid = session.begin

    def begun(*arguments):
        training = laid(*arguments)
        if what == "_launch.launch":
            monkeypatch.setattr(_product, "launch", failing(error))
        else:
            monkeypatch.setattr(torch.Tensor if "Tensor" in what else torch, what.rpartition(".")[2], failing(error))
        return training

    monkeypatch.setattr(session, "begin", begun)
    assert "device cpu is out of memory (8.0 GB, " in (said := ended(capsys, tmp_path))
    assert "--batch 16 would fit" in said


@pytest.mark.parametrize("error", SHORTAGES.values(), ids=SHORTAGES)
def test_memory_that_runs_out_where_a_context_is_made(monkeypatch, error):
    """A card that others have filled: not even its properties can be asked for, nor what it has left."""
    monkeypatch.setattr(_launch, "architecture", failing(error))
    monkeypatch.setattr(torch.cuda, "mem_get_info", failing(error))
    monkeypatch.setattr(_devices, "find", lambda _: [torch.device("cuda", 0)])
    with pytest.raises(DeviceMemoryError, match=r"^device cuda:0 is out of memory; a smaller batch needs less$"):
        backends.load("triton")


@pytest.mark.parametrize("error", SHORTAGES.values(), ids=SHORTAGES)
@pytest.mark.usefixtures("recordings")
@pytest.mark.parametrize("where", ["begun", "within", "ended", "repeated"])
def test_memory_that_runs_out_while_a_step_is_recorded(monkeypatch, error, where):
    """A recording that failed cannot be ended either; what it failed of is what is said."""
    record = torch.cuda.graph

    @contextmanager
    def recording(*arguments, **options):
        if where == "begun":
            raise error
        with record(*arguments, **options):
            yield
        if where == "ended":
            raise error
        if where == "within":
            raise torch.AcceleratorError("CUDA error: operation failed due to a previous error during capture")

    monkeypatch.setattr(torch.cuda, "graph", recording)
    backend = backends.load("triton", columns=2)
    training = begin(fuse(nets.get("digits").plan(2)), backend, StepSettings(graph=True))
    batch = passes.place(training.plan, normal(4, 1, 8, 8), backend), np.zeros(4, np.int64)
    training.take(*batch, 0.01, 1)
    if where == "within":
        monkeypatch.setattr(_memory, "empty", failing(error))
    if where == "repeated":
        monkeypatch.setattr(Recording, "replay", failing(error))
    with pytest.raises(DeviceMemoryError, match="device cpu is out of memory"):
        training.take(*batch, 0.01, 2)


@pytest.mark.parametrize("error", SHORTAGES.values(), ids=SHORTAGES)
def test_of_two_devices_the_one_with_least_left_is_named(monkeypatch, error):
    left = {"cuda:0": (3 * 10**9, 8 * 10**9), "cuda:1": (10**9, 16 * 10**9)}
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: left[str(device)])
    monkeypatch.setattr(torch.cuda, "memory_reserved", lambda _: 15 * 10**9)
    short = _memory.shortage(error, [torch.device("cuda", 0), torch.device("cuda", 1)])
    assert str(short) == "device cuda:1 is out of memory (16.0 GB); a smaller batch needs less"
    assert (short.total, short.available) == (16 * 10**9, 16 * 10**9)


def test_an_error_about_something_else_is_left_alone(triton, monkeypatch):
    monkeypatch.setattr(_memory, "empty", failing(torch.AcceleratorError("CUDA error: an illegal memory access")))
    with pytest.raises(torch.AcceleratorError, match="illegal memory access"):
        triton.asarray(normal(3))
