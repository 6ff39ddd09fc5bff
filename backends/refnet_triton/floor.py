"""The least time that a training step of the paper's network can take: ``python -m refnet_triton.floor --batch 128``.

For each op of each layer, both columns together, it prints the floating-point operations of its products, the bytes of
the arrays that it reads and writes, each counted once, and the time that a chip needs for either at its peak. The
longer of the two times is the op's lower bound. The next column is the bytes that the kernels request: those of every
block of each launch, as if there were no cache (``REQUESTED_BYTES`` beside the kernels). With caches, the true number
is between the two. Nothing is run, so this measures no time. ``--model`` prints beside each lower bound the time that a
model of an H100 predicts (:mod:`._model`). On a GPU, ``--measure`` prints the measured time of each op beside both.
"""

import argparse
import json
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from refnet.backend.wrapped import OpCall, Tapped, arrays_in
from refnet.errors import end
from refnet.nets import NetSpec
from refnet.network.plan import Plan
from refnet.ops import chapter
from refnet_triton import TritonBackend, _launch, _model
from refnet_triton._launch import Launch
from refnet_triton._measured import ADDITION, measure
from refnet_triton._offline import take_step

# NVIDIA's data sheet; FLOP/s of products in tf32, without sparsity.
CHIP, BYTES_PER_SECOND, FLOPS_PER_SECOND = "H100 SXM", 3.35e12, 495e12
CALLS = "layers: op and direction, shape of w or of the result"  # heading of the column with a row's name


@dataclass(frozen=True)
class OpCost:
    """The costs of all calls with the same name: of one function of one op, in one layer of both columns.

    Attributes
    ----------
    what
        The name of the calls.
    flops
        Floating-point operations of its products, two for each multiply-add.
    must
        Bytes that it must read and write: those of its arguments and results, each counted once.
    asked
        Bytes that its kernels request, as if there were no cache.
    launches
        Number of launches.
    model
        Seconds that a model of the chip predicts; None if not asked for.
    measured
        Seconds on a GPU; None if not measured.
    """

    what: str
    flops: int
    must: int
    asked: int
    launches: int
    model: float | None = None
    measured: float | None = None

    @property
    def computing(self) -> float:
        """Seconds of arithmetic at the chip's peak."""
        return self.flops / FLOPS_PER_SECOND

    @property
    def moving(self) -> float:
        """Seconds of memory traffic at the chip's peak."""
        return self.must / BYTES_PER_SECOND

    @property
    def floor(self) -> float:
        """Lower bound of its time in seconds: arithmetic and memory can work at the same time."""
        return max(self.computing, self.moving)

    def as_dict(self) -> dict[str, Any]:
        """Return the row ready for JSON."""
        return {**asdict(self), "computing": self.computing, "moving": self.moving, "floor": self.floor}


def step_rows(
    plan: Plan, batch: int, architecture: str = "sm_90", precision: str = "tf32", *, model: bool = False
) -> list[OpCost]:
    """Return the costs of a training step: a row for each function of each layer, in the order of the calls.

    With `model`, also the time that a model predicts, for which every matrix product is compiled.
    """
    totals: dict[str, list[int]] = {}
    predicted: dict[str, float] = {}
    name_of = naming(plan)
    with _launch.trace(architecture) as launches:
        backend = _WithLaunches(TritonBackend(plan.columns, ("meta",), precision=precision), launches)
        take_step(plan, batch, backend)
    for call, launched in zip(backend.calls, backend.launched, strict=True):
        amounts = (flops(call), required_bytes(call), sum(map(requested_bytes, launched)), len(launched))
        name = name_of(call)
        total = totals.setdefault(name, [0] * len(amounts))
        totals[name] = [a + b for a, b in zip(total, amounts, strict=True)]
        if model:
            predicted[name] = predicted.get(name, 0.0) + predict(launched)
    rows = [replace(OpCost(what, *amounts), model=predicted.get(what)) for what, amounts in totals.items()]
    additions = [launch for launch in launches if launch.kernel.__name__ == "add"]
    assert len(additions) + sum(map(len, backend.launched)) == len(launches), "a launch belongs to no op"
    added = sum(map(requested_bytes, additions))
    adding = predict(additions) if model else None
    return [*rows, OpCost(ADDITION, 0, added, added, len(additions), model=adding)]


