"""The class Case: everything that the conformance suite knows about one function of one op."""

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import ModuleType
from typing import Any, Literal, TypeAlias

import numpy as np
from hypothesis import strategies as st

from refnet.backend.wrapped import results_of
from refnet.ops import chapter
from refnet.testing.call import KINDS, LAYOUTS, Call, Options, Sizes, Values
from refnet.testing.gradients import Differentiable
from refnet.testing.strategies import Geometry

Given: TypeAlias = dict[str, Any]
Allowed: TypeAlias = Callable[[Given, Options, tuple[Any, ...], str], tuple[Any, ...]]


@dataclass(frozen=True, eq=False, repr=False)
class Case:
    """One function's test: how to draw its arguments, the accuracy required, and wrong versions that it must reject.

    Parameters
    ----------
    geometry
        Strategy of ``(sizes, options)``.
    make
        ``make(sizes, options, values)``: the positional arguments by name, arrays in float32.
    results
        Names of the returned arrays, then of the arguments that are changed (also listed in `changes`).
    exact
        "always": the same bits for all values. "integers": equal if all sums are exact. "never": within `allowed`.
    allowed
        ``allowed(given, options, expected, precision)``: the largest allowed error of each result, computed from the
        arguments and the results in float64. None if results are always exact.
    large
        Sizes and options of a call with enough elements to compare its errors with those of NumPy in float32.
    zeros
        Largest share of zeros in a result; a drawn case with more would test too little.
    special
        Whether arguments with NaN and infinities are drawn too.
    mutants
        Wrong implementations that the agreement tests must reject; the key says what is wrong.
    listed
        Number of arrays in each argument if arguments are lists, otherwise 0; `make` returns the arrays one by one.
    differentiable
        For a backward function, ``differentiable(sizes, options, rng)``: the op, with inputs at which finite
        differences can measure its gradients.
    refusals
        Arguments, with shapes in place of arrays, that the shape rule must refuse; the key is part of the message.
    """

    op: str
    function: str
    geometry: st.SearchStrategy[Geometry]
    make: Callable[[Sizes, Options, Values], Given]
    results: tuple[str, ...]
    exact: Literal["always", "integers", "never"]
    mutants: Mapping[str, Callable[..., Any]]
    allowed: Allowed | None = None
    large: Geometry | None = None
    zeros: float = 0.90
    special: bool = True
    changes: tuple[str, ...] = ()
    listed: int = 0
    differentiable: Callable[[Sizes, Options, np.random.Generator], Differentiable] | None = None
    refusals: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)

    def __repr__(self) -> str:
        return f"{self.op}.{self.function}"

    @property
    def chapter(self) -> ModuleType:
        """The module of the op in :mod:`refnet.ops`, which defines it."""
        return chapter(self.op)

    @property
    def kinds(self) -> tuple[str, ...]:
        """The kinds of values that this function is drawn with."""
        return KINDS if self.special else KINDS[:-1]

    @property
    def arrays(self) -> list[str]:
        """Names of the arguments that are arrays or lists of arrays: all positional ones except integers."""
        parameters = inspect.signature(getattr(self.chapter, self.function)).parameters.values()
        return [p.name for p in parameters if p.kind is not p.KEYWORD_ONLY and p.annotation is not int]

    def calls(self, *kinds: str) -> st.SearchStrategy[Call]:
        """Return a strategy that draws calls with values of the given kinds (of all kinds if none is given)."""

        def call(geometry: Geometry, kind: str, layout: str, seed: int) -> Call:
            return Call(self.op, self.function, *geometry, kind=kind, layout=layout, seed=seed)

        kind, layout = st.sampled_from(kinds or self.kinds), st.sampled_from(LAYOUTS)
        return st.builds(call, self.geometry, kind, layout, st.integers(0, 2**32 - 1))

    def arguments(self, given: Given) -> list[Any]:
        """Return the positional arguments: the arrays that `make` returned, as lists if the function takes lists."""
        values = list(given.values())
        if not self.listed:
            return values
        return [values[first : first + self.listed] for first in range(0, len(values), self.listed)]

    def outcome(self, function: Callable[..., Any], given: Given, options: Options) -> tuple[Any, ...]:
        """Call a function; return its results and the arguments that it changes, in the order of `results`."""
        results = results_of(function(*self.arguments(given), **options))
        return (*results, *(given[name] for name in self.changes))
