"""Compare backends with the NumPy reference: each op on drawn calls, each layer of a network on its own activations.

The cases of :mod:`refnet.testing` (extra ``refnet[testing]``) define what is compared and within which bounds. An error
is divided by the bound for its arguments, so 1 is the limit for every op. An op that only selects or copies must give
the same bits.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from inspect import Parameter, signature
from math import inf, isfinite
from typing import Any, cast

import numpy as np

from refnet.backend.capabilities import precision_of
from refnet.backend.interface import Backend
from refnet.backend.wrapped import Tapped
from refnet.nets import NetSpec
from refnet.network import passes
from refnet.network.initial import initialise
from refnet.network.plan import Plan
from refnet.network.walk import RANDOM_KEY, SGD_OPTIONS, images_of, labels_of, walk
from refnet.terminal.progress import Show
from refnet.testing import agreement
from refnet.testing.agreement import Problem
from refnet.testing.bounds import DisagreementError
from refnet.testing.call import Call
from refnet.testing.cases import CASES, Case, case_of
from refnet.testing.strategies import drawn

# The allowed difference of a whole network's scores, relative to the largest score, for each precision. In tf32 each of
# the paper's eight layers with weights can change its outputs by 2^-9, the bound of products of truncated factors.
MAX_SCORE_ERROR = {"ieee": 1e-4, "tf32x3": 1e-4, "tf32": 8 * 2.0**-9}


@dataclass(frozen=True)
class Comparison:
    """The largest errors of the backends against the NumPy reference in one function.

    Attributes
    ----------
    part
        "op" for drawn calls, "layer" for the calls of a network.
    name
        The op, or the node of the network's plan.
    worst
        For each backend, the largest error over its bound; infinite if no bound applies and the numbers differ.
    breaches
        For each backend that exceeds a bound, the message about its worst error.
    columns
        The number of columns of the network; None for an op on drawn calls.
    """

    part: str
    name: str
    function: str
    worst: Mapping[str, float]
    breaches: Mapping[str, str]
    columns: int | None = None

    def as_dict(self) -> dict[str, Any]:
        """Return the row as a dict for JSON, with None for infinity, which JSON does not have."""
        record = asdict(self)
        record["worst"] = {name: worst if isfinite(worst) else None for name, worst in self.worst.items()}
        return record


@dataclass(frozen=True)
class Recorded(Problem):
    """A call that a layer of a network made."""

    layer: str = ""

    def where(self, backend: Any, result: str = "") -> str:
        """Return what was computed, for a message."""
        return f"{result or 'result'} of {self.case} in {self.layer} on backend {backend.name}"


def compare_ops(backends: Mapping[str, Backend], examples: int, show: Show) -> list[Comparison]:
    """Compare every function of every chapter on `examples` drawn calls, and on the large call if its case has one.

    Backends are given by the label under which their errors are returned.
    """
    rows = []
    with show.task("ops", len(CASES)) as advance:
        for done, case in enumerate(CASES):
            advance(done, remark=str(case))
            problems = [agreement.pose(case, call) for call in _calls(case, examples)]
            rows.append(_row("op", case.op, case.function, problems, backends))
    return rows


def compare_layers(spec: NetSpec, batch: int, backends: Mapping[str, Backend], show: Show) -> list[Comparison]:
    """Compare every layer on the activations that the first backend computes; then the loss, the update, the scores.

    Each layer runs with dropout on and with dropout off. Each function that it calls is compared once.
    """
    plan, source = spec.plan(), next(iter(backends.values()))
    rows: list[Comparison] = []
    with show.task("layers", len(plan.nodes) + 3) as advance:
        for done, visit in enumerate(walk(plan, source, batch)):
            advance(done, remark=visit.node.name)
            tapped = Tapped(source)
            for draw in (RANDOM_KEY, None):
                _, backprop = visit.run(cast("Backend", tapped), draw)()
                backprop(source.asarray(visit.dy, visit.node.column))
            for call in {(call.op, call.function): call for call in tapped.calls}.values():
                arguments = {name: _on_host(source, value) for name, value in call.arguments.items()}
                problem = _recorded(visit.node.name, case_of(call.op, call.function), arguments)
                rows.append(_row("layer", visit.node.name, str(problem.case), [problem], backends, plan.columns))
        for extra in (_loss(plan, batch), _updates(plan)):
            advance(len(rows))
            for layer, problems in extra:
                rows.append(_row("layer", layer, str(problems[0].case), problems, backends, plan.columns))
        rows.append(_scores(plan, batch, backends))
    return rows


def _row(
    part: str,
    name: str,
    function: str,
    problems: Sequence[Problem],
    backends: Mapping[str, Backend],
    columns: int | None = None,
) -> Comparison:
    worst = dict.fromkeys(backends, 0.0)
    breaches = {}
    for problem in problems:
        for label, backend in backends.items():
            try:
                ratio = max(agreement.check_results(backend, problem, agreement.run(backend, problem)).values())
            except AssertionError as error:
                ratio = error.ratio if isinstance(error, DisagreementError) else inf
                if ratio > worst[label]:
                    breaches[label] = str(error)
            worst[label] = max(worst[label], ratio)
    return Comparison(part, name, function, worst, breaches, columns)


def _calls(case: Case, examples: int) -> list[Call]:
    """Draw equally many calls with each kind of values, including NaN and infinity, and add the large calls."""
    per_kind = -(-examples // len(case.kinds))
    calls = [call for kind in case.kinds for call in drawn(case.calls(kind), per_kind)]
    if case.large:
        calls += [Call(case.op, case.function, *case.large, kind=kind) for kind in ("normal", "one_signed")]
    return calls


def _on_host(backend: Backend, value: Any) -> Any:
    return np.array(backend.to_numpy(value)) if hasattr(value, "dtype") else value


def _recorded(layer: str, case: Case, arguments: Mapping[str, Any]) -> Recorded:
    """Return a call that a layer made, with the reference's results. Keyword-only arguments are its options."""
    parameters = signature(getattr(case.chapter, case.function)).parameters
    options = {name: a for name, a in arguments.items() if parameters[name].kind is Parameter.KEYWORD_ONLY}
    given = {name: a for name, a in arguments.items() if name not in options}
    call = Call(case.op, case.function, {}, options)
    return Recorded(case, call, given, agreement.reference(case, call, given, np.float64), layer)