def predict(launches: Iterable[Launch]) -> float:
    """Return the seconds that the model predicts for launches one after another."""
    return sum(_model.seconds(launch, requested_bytes(launch)) for launch in launches)


class _WithLaunches(Tapped):
    """A backend that records each call of an op, and the launches of that call.

    Attributes
    ----------
    launched
        The launches of each call so far, in order.
    """

    def __init__(self, inner: Any, launches: list[Launch]) -> None:
        super().__init__(inner)
        self._launches = launches
        self.launched: list[list[Launch]] = []

    def around(self, op: str, name: str, function: Callable[..., Any], arguments: Mapping[str, Any]) -> Any:
        """Return the result of a call, and record its launches."""
        before = len(self._launches)
        result = super().around(op, name, function, arguments)
        self.launched.append(self._launches[before:])
        return result


def naming(plan: Plan) -> Callable[[OpCall], str]:
    """Return a function that names a call by its layers, its op and direction, and the shape of w or of the result."""
    layers: dict[tuple[str, str, tuple[int, ...]], dict[str, None]] = {}
    for node in plan.nodes:
        w = node.params.get("w")
        for direction, result in (("forward", node.shape), ("backward", node.shapes[0])):
            layers.setdefault((node.layer.op, direction, w or result), {})[node.layer.name] = None

    def name_of(call: OpCall) -> str:
        w, direction = call.arguments.get("w"), call.function
        if isinstance(w, Sequence):  # an update of all parameters
            return f"{call.op}, all parameters"
        lengths = tuple(next(arrays_in(call.results)).shape)[1:] if w is None else tuple(w.shape)
        names = ", ".join(layers.get((call.op, direction, lengths), ()))
        name = f"{names}: {call.op} {direction}" if names else f"{call.op} {direction}"
        return f"{name}, {'x'.join(map(str, lengths))}" if lengths else name

    return name_of


