"""A backend with one function replaced by a mutant: what the suite must reject."""

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

from refnet.backend.reference import NumpyBackend
from refnet.testing.cases import Case


class Mutated(NumpyBackend):
    """The reference, but for one function."""

    def __init__(self, case: Case, mutant: Callable[..., Any]) -> None:
        super().__init__()
        self.name = f"numpy with another {case}"
        functions = {name: getattr(case.chapter, name) for name in case.chapter.INTERFACE}
        setattr(self, case.op, SimpleNamespace(**{**functions, case.function: mutant}))