def _loss(plan: Plan, batch: int) -> Iterator[tuple[str, list[Problem]]]:
    z = np.random.default_rng(3).standard_normal((batch, plan.nodes[-1].shape[0]), np.float32)
    labels = labels_of(plan, batch)
    forward, backward = case_of("softmax_xent", "forward"), case_of("softmax_xent", "backward")
    _, p = forward.chapter.forward(z, labels)
    yield "loss", [_recorded("loss", forward, {"z": z, "labels": labels})]
    yield "loss", [_recorded("loss", backward, {"p": p, "labels": labels})]


def _updates(plan: Plan) -> Iterator[tuple[str, list[Problem]]]:
    rng = np.random.default_rng(4)
    for name, shape in plan.param_shapes().items():
        arrays = {letter: rng.standard_normal(shape, np.float32) for letter in "wvg"}
        yield f"update of {name}", [_recorded(name, case_of("sgd", "step_"), arrays | SGD_OPTIONS | {"lr": 0.01})]


def _scores(plan: Plan, batch: int, backends: Mapping[str, Backend]) -> Comparison:
    """Compare the scores of a whole training pass with those of the first backend."""
    host, images = initialise(plan, seed=0), images_of(plan, batch)
    scores = {}
    for label, backend in backends.items():
        params = passes.place_params(plan, host, backend)
        tape = passes.forward(
            plan, params, passes.place(plan, images, backend), backend, random_key=RANDOM_KEY, record=False
        )
        scores[label] = np.array(backend.to_numpy(tape.output))
    first, expected = next(iter(scores.items()))
    worst = {}
    for label, backend in backends.items():
        allowed = MAX_SCORE_ERROR[precision_of(backend)] * np.abs(expected).max()
        worst[label] = float(np.abs(scores[label] - expected).max() / allowed)
    breaches = {
        label: f"scores of backend {label} differ from those of {first} by {ratio:.3g} times the bound"
        for label, ratio in worst.items()
        if not ratio <= 1
    }
    return Comparison("layer", "whole network", "scores", worst, breaches, plan.columns)