def flops(call: OpCall) -> int:
    """Return the floating-point operations of a call's products of inputs x with weights w (K,...), or 0.

    Forward there is one product. Backward there is one for dw, and one for dx if it is computed.
    """
    if not {"x", "w"} <= call.arguments.keys():
        return 0
    y = call.results[0] if call.function == "forward" else call.arguments["dy"]
    products = 1 if call.function == "forward" or call.results[0] is None else 2
    w = call.arguments["w"]
    return int(2 * products * w.numel() * (y.numel() // w.shape[0]))


def required_bytes(call: OpCall) -> int:
    """Return the bytes of a call's arrays, each counted once, or twice if the call reads and changes it."""
    changed = [call.arguments[name] for name in getattr(chapter(call.op), "CHANGES", ())]
    return _nbytes([*call.arguments.values(), *call.results, *changed])


def requested_bytes(launch: Launch) -> int:
    """Return the bytes that a launch's programs read and write, counting whole blocks and no cache.

    Unless ``REQUESTED_BYTES`` beside the kernel says otherwise, programs read and write every number once.
    """
    counts = getattr(sys.modules[launch.kernel.module], "REQUESTED_BYTES", {})
    name = launch.kernel.__name__
    return int(counts[name](launch)) if name in counts else _nbytes(launch.arguments.values())


def _nbytes(values: Iterable[Any]) -> int:
    return sum(a.numel() * a.element_size() for a in arrays_in(values))


def show_measured(rows: list[OpCost], batch: int, card: str) -> None:
    """Print the measured time of each row beside its lower bound, the row with the largest difference first."""
    print(f"batch {batch}, two columns on one {card}; lower bounds are those of an {CHIP}\n")
    print(
        f"| {CALLS} | measured, us | model, us | bound, us | bound / measured, % | TFLOP/s | GB/s | "
        "measured - bound, us |"
    )
    print("|---|---|---|---|---|---|---|---|")
    times = [(row, seconds, seconds - row.floor) for row in rows if (seconds := row.measured)]
    for row, seconds, lost in sorted(times, key=lambda each: -each[2]):
        print(
            f"| {row.what} | {seconds * 1e6:.1f} | {_microseconds(row.model)} | {row.floor * 1e6:.1f} | "
            f"{100 * row.floor / seconds:.0f} | "
            f"{row.flops / seconds / 1e12:.1f} | {row.must / seconds / 1e9:.0f} | {lost * 1e6:.1f} |"
        )
    measured, floor = sum(seconds for _, seconds, _ in times), sum(row.floor for row, _, _ in times)
    share = f"{100 * floor / measured:.0f} %"
    print(f"\nAll ops one after another: {measured * 1e3:.2f} ms; lower bound: {floor * 1e3:.2f} ms, {share} of that.")


def show_model(rows: list[OpCost], batch: int) -> None:
    """Print the time that the model predicts for each row beside its lower bound, the largest difference first."""
    print(f"batch {batch}, two columns on one {CHIP}: predictions, of which none is measured\n")
    print(f"| {CALLS} | model, us | bound, us | model - bound, us | launches |\n|---|---|---|---|---|")
    for row in sorted(rows, key=lambda each: each.floor - (each.model or 0)):
        over = (row.model or 0) - row.floor
        print(
            f"| {row.what} | {_microseconds(row.model)} | {row.floor * 1e6:.1f} | {over * 1e6:.1f} | {row.launches} |"
        )
    model, floor = sum(row.model or 0 for row in rows), sum(row.floor for row in rows)
    print(f"\nModel of a step, op by op: {model * 1e3:.2f} ms; lower bound: {floor * 1e3:.2f} ms.")


def _microseconds(seconds: float | None) -> str:
    return "-" if seconds is None else f"{seconds * 1e6:.1f}"


def show(rows: list[OpCost], batch: int) -> None:
    """Print the lower bounds as a table in Markdown."""
    total = OpCost("sum", *(sum(getattr(row, name) for row in rows) for name in ("flops", "must", "asked", "launches")))
    peak = f"{FLOPS_PER_SECOND / 1e12:g} TFLOP/s in tf32, {BYTES_PER_SECOND / 1e12:g} TB/s"
    print(f"batch {batch}, two columns on one {CHIP}: {peak}\n")
    print(
        f"| {CALLS} | GFLOP | minimum traffic, MB | arithmetic, us | memory, us | limited by | "
        "requested by kernels, MB | launches |"
    )
    print("|---|---|---|---|---|---|---|---|")
    for row in (*rows, total):
        limit = "-" if row is total else "arithmetic" if row.computing > row.moving else "memory"
        print(
            f"| {row.what} | {row.flops / 1e9:.1f} | {row.must / 1e6:.1f} | {row.computing * 1e6:.1f} | "
            f"{row.moving * 1e6:.1f} | {limit} | {row.asked / 1e6:.1f} | {row.launches} |"
        )
    floor = sum(row.floor for row in rows)
    print(f"\nLower bound of a step, op by op: {floor * 1e3:.2f} ms, {batch / floor:,.0f} images/s.")


def card() -> str:
    """Return the name of this machine's GPU."""
    import torch  # noqa: PLC0415 - needed only for the name

    return torch.cuda.get_device_name(0)


def main(arguments: list[str] | None = None) -> int:
    """Print the lower bound of a step, predicted or measured times if asked for; return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m refnet_triton.floor", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--batch", type=int, default=128, help="images per step (default: 128)")
    parser.add_argument(
        "--measure",
        action="store_true",
        help="time each op on this machine's GPU and print the times beside the lower bounds",
    )
    parser.add_argument(
        "--model", action="store_true", help="predict the time of each op by a model of an H100 (compiles the kernels)"
    )
    parser.add_argument("--json", action="store_true", help="print one JSON array of rows")
    options = parser.parse_args(arguments)
    if options.batch < 1:
        parser.error(f"--batch {options.batch} must be at least 1")
    plan = NetSpec("paper").plan()
    rows = step_rows(plan, options.batch, model=options.model)
    if options.measure:
        backend = TritonBackend(2, ("cuda:0",), precision="tf32")
        times = measure(plan, options.batch, backend, naming(plan))
        rows = [replace(row, measured=times[row.what]) for row in rows]
    if options.json:
        print(json.dumps([row.as_dict() for row in rows]))
    elif options.measure:
        show_measured(rows, options.batch, card())
    elif options.model:
        show_model(rows, options.batch)
    else:
        show(rows, options.batch)
    return 0


if __name__ == "__main__":
    end("floor", main)
