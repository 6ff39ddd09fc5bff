"""Wrong arguments of ops: every one is refused with its name, on every backend, before a kernel runs."""

import inspect
import re
import subprocess
import sys
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from refnet import nets, ops
from refnet.backend import load
from refnet.backend.loading import verify
from refnet.backend.wrapped import CheckedArguments
from refnet.errors import ArgumentError, RefnetError, ShapeError
from refnet.network import passes
from refnet.ops import OPS, chapter
from refnet.ops._arguments import described
from refnet.testing.bounds import bit_equal
from refnet.testing.call import Values
from refnet.testing.cases import CASES

EVERY = pytest.mark.parametrize("case", CASES, ids=str)
FUNCTIONS = [(op, name) for op in OPS for name in chapter(op).INTERFACE]


def right_arguments(case, call):
    """Return the arguments of a drawn call by name, as arrays on the host."""
    given = case.make(call.sizes, call.options, Values(call.kind, (call.seed, 0)))
    names = inspect.signature(getattr(case.chapter, case.function)).parameters
    return dict(zip(names, case.arguments(given), strict=False)) | dict(call.options)


def placed(backend, value):
    """Copy an argument to a backend; what it does not take stays as it is."""
    if isinstance(value, list):
        return [placed(backend, item) for item in value]
    try:
        return backend.asarray(value) if isinstance(value, np.ndarray) else value
    except (RefnetError, TypeError):
        return value


def refuse(backend, case, arguments, *names):
    """Check that a call is refused with a message of one line that has the op and one of the names."""
    function = getattr(getattr(backend, case.op), case.function)
    with pytest.raises((ShapeError, ArgumentError)) as caught:
        function(**{name: placed(backend, value) for name, value in arguments.items()})
    message = str(caught.value)
    composed = {case.op, case.op.removesuffix("_relu"), "relu", "philox"}  # whose rules may have found it
    assert message.partition(":")[0] in composed, message
    assert "\n" not in message
    assert any(re.search(rf"\b{name}\b", message) for name in names), message


# Drawn wrong arguments ------------------------------------------------------------------------------------------------

NO_ARRAYS = (None, 3, "x", [1.0, 2.0], (1,), object(), np.float32(1), {}, range(3))
NO_INTEGERS = (None, "2", 1.5, [2], np.array(2), object(), True, 2**40, -(2**40), np.float32(2), -1, float("nan"), 1j)
NO_NUMBERS = (None, "x", [0.5], object(), np.array(0.5), True, float("nan"), float("inf"), -1.0, 10**400, 1j)
NO_FLAGS = (None, 1, 0.0, "yes", np.array(True), object())
NO_SEQUENCES = (None, 3, "ab", object(), {}, np.array([1, 2]), (None, None), ("a", 1), (1.5, 2), (1,) * 7)
WRONG_DTYPES = ("bool", "complex64", "O", "U1", "M8[s]")


def wrong_values(name, value):
    """Return a strategy of what cannot be given in place of an argument's value."""
    if isinstance(value, np.ndarray):
        others = "u1" if value.dtype.kind == "f" else "f4"
        dtypes = [value.astype("i8").astype(dtype) for dtype in (*WRONG_DTYPES, others)] if value.size else []
        return st.sampled_from([*NO_ARRAYS, *dtypes])
    if isinstance(value, list) and isinstance(value[0], np.ndarray):
        items = [[*value[:1], wrong] for wrong in (None, 3, object(), value[0].astype("i8"))]
        return st.sampled_from([None, 3, "x", value[0], value[:-1], *items])
    if isinstance(value, bool):
        return st.sampled_from(NO_FLAGS)
    if isinstance(value, int):
        return st.sampled_from(NO_INTEGERS)
    if isinstance(value, float):
        return st.sampled_from(NO_NUMBERS)
    numbers = [[wrong] * len(value) for wrong in NO_NUMBERS] if name == "weight_decays" else []
    return st.sampled_from([*NO_SEQUENCES, *numbers])


