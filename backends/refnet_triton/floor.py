"""The least time that a training step of the paper's network can take: ``python -m refnet_triton.floor --batch 128``.

For each op of each layer, both columns together, it prints the operations of its products, the bytes of the arrays that
it reads and writes, each counted once, and the time that either takes at a chip's peak. Beside them are the bytes that
the kernels request: those of every tile of each launch, as if there were no cache. With caches the true number is
between the two. Nothing is run, so this measures no time. On a GPU, ``--measure`` prints the measured time of each op
beside its lower bound.
"""

import argparse
import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

from refnet.backend.wrapped import OpCall, Tapped, arrays_in
from refnet.errors import end
from refnet.nets import NetSpec
from refnet.network.plan import Plan
from refnet_triton import TritonBackend, _launch
from refnet_triton._launch import Launch
from refnet_triton._measured import ADDITION, measure
from refnet_triton._offline import take_step

CHIP, BANDWIDTH, RATE = "H100 SXM", 3.35e12, 495e12  # bytes/s; tf32 FLOP/s, dense (NVIDIA's data sheet)
CALLS = "layers: op and direction, shape of w or of the result"  # heading of the column with a row's name


@dataclass(frozen=True)
class OpCost:
    """The costs of one function of one op in one layer, or of all calls of a kind.

    Attributes
    ----------
    flops
        Floating-point operations of its products, two for each multiply-add.
    must
        Bytes of its arguments and results, each once.
    asked
        Bytes that its launches read and write, without caches.
    launches
        Number of launches.
    measured
        Seconds that it took on a GPU; None if not measured.
    """

    what: str
    flops: int
    must: int
    asked: int
    launches: int
    measured: float | None = None

    @property
    def computing(self) -> float:
        """Seconds of arithmetic at the chip's peak."""
        return self.flops / RATE

    @property
    def moving(self) -> float:
        """Seconds in which memory can move its arrays, at the chip's peak."""
        return self.must / BANDWIDTH

    @property
    def floor(self) -> float:
        """Shortest possible time in seconds, with arithmetic and memory working at the same time."""
        return max(self.computing, self.moving)

    def as_dict(self) -> dict[str, Any]:
        """Return the row ready for JSON."""
        return {**asdict(self), "computing": self.computing, "moving": self.moving, "floor": self.floor}


def step_rows(plan: Plan, batch: int, architecture: str = "sm_90", precision: str = "tf32") -> list[OpCost]:
    """Return the costs of a training step: a row for each function of each layer, in the order of the calls."""
    found: dict[str, list[int]] = {}
    name_of = naming(plan)
    with _launch.trace(architecture) as launches:
        backend = _Listening(TritonBackend(plan.columns, ("meta",), precision=precision), launches)
        take_step(plan, batch, backend)
    for called, mine in zip(backend.calls, backend.launched, strict=True):
        amounts = (flops(called), must(called), sum(map(asked, mine)), len(mine))
        name = name_of(called)
        total = found.setdefault(name, [0] * len(amounts))
        found[name] = [a + b for a, b in zip(total, amounts, strict=True)]
    rows = [OpCost(what, *amounts) for what, amounts in found.items()]
    joined = sum(sum(map(asked, mine)) for mine in backend.launched)
    meeting = [launch for launch in launches if launch.kernel.__name__ == "add"]
    assert joined + sum(map(asked, meeting)) == sum(map(asked, launches)), "a launch belongs to no op"
    added = sum(map(asked, meeting))
    return [*rows, OpCost(ADDITION, 0, added, added, len(meeting))]


class _Listening(Tapped):
    """A backend that records, besides each call of an op, the launches of that call."""

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

    def name_of(called: OpCall) -> str:
        if called.op == "sgd":
            return "sgd, all parameters"
        w, direction = called.arguments.get("w"), called.function
        result = next(arrays_in(called.results))
        lengths = tuple(result.shape)[1:] if w is None else tuple(w.shape)
        names = ", ".join(layers.get((called.op, direction, lengths), ()))
        call = f"{names}: {called.op} {direction}" if names else f"{called.op} {direction}"
        return f"{call}, {'x'.join(map(str, lengths))}" if lengths else call

    return name_of


