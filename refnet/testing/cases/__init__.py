"""The test cases of the conformance suite, one module per operation."""

from importlib import import_module

from refnet.ops import OPS
from refnet.testing.cases._case import Case

CASES: tuple[Case, ...] = tuple(case for op in OPS for case in import_module(f"refnet.testing.cases.{op}").CASES)


def case_of(op: str, function: str) -> Case:
    """Return the case of a function."""
    return next(case for case in CASES if (case.op, case.function) == (op, function))


__all__ = ["CASES", "Case", "case_of"]