@EVERY
@given(data=st.data())
@settings(max_examples=10)
def test_a_wrong_argument_is_refused_by_its_name(backend, case, data):
    arguments = right_arguments(case, data.draw(case.calls("integers")))
    name = data.draw(st.sampled_from(sorted(arguments)))
    wrong = data.draw(wrong_values(name, arguments[name]))
    refuse(CheckedArguments(backend), case, arguments | {name: wrong}, name, *alike(name))


def alike(name):
    """Return other words by which a message of a rule names an argument."""
    return {
        "x_shape": ("x", "y"),
        "size": ("window", "crop"),
        "samples": ("draw",),
        "features": ("draw",),
        "w": ("v",),
        "weight_decays": ("weight_decay",),
    }.get(name, ())


@EVERY
@given(data=st.data())
@settings(max_examples=5)
def test_an_array_of_another_shape_is_refused(backend, case, data):
    """One array with an axis more, of two numbers, fits no other array and no rule of one array."""
    arguments = right_arguments(case, data.draw(case.calls("integers")))
    arrays = [name for name, value in arguments.items() if isinstance(value, np.ndarray)]
    if len(arrays) < 2 and case.op not in {"lrn", "rnorm", "maxpool", "avgpool"}:
        return
    name = data.draw(st.sampled_from(arrays))
    wrong = np.stack([arguments[name]] * 2, axis=-1)
    refuse(CheckedArguments(backend), case, arguments | {name: wrong}, *arrays, "windows", "biases")


# What is accepted ----------------------------------------------------------------------------------------------------


def other_types(value):
    """Return a number in a type of NumPy's; arrays and flags stay."""
    if isinstance(value, bool):
        return np.bool_(value)
    if isinstance(value, int):
        return np.int64(value)
    if isinstance(value, float):
        return np.float64(value)
    return tuple(map(other_types, value)) if isinstance(value, tuple) else value


def unaligned(a):
    bytes_ = np.zeros(a.nbytes + 1, np.uint8)
    view = bytes_[1:].view(a.dtype).reshape(a.shape)
    view[...] = a
    return view


def read_only(a):
    a = a.copy()
    a.flags.writeable = False
    return a


LAYOUTS = {
    "big-endian": lambda a: a.astype(a.dtype.newbyteorder(">")),
    "float16": lambda a: a.astype(np.float16) if a.dtype.kind == "f" else a,
    "read-only": read_only,
    "unaligned": unaligned,
    "Fortran": np.asfortranarray,
    "every other": lambda a: np.repeat(a, 2, axis=-1)[..., ::2] if a.ndim else a,
    "backwards": lambda a: np.flip(np.ascontiguousarray(np.flip(a))),
    "masked, without a masked element": np.ma.masked_array,
}


@EVERY
@pytest.mark.parametrize("name", ["numpy", "numba"])
@given(data=st.data())
@settings(max_examples=5)
def test_other_layouts_and_types_of_numbers_give_the_same_bits(name, case, data):
    backend = load(name)
    function = getattr(getattr(backend, case.op), case.function)
    if function.__name__.endswith("_"):
        return
    call = data.draw(case.calls("integers"))
    arguments = right_arguments(case, call)
    for key, value in arguments.items():  # float16 has all of these numbers
        if isinstance(value, np.ndarray) and value.dtype.kind == "f":
            arguments[key] = value.astype(np.float16).astype(value.dtype)
    layout = LAYOUTS[data.draw(st.sampled_from(sorted(LAYOUTS)))]
    other = {k: layout(v) if isinstance(v, np.ndarray) else other_types(v) for k, v in arguments.items()}
    expected, result = function(**arguments), function(**other)
    for right, ours in zip(np_tuple(expected), np_tuple(result), strict=True):
        if right is not None:
            bit_equal(ours, right, f"{case} of {layout}")


def np_tuple(result):
    return result if isinstance(result, tuple) else (result,)


def test_fractions_are_numbers():
    x = np.ones((2, 3), np.float32)
    assert ops.dropout.expected(x, drop=Fraction(1, 2)).tolist() == [[0.5] * 3] * 2