def flops(called: OpCall) -> int:
    """Count the operations of a call's products: one product forward; backward one for dw, and one for dx if any."""
    if called.op.partition("_")[0] not in {"conv2d", "linear"}:
        return 0
    arguments = called.arguments
    y = called.results[0] if called.function == "forward" else arguments["dy"]
    products = 1 if called.function == "forward" or called.results[0] is None else 2
    w = arguments["w"]
    return int(2 * products * w.numel() * (y.numel() // w.shape[0]))


def must(called: OpCall) -> int:
    """Return the bytes of a call's arrays, each counted once, or twice if the call changes it."""
    changed = [called.arguments[name] for name in ("w", "v")] if called.op == "sgd" else []
    return _nbytes([*called.arguments.values(), *called.results, *changed])


def _nbytes(values: Iterable[Any]) -> int:
    return sum(a.numel() * a.element_size() for a in arrays_in(values))


def asked(launch: Launch) -> int:
    """Return the bytes that a launch's programs read and write, counting whole tiles and no cache."""
    return int(_ASKED.get(launch.kernel.__name__, _each_once)(launch))


def _numel(launch: Launch, name: str) -> int:
    return int(launch.arguments[name].numel())


def _each_once(launch: Launch) -> Any:
    """Return the bytes of a kernel's arrays: what it reads and writes if it uses every number once."""
    return _nbytes(launch.arguments.values())


def _lay(launch: Launch) -> Any:
    c, arguments = launch.constants, launch.arguments
    sources = 2 if c["RELU"] else 1
    sums = _numel(launch, "sums") if c["SUMS"] else 0
    # Only pixels of the source inside the target are read; the source may be larger.
    return 4 * (sources * min(_numel(launch, "source"), _numel(launch, "target")) + arguments["target"].numel() + sums)


def _multiply(launch: Launch) -> Any:
    c, m = launch.constants, launch.arguments["M"]
    rows, columns = -(-m // c["BLOCK_M"]), -(-c["K"] // c["BLOCK_K"])
    length = c["R"] * c["RUN"]
    windows, kernels = rows * columns * c["BLOCK_M"] * length, rows * columns * c["BLOCK_K"] * length
    return 4 * (windows + kernels + c["PARTS"] * m * c["K"] + (c["K"] * rows if c["BIAS"] else 0))


def _correlate(launch: Launch) -> Any:
    c, m = launch.constants, launch.arguments["M"]
    tiles = -(-c["K"] // c["BLOCK_K"]) * c["R"] * -(-c["RUN"] // c["BLOCK_D"])
    return 4 * (tiles * m * (c["BLOCK_K"] + c["BLOCK_D"]) + c["PARTS"] * c["K"] * c["R"] * c["RUN"])


def _add_parts(launch: Launch) -> Any:
    outputs = _numel(launch, "y")
    return 4 * (launch.arguments["COUNT"] * launch.arguments["SIZE"] + outputs * (2 if launch.constants["BIAS"] else 1))


def _lrn_forward(launch: Launch) -> Any:
    return 4 * _numel(launch, "x") * (2 * launch.constants["HALF"] + 1 + 1 + 2)  # the window, x again, y and scale


def _lrn_backward(launch: Launch) -> Any:
    return 4 * _numel(launch, "x") * (3 * (2 * launch.constants["HALF"] + 1) + 3 + 1)  # three windows, dy, scale, x; dx


def _maxpool_forward(launch: Launch) -> Any:
    return _numel(launch, "y") * (4 * launch.constants["LENGTH"] ** 2 + 4 + 1)


def _maxpool_backward(launch: Launch) -> Any:
    c = launch.constants
    windows = (-(-c["LENGTH"] // c["STRIDE"])) ** 2
    # Each pixel reads the maximum's position in all windows that may contain it, and about one dy.
    return _numel(launch, "dx") * (windows + 4) + 4 * _numel(launch, "dy")


_ASKED: Mapping[str, Callable[[Launch], Any]] = {
    "lay": _lay,
    "multiply": _multiply,
    "correlate": _correlate,
    "add_parts": _add_parts,
    "lrn_forward": _lrn_forward,
    "lrn_backward": _lrn_backward,
    "maxpool_forward": _maxpool_forward,
    "maxpool_backward": _maxpool_backward,
    "sgd_steps": lambda launch: 4 * 5 * sum(launch.constants["SIZES"]),
}


def show_measured(rows: list[OpCost], batch: int, card: str) -> None:
    """Print the measured time of each row beside its lower bound, the row with the largest difference first."""
    print(f"batch {batch}, two columns on one {card}; lower bounds are those of an {CHIP}\n")
    print(f"| {CALLS} | measured, us | bound, us | bound / measured, % | TFLOP/s | GB/s | measured - bound, us |")
    print("|---|---|---|---|---|---|---|")
    lost = [(row, took, took - row.floor) for row in rows if (took := row.measured)]
    for row, took, over in sorted(lost, key=lambda each: -each[2]):
        print(
            f"| {row.what} | {took * 1e6:.1f} | {row.floor * 1e6:.1f} | {100 * row.floor / took:.0f} | "
            f"{row.flops / took / 1e12:.1f} | {row.must / took / 1e9:.0f} | {over * 1e6:.1f} |"
        )
    took, floor = sum(took for _, took, _ in lost), sum(row.floor for row, _, _ in lost)
    share = f"{100 * floor / took:.0f} %"
    print(f"\nAll ops one after another: {took * 1e3:.2f} ms; lower bound: {floor * 1e3:.2f} ms, {share} of that.")


def show(rows: list[OpCost], batch: int) -> None:
    """Print the table in Markdown."""
    total = OpCost("sum", *(sum(getattr(row, name) for row in rows) for name in ("flops", "must", "asked", "launches")))
    print(f"batch {batch}, two columns on one {CHIP}: {RATE / 1e12:g} TFLOP/s in tf32, {BANDWIDTH / 1e12:g} TB/s\n")
    print(
        f"| {CALLS} | GFLOP | minimum traffic, MB | arithmetic, us | memory, us | limited by | "
        "requested by kernels, MB | launches |"
    )
    print("|---|---|---|---|---|---|---|---|")
    for row in (*rows, total):
        bound = "-" if row is total else "arithmetic" if row.computing > row.moving else "memory"
        print(
            f"| {row.what} | {row.flops / 1e9:.1f} | {row.must / 1e6:.1f} | {row.computing * 1e6:.1f} | "
            f"{row.moving * 1e6:.1f} | {bound} | {row.asked / 1e6:.1f} | {row.launches} |"
        )
    floor = sum(row.floor for row in rows)
    print(f"\nLower bound of a step, op by op: {floor * 1e3:.2f} ms, {batch / floor:,.0f} images/s.")


def card() -> str:
    """Return the name of this machine's GPU."""
    import torch  # noqa: PLC0415 - needed only for the name

    return torch.cuda.get_device_name(0)


def main(arguments: list[str] | None = None) -> int:
    """Print the lower bound of a step, or with ``--measure`` the measured times; return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m refnet_triton.floor", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--batch", type=int, default=128, help="images per step (default: 128)")
    parser.add_argument(
        "--measure",
        action="store_true",
        help="time each op on this machine's GPU and print the times beside the lower bounds",
    )
    parser.add_argument("--json", action="store_true", help="print one JSON array of rows")
    options = parser.parse_args(arguments)
    if options.batch < 1:
        parser.error(f"--batch {options.batch} must be at least 1")
    plan = NetSpec("paper").plan()
    rows = step_rows(plan, options.batch)
    if options.measure:
        backend = TritonBackend(2, ("cuda:0",), precision="tf32")
        found = measure(plan, options.batch, backend, naming(plan))
        rows = [replace(row, measured=found[row.what]) for row in rows]
    if options.json:
        print(json.dumps([row.as_dict() for row in rows]))
    elif options.measure:
        show_measured(rows, options.batch, card())
    else:
        show(rows, options.batch)
    return 0


if __name__ == "__main__":
    end("floor", main)
