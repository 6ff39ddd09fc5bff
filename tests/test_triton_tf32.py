"""Products in tf32, which Triton's interpreter here truncates as tensor cores do: they ignore 13 bits of each factor.

Collected only where ``TRITON_INTERPRET`` is set, by ``nox -s tests-triton``.
"""

import numpy as np
import pytest
import triton
import triton.language as tl
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from refnet_triton import TritonBackend, _configs, _devices, _layout
from triton.runtime.interpreter import InterpreterBuilder

from refnet.testing import agreement
from refnet.testing.bounds import DisagreementError
from refnet.testing.cases import CASES

OPS = ("conv2d", "conv2d_relu", "linear", "linear_relu")
products = pytest.mark.parametrize("case", [case for case in CASES if case.op in OPS], ids=str)


def truncated(a):
    """Return what a tensor core reads of float32 numbers."""
    return (a.view(np.uint32) & np.uint32(0xFFFFE000)).view(np.float32)


def test_truncated():
    numbers = np.array([1, 1 + 2.0**-10, 1 + 2.0**-11, -1 - 2.0**-11, np.inf], np.float32)
    np.testing.assert_array_equal(truncated(numbers), np.float32([1, 1 + 2.0**-10, 1, -1, np.inf]))


@pytest.fixture(scope="module")
def tensor_cores():
    """Return a Triton backend in tf32 whose products read 19 bits of their factors, with the interpreter's blocks."""
    dot = InterpreterBuilder.create_dot

    def tensor_core(self, a, b, d, input_precision, most):
        assert str(input_precision).endswith("TF32"), input_precision
        return dot(self, handle(a), handle(b), d, input_precision, most)

    def handle(operand):
        return type(operand)(truncated(operand.data), operand.dtype)

    table = _configs.TABLES[_configs.INTERPRETER]
    configs = {
        **table.configs,
        **{f"{kernel}/tf32": table.configs[f"{kernel}/ieee"] for kernel in ("multiply", "correlate")},
    }
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(InterpreterBuilder, "create_dot", tensor_core)
        patch.setattr(_devices, "precision", lambda *_: "tf32")
        patch.setitem(_configs._overrides, _configs.INTERPRETER, _configs.Table(table.programs, configs))
        yield TritonBackend(2, ("cpu",))


@products
@given(data=st.data())
def test_errors_are_within_the_bound(tensor_cores, case, data):
    """T1, for convolutions that of rounded factors, for fully connected layers that of truncated ones."""
    agreement.agree(tensor_cores, case, data.draw(case.calls("normal", "one_signed", "special")))


@pytest.mark.parametrize("case", [case for case in CASES if case.op == "conv2d"], ids=str)
def test_truncated_convolutions_leave_the_bound(tensor_cores, case, monkeypatch):
    """Products of one-signed numbers with few terms, where truncation moves every factor in the same direction."""
    monkeypatch.setattr(_layout, "rounded", triton.jit(unchanged))

    @settings(phases=[Phase.generate])
    @given(data=st.data())
    def agrees(data):
        agreement.agree(tensor_cores, case, data.draw(case.calls("one_signed")))

    with pytest.raises(DisagreementError, match="times the bound"):
        agrees()


def unchanged(numbers):
    """Return the numbers."""
    return numbers.to(tl.float32)