@pytest.mark.parametrize("name", ["numpy", "numba"])
def test_half_precision_becomes_float32(name):
    x = load(name).asarray(np.ones(3, np.float16))
    assert (x.dtype, x.tolist()) == (np.float32, [1, 1, 1])


# Arrays that are changed in place ------------------------------------------------------------------------------------

RATES = {"lr": 0.1, "momentum": 0.9, "weight_decay": 0.0}


def parameter(**changes):
    a = np.ones((4, 6), np.float32)
    return {"w": a.copy(), "v": a.copy(), "g": a.copy(), **changes}


@pytest.mark.parametrize("name", ["numpy", "numba"])
class TestInPlace:
    @pytest.mark.parametrize("changed", ["w", "v"])
    @pytest.mark.parametrize("layout", ["big-endian", "float16", "read-only"])
    def test_what_cannot_be_written_is_refused(self, name, changed, layout):
        wrong = parameter()
        wrong[changed] = LAYOUTS[layout](wrong[changed])
        before = wrong[changed].copy()
        with pytest.raises(ArgumentError, match=f"sgd: {changed} is changed in place"):
            load(name).sgd.step_(**wrong, **RATES)
        assert wrong[changed].tolist() == before.tolist()

    @pytest.mark.parametrize("layout", sorted(LAYOUTS))
    def test_the_gradient_may_be_anything(self, name, layout):
        right, other = parameter(), parameter()
        other["g"] = LAYOUTS[layout](other["g"])
        for arguments in (right, other):
            load(name).sgd.step_(**arguments, **RATES)
        assert other["w"].tolist() == right["w"].tolist() != np.ones((4, 6)).tolist()

    def test_one_array_twice(self, name):
        w, v = np.ones((2, 3), np.float32)
        with pytest.raises(ArgumentError, match="sgd: w and v are one array; both are changed"):
            load(name).sgd.step_(w, w, v, **RATES)
        rates = {"lr": 0.1, "momentum": 0.9, "weight_decays": [0.0, 0.0]}
        with pytest.raises(ArgumentError, match=r"sgd: w\[0\] and w\[1\] are one array"):
            load(name).sgd.steps_([w, w], [v, v.copy()], [v, v], **rates)


def test_numba_writes_to_contiguous_arrays_alone():
    wrong = parameter(w=np.ones((4, 12), np.float32)[:, ::2])
    with pytest.raises(ArgumentError, match="sgd: w is changed in place, so it must be contiguous, not a view"):
        load("numba").sgd.step_(**wrong, **RATES)
    load("numpy").sgd.step_(**wrong, **RATES)
    assert (wrong["w"] != 1).all()


# Particular mistakes -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["numpy", "numba"])
class TestMistakes:
    @pytest.mark.parametrize("label", [-1, 10, 10**6, 2**62])
    def test_a_label_that_is_no_class(self, name, label):
        for function in (load(name).softmax_xent.forward, load(name).softmax_xent.backward):
            with pytest.raises(ArgumentError, match=rf"softmax_xent: labels\[1\] is {label}, it must be at least 0"):
                function(np.ones((3, 10), np.float32), np.array([0, label, 2]))

    def test_two_dtypes(self, name):
        x, w, b = np.ones((2, 3), np.float32), np.ones((4, 3), np.float32), np.zeros(4)
        with pytest.raises(ShapeError, match=r"linear: (x is float32 and b is float64|b is float64, and)"):
            load(name).linear.forward(x, w, b)

    @pytest.mark.parametrize("position", [4, 200])
    def test_a_position_outside_its_window(self, name, position):
        """It would be written to another pixel, or beyond the array."""
        which = np.full((1, 1, 2, 2), position, np.uint8)
        with pytest.raises(ArgumentError, match="maxpool: which has a position outside its window"):
            load(name).maxpool.backward(
                np.ones((1, 1, 2, 2), np.float32), which, x_shape=(1, 1, 4, 4), size=2, stride=2
            )

    def test_a_position_outside_the_image(self, name):
        """Under ``ceil`` the last window has fewer pixels than others."""
        which = np.zeros((1, 1, 2, 2), np.uint8)
        options = {"x_shape": (1, 1, 3, 3), "size": 2, "stride": 2, "ceil": True}
        load(name).maxpool.backward(np.ones((1, 1, 2, 2), np.float32), which, **options)
        which[0, 0, 0, 1] = 1  # its column is the fourth of three
        with pytest.raises(ArgumentError, match="outside the image"):
            load(name).maxpool.backward(np.ones((1, 1, 2, 2), np.float32), which, **options)

    def test_a_mask(self, name):
        masked = np.ma.masked_less(np.arange(6, dtype=np.float32).reshape(2, 3), 2)
        with pytest.raises(ArgumentError, match=r"relu: x has masked elements; give them a value with .filled"):
            load(name).relu.forward(masked)

    def test_arguments_that_are_missing_or_unknown_are_a_type_error(self, name):
        x = np.ones((2, 3), np.float32)
        with pytest.raises(TypeError, match="'drop'"):
            load(name).dropout.expected(x)
        with pytest.raises(TypeError, match="'rate'"):
            load(name).dropout.expected(x, drop=0.5, rate=0.5)


