"""A case: all that the suite knows of one function of one op."""

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
    """What is drawn for a function, how close its results must be, and what must not pass for it.

    Parameters
    ----------
    geometry
        Strategy of ``(sizes, options)``.
    make
        ``make(sizes, options, values)``: the positional arguments by name, arrays in float32.
    results
        Names of what is returned, then of the arguments that are changed (those are listed in `changes` too).
    exact
        "always": bit-equal whatever the values. "integers": equal where sums are exact. "never": see `allowed`.
    allowed
        ``allowed(given, options, expected, precision)``: the errors allowed in each result, from float64 arguments and
        float64 results. None where results are always exact.
    roomy
        Sizes and options of a call with enough elements for the comparison with NumPy's float32 (T2).
    zeros
        Share of zeros above which a drawn case would not count.
    special
        Whether NaN and infinities are drawn too.
    mutants
        Wrong implementations, by what is wrong with them, which the agreement tests must reject.
    listed
        How many arrays there are in each of its arguments, where those are lists; `make` gives them one by one.
    differentiable
        For a backward function, ``differentiable(sizes, options, rng)``: the op at inputs where finite differences can
        measure its gradients.
    refusals
        Arguments, with shapes in place of arrays, that the shape rule must refuse, by what the message says.
    """

    op: str
    function: str
    geometry: st.SearchStrategy[Geometry]
    make: Callable[[Sizes, Options, Values], Given]
    results: tuple[str, ...]
    exact: Literal["always", "integers", "never"]
    mutants: Mapping[str, Callable[..., Any]]
    allowed: Allowed | None = None
    roomy: Geometry | None = None
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
        """The op's definition."""
        return chapter(self.op)

    @property
    def kinds(self) -> tuple[str, ...]:
        """The kinds of values that this function is drawn with."""
        return KINDS if self.special else KINDS[:-1]

    @property
    def arrays(self) -> list[str]:
        """Names of the arguments that are arrays, or lists of them: what is positional, but for counts of draws."""
        parameters = inspect.signature(getattr(self.chapter, self.function)).parameters.values()
        return [p.name for p in parameters if p.kind is not p.KEYWORD_ONLY and p.annotation is not int]

    def calls(self, *kinds: str) -> st.SearchStrategy[Call]:
        """Draw calls with values of the given kinds (all, if none is named)."""

        def call(geometry: Geometry, kind: str, layout: str, seed: int) -> Call:
            return Call(self.op, self.function, *geometry, kind=kind, layout=layout, seed=seed)

        kind, layout = st.sampled_from(kinds or self.kinds), st.sampled_from(LAYOUTS)
        return st.builds(call, self.geometry, kind, layout, st.integers(0, 2**32 - 1))

    def arguments(self, given: Given) -> list[Any]:
        """Give the positional arguments that what `make` gave stands for."""
        values = list(given.values())
        if not self.listed:
            return values
        return [values[first : first + self.listed] for first in range(0, len(values), self.listed)]

    def outcome(self, function: Callable[..., Any], given: Given, options: Options) -> tuple[Any, ...]:
        """Call a function: its results and the arguments it changes, in the order of `results`."""
        results = results_of(function(*self.arguments(given), **options))
        return (*results, *(given[name] for name in self.changes))
