"""A backend that the suite must reject: the reference with one function replaced by a mutant."""

from collections.abc import Callable
from typing import Any

from refnet.backend.reference import NumpyBackend
from refnet.backend.wrapped import Wrapped
from refnet.testing.cases import Case


class Mutated(Wrapped):
    """The reference with one function replaced."""

    def __init__(self, case: Case, mutant: Callable[..., Any]) -> None:
        super().__init__(NumpyBackend())
        self.name = f"{self.inner.name} with a mutant of {case}"
        setattr(getattr(self, case.op), case.function, mutant)