def test_what_other_libraries_make():
    torch = pytest.importorskip("torch")
    tensor = torch.ones(2, 3)
    for name in ("numpy", "numba"):
        with pytest.raises(ArgumentError, match=r"relu: x must be a NumPy array, it is of type torch.Tensor"):
            load(name).relu.forward(tensor)
        assert load(name).relu.forward(np.asarray(tensor)).tolist() == [[1.0] * 3] * 2


SEGMENTATION_FAULT = """
import numpy as np
from refnet.backend import load
try:
    load("numba", checked={checked}).softmax_xent.forward(np.ones((4000, 10), np.float32), np.array([0, 1]))
except Exception as error:
    print(type(error).__name__, error)
"""


def test_too_few_labels_no_longer_end_the_process():
    code = SEGMENTATION_FAULT.format(checked=True)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout.split()[0]) == (0, "ShapeError"), done.stderr


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "None"),
        (1.5, "1.5"),
        ("a\nb", r"'a\nb'"),
        ([1], "of type list"),
        (np.ones(2), "of type numpy.ndarray"),
    ],
)
def test_a_wrong_value_in_a_message(value, text):
    assert described(value) == text


# Where checks are, and where not -------------------------------------------------------------------------------------


@pytest.mark.parametrize(("op", "name"), FUNCTIONS)
def test_every_function_of_every_chapter_checks(op, name):
    function = getattr(chapter(op), name)
    assert inspect.unwrap(function) is not function
    names = list(inspect.signature(function).parameters)
    with pytest.raises(ArgumentError, match=names[0]):
        function(**dict.fromkeys(names))


def test_changed_arguments_are_those_of_the_cases():
    for case in CASES:
        changed = {re.sub(r"\d+$", "", name) for name in case.changes}
        assert changed == (set(case.chapter.CHANGES) if case.function.endswith("_") else set())


def test_load_checks_unless_asked_otherwise():
    wrong = np.ones((2, 3), np.float32), np.array([0, 3])
    for name in ("numpy", "numba"):
        assert isinstance(load(name), CheckedArguments)
        assert verify(load(name)) == []
        assert not isinstance(load(name, checked=False), CheckedArguments)
    with pytest.raises(IndexError):
        load("numpy", checked=False).softmax_xent.forward(*wrong)


def test_a_network_may_run_on_a_checked_backend():
    plan = nets.get("digits").plan(1)
    rng = np.random.default_rng(0)
    host = {name: rng.normal(size=shape).astype(np.float32) for name, shape in plan.param_shapes().items()}
    images = rng.normal(size=(2, *plan.input_shape)).astype(np.float32)
    outputs = []
    for checked in (True, False):
        backend = load("numba", checked=checked)
        params = passes.place_params(plan, host, backend)
        outputs.append(passes.forward(plan, params, passes.place(plan, images, backend), backend).output)
    assert outputs[0].tobytes() == outputs[1].tobytes()
