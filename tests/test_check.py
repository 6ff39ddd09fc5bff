"""refnet.check accepts correct functions and rejects wrong ones; every printed line repeats its failure."""

import re
import subprocess
import sys

import numba
import numpy as np
import pytest
import torch

import refnet
from refnet import ops
from refnet.backend.loading import load
from refnet.errors import ConfigError
from refnet.testing.cases import CASES
from refnet.testing.check import KINDS, kinds
from refnet.testing.check_report import Row

EXAMPLES = 3
each_case = pytest.mark.parametrize("case", CASES, ids=str)


def name_of(case):
    return f"{case.op}_{case.function}"


def reference(case):
    return getattr(case.chapter, case.function)


# What is right


@each_case
def test_accepts_the_reference(case):
    report = refnet.check(**{name_of(case): reference(case)}, examples=EXAMPLES).require()
    assert report.passed
    assert report
    assert [row.kind for row in report.rows] == list(kinds(name_of(case)))
    assert all(row.calls for row in report.rows)


@each_case
def test_accepts_numba(case):
    function = getattr(getattr(load("numba"), case.op), case.function)
    refnet.check(**{name_of(case): function}, examples=EXAMPLES).require()


@each_case
def test_accepts_float64(case):
    report = refnet.check(**{name_of(case): reference(case)}, dtype="float64", examples=2).require()
    assert "accuracy" not in [row.kind for row in report.rows]


@each_case
def test_accepts_torch_tensors(case):
    """The reference behind PyTorch's tensors, which share the memory of NumPy arrays."""

    def on_tensors(*args, **options):
        result = reference(case)(*(numpy_of(a) for a in args), **options)
        return tuple(map(tensor_of, result)) if isinstance(result, tuple) else tensor_of(result)

    refnet.check(
        **{name_of(case): on_tensors}, to_array=torch.from_numpy, to_numpy=lambda t: t.numpy(), examples=2
    ).require()


def numpy_of(value):
    if isinstance(value, list):
        return [one.numpy() for one in value]
    return value.numpy() if isinstance(value, torch.Tensor) else value


def tensor_of(value):
    return None if value is None else torch.from_numpy(np.asarray(value))


def test_accepts_a_function_of_pytorch():
    report = refnet.check(
        relu_forward=torch.relu, to_array=torch.from_numpy, to_numpy=lambda t: t.numpy(), examples=EXAMPLES
    )
    assert {row.kind for row in report.rows if row.failed} <= {"special"}


def test_accepts_a_jitted_function_that_allocates():
    @numba.njit
    def relu(x):
        y = np.empty(x.shape, x.dtype)
        for i in np.ndindex(x.shape):
            y[i] = x[i] if x[i] > 0 or np.isnan(x[i]) else 0
        return y

    refnet.check(relu_forward=relu, examples=EXAMPLES).require()


# What is wrong


MUTANTS = [pytest.param(case, m, id=f"{case}: {label}") for case in CASES for label, m in case.mutants.items()]


@pytest.mark.parametrize(("case", "mutant"), MUTANTS)
def test_rejects_every_mutant_with_a_line_that_repeats_it(case, mutant):
    values = [kind for kind in ("integers", "normal", "special") if kind in kinds(name_of(case))]
    report = refnet.check(**{name_of(case): mutant}, kinds=values, examples=14)
    assert not report
    for failure in report.failures:
        with pytest.raises(AssertionError) as caught:
            paste(failure.line, mutant, name_of(case))
        assert failure.sentence in str(caught.value)
        assert failure.line in str(caught.value)


def paste(line, function, keyword, **others):
    """Execute a line as a user would paste it, where the function has its own name or that of its keyword."""
    assert "\n" not in line
    exec(line, {getattr(function, "__name__", keyword): function, keyword: function, **others})  # noqa: S102


def test_a_right_function_passes_the_pasted_line():
    failure = refnet.check(lrn_forward=wrong_lrn, examples=EXAMPLES).failures[1]
    paste(re.sub(r"from \S+ import wrong_lrn", "pass", failure.line), ops.lrn.forward, "wrong_lrn")


def wrong_lrn(x, *, n, k, alpha, beta):
    return ops.lrn.forward(x, n=n, k=k, alpha=2 * alpha, beta=beta)


def narrowed(value, dtype):
    return value.astype(dtype) if getattr(value, "dtype", np.dtype(int)).kind == "f" else value


@pytest.mark.parametrize("case", [case for case in CASES if case.exact == "never"], ids=str)
def test_float64_must_be_computed_in_float64(case):
    def rounded(*args, **options):
        narrow = [[a.astype("f4") for a in arg] if isinstance(arg, list) else narrowed(arg, "f4") for arg in args]
        result = reference(case)(*narrow, **options)
        for name, arg in zip(case.arrays, narrow, strict=True):
            if any(changed[0] == name for changed in case.changes):
                for wide, a in zip(args[case.arrays.index(name)], arg, strict=True):
                    wide[...] = a
        wide = [narrowed(a, "f8") for a in (result if isinstance(result, tuple) else [result])]
        return None if result is None else tuple(wide)

    report = refnet.check(**{name_of(case): rounded}, dtype="float64", examples=EXAMPLES, kinds="normal")
    assert not report


def clean(x):
    return np.maximum(x, 0, where=~(x <= 0), out=np.zeros_like(x))


def changes_its_argument(x):
    y = clean(x)
    x[...] = 7
    return y


def returns_its_argument(x):
    x *= x > 0
    return x


def returns_a_view(x):
    x[...] = clean(x)
    return x[:]


def raises(_x):
    raise ZeroDivisionError("an error of my own")


def forgets_an_element(x):
    y = np.empty_like(x)
    y.flat[1:] = clean(x).flat[1:]
    return y


def makes_infinity(x):
    y = clean(x)
    y[x > 0] = np.inf
    return y


calls = iter(range(10**6))


def never_twice(x):
    return clean(x) + np.float32(next(calls) % 2)


def reads_beside(x):
    if x.base is not None and x.base.ndim == 1 and x.base.size > x.size:
        x.base[0] = 1
    return clean(x)


@pytest.mark.parametrize(
    ("function", "kind", "sentence"),
    [
        (raises, "normal", r"it raises ZeroDivisionError: an error of my own \(test_check.py, line \d+\)"),
        (lambda _x: None, "normal", "it returns 0 results|y is None"),
        (lambda x: (clean(x), x), "normal", "it returns 2 results, it must return 1 result: y"),
        (lambda x: clean(x).tolist(), "normal", "y is of type list, not an array.*give to_array and to_numpy"),
        (lambda x: clean(x)[None], "normal", "y has shape .*, it must have "),
        (lambda x: clean(x).astype(float), "normal", "y has dtype float64, it must have float32"),
        (changes_its_argument, "normal", "it changes its argument x"),
        (returns_its_argument, "one_signed", "it changes its argument x|shares memory with its argument x"),
        (lambda x: x if (x > 0).all() else x[:], "one_signed", "shares memory with its argument x"),
        (forgets_an_element, "normal", "NaN or infinity from finite numbers: y.* is nan, .*never writes"),
        (makes_infinity, "normal", "NaN or infinity from finite numbers: y.* is inf, it must be "),
        (lambda x: clean(x) + np.float32(1), "integers", r"the bits differ: y\[.*\] is .*, it must be .*wrong"),
        (lambda x: clean(np.nan_to_num(x)), "special", r"the bits differ: y\[.*\] is 0, it must be nan"),
        (lambda x: clean(np.ascontiguousarray(x.reshape(-1)) if x.flags.c_contiguous else 2 * x).reshape(x.shape),
         "views", "the bits differ"),
        (reads_beside, "inside", "it writes beside its arrays"),
        (never_twice, "repeated", "the bits differ|the same call gives other bits the second time"),
    ],
)  # fmt: skip
def test_says_in_a_sentence_what_is_wrong(function, kind, sentence):
    report = refnet.check(relu_forward=function, kinds=kind, examples=6)
    (failure,) = report.failures
    assert report.rows[0].failed
    assert re.search(sentence, failure.sentence), failure.sentence
    assert "\n" not in failure.sentence


def test_a_function_that_mutates():
    def returns_too(w, v, g, **rates):
        ops.sgd.step_(w, v, g, **rates)
        return w

    def changes_g(w, v, g, **rates):
        ops.sgd.step_(w, v, g, **rates)
        g[...] = 0

    assert "it returns 1 result, it must return None" in str(refnet.check(sgd_step_=returns_too, kinds="normal"))
    assert "it changes its argument g" in str(refnet.check(sgd_step_=changes_g, kinds="normal"))
    assert "w[" in str(refnet.check(sgd_step_=lambda *_, **__: None, kinds="normal"))


def test_the_functions_own_exception_is_the_cause():
    report = refnet.check(relu_forward=raises, kinds="normal", examples=2)
    with pytest.raises(AssertionError, match="it raises ZeroDivisionError") as caught:
        report.require()
    assert isinstance(caught.value.__cause__, ZeroDivisionError)
    names = [entry.name for entry in pytest.ExceptionInfo.from_exception(caught.value.__cause__).traceback]
    assert names == ["raises"]


def test_a_view_may_be_refused_in_clear_words():
    def strict(x):
        if not x.flags.c_contiguous:
            raise ValueError("x must be contiguous")
        return clean(x)

    report = refnet.check(relu_forward=strict, kinds="views", examples=6).require()
    assert "rejects" in str(report)

    def vague(x):
        if not x.flags.c_contiguous:
            raise ValueError("no")
        return clean(x)

    assert not refnet.check(relu_forward=vague, kinds="views", examples=6)


# A part of what the reference can do


def floor_only(x, *, size, stride):
    return ops.maxpool.forward(x, size=size, stride=stride)


def test_a_missing_parameter_is_named():
    report = refnet.check(maxpool_forward=floor_only)
    (failure,) = report.failures
    assert (
        failure.sentence == "it takes no keyword argument ceil; add it, or check one value alone: only={'ceil': False}"
    )
    with pytest.raises(AssertionError, match="takes no keyword argument ceil"):
        paste(failure.line, floor_only, "floor_only")


def test_defaults_are_those_of_the_reference():
    def rounds_up(x, *, size, stride, ceil=True):
        return ops.maxpool.forward(x, size=size, stride=stride, ceil=ceil)

    (failure,) = refnet.check(maxpool_forward=rounds_up).failures
    assert failure.sentence == "its default of ceil is True, it must be False"


def test_a_scalar_has_no_index():
    def summed(z, labels):
        loss, p = ops.softmax_xent.forward(z, labels)
        return loss * np.float32(len(labels)), p

    assert ": loss is " in refnet.check(softmax_xent_forward=summed, kinds="accuracy").failures[0].sentence


def test_a_supported_part_is_checked_and_the_rest_counted():
    report = refnet.check(maxpool_forward=floor_only, only={"ceil": False, "size": lambda size: size <= 3}, examples=8)
    report.require()
    assert "left out" in str(report)
    assert sum(row.left_out for row in report.rows) > 0
    assert all(row.calls == 8 for row in report.rows[1:])


def test_a_function_may_call_an_op_in_a_new_program(tmp_path):
    """The first call of an op uses parts of NumPy that are not imported yet, while numpy.empty is replaced."""
    code = """
import refnet
from refnet.ops import maxpool
def half_of_it(x, *, size, stride):
    return maxpool.forward(x, size=size, stride=stride)
print(refnet.check(maxpool_forward=half_of_it, only={"ceil": False}, kinds="integers", examples=1).require())
"""
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, cwd=tmp_path)


def test_a_failure_of_a_part_is_repeated_on_that_part():
    def wrong(x, *, size, stride):
        y, which = floor_only(x, size=size, stride=stride)
        return y + np.float32(1), which

    failure = refnet.check(maxpool_forward=wrong, only={"ceil": False}, examples=4).failures[0]
    with pytest.raises(AssertionError, match="the bits differ"):
        paste(failure.line, wrong, "maxpool_forward")


def test_only_applies_to_lengths():
    def one_image(x):
        assert x.ndim == 4
        assert len(x) == 1
        return clean(x)

    report = refnet.check(relu_forward=one_image, only={"N": 1, "W": lambda _: True}, examples=3).require()
    assert all(row.calls for row in report.rows)


@pytest.mark.parametrize(
    ("function", "complaint"),
    [
        (lambda _x, y: y, "missing a required argument: 'y'"),
        (lambda: None, "too many positional arguments"),
    ],
)
def test_a_function_that_cannot_be_called(function, complaint):
    (failure,) = refnet.check(relu_forward=function).failures
    assert failure.sentence == f"it cannot be called with the arguments of the reference, (x): {complaint}"


# The report


def test_the_report_is_a_table():
    report = refnet.check(lrn_forward=ops.lrn.forward, lrn_backward=wrong_backward, examples=4)
    text = str(report)
    assert repr(report) == text
    assert "lrn_forward" in text
    assert KINDS["special"] in text
    assert text.splitlines()[-1].startswith("8 of 18 checks failed. 5 more are in `failures`")
    assert text.count("Repeat with: ") == 3
    html = report._repr_html_()
    assert html.count("<tr>") == 19
    assert "NumPy&#x27;s" in html
    assert "lrn_backward=wrong_backward" in html


def wrong_backward(dy, x, y, scale, *, n, k, alpha, beta):
    return ops.lrn.backward(dy, x, y, scale, n=n, k=k, alpha=alpha / 2, beta=beta)


def test_the_same_cases_each_time_and_others_with_a_seed():
    def calls_of(seed):
        failures = refnet.check(lrn_backward=wrong_backward, examples=3, seed=seed).failures
        return [failure.line for failure in failures]

    assert calls_of(None) == calls_of(None)
    assert calls_of(1) == calls_of(1) != calls_of(2)


def test_the_same_cases_in_every_program(tmp_path):
    """Hypothesis would draw constants such as 1234567 from the program's own module, and write them to a folder."""
    constants = ", ".join(str(number) for number in range(1, 9 * 10**6, 4321))
    program = (
        "import refnet, refnet.testing.strategies as s, refnet.testing.cases as c\n"
        "print(s.drawn(c.case_of('philox', 'bits').calls(), 80))"
    )
    (tmp_path / "own.py").write_text(f"CONSTANTS = [{constants}]")
    outputs = [
        subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=tmp_path).stdout
        for code in (program, f"import own\n{program}")
    ]
    assert outputs[0] == outputs[1]
    assert [path.name for path in tmp_path.iterdir() if path.name != "__pycache__"] == ["own.py"]


def test_a_failure_holds_its_arrays():
    failure = refnet.check(lrn_backward=wrong_backward, examples=2, kinds="normal").failures[0]
    result = wrong_backward(*failure.problem.given.values(), **failure.problem.call.options)
    assert not np.allclose(result, failure.problem.expected[0])


def test_converters_are_in_the_line():
    failure = refnet.check(
        relu_forward=torch.abs, to_array=torch.from_numpy, to_numpy=lambda t: t.numpy(), examples=3
    ).failures[0]
    assert "to_array=" in failure.line
    others = {"to_array": torch.from_numpy, "from_numpy": torch.from_numpy, "to_numpy": lambda t: t.numpy()}
    with pytest.raises(AssertionError):
        paste(failure.line, torch.abs, "relu_forward", **others)


@pytest.mark.parametrize("kind", kinds("lrn_forward"))
def test_one_test_for_each_kind(kind):
    refnet.check(lrn_forward=ops.lrn.forward, kinds=kind, examples=3).require()


# Mistakes of the caller


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({}, "check needs a function"),
        ({"lrn_foward": clean}, "there is no function lrn_foward; did you mean lrn_forward?"),
        ({"zzz": clean}, "there is no function zzz; there are augment_forward"),
        ({"relu_forward": 3}, "relu_forward must be a function, it is 3"),
        ({"relu_forward": clean, "kinds": "norml"}, "kinds: there is no kind of check norml; did you mean normal?"),
        ({"philox_bits": ops.philox.bits, "kinds": "special"}, "kinds: none of special applies to philox_bits"),
        ({"relu_forward": clean, "only": {"strid": 1}}, "no keyword argument or length strid"),
        ({"maxpool_forward": ops.maxpool.forward, "only": {"strid": 1}}, "did you mean stride?"),
        (
            {"maxpool_forward": ops.maxpool.forward, "only": {"stride": 77}, "examples": 1},
            "only: it excludes all .* calls drawn",
        ),
        ({"relu_forward": clean, "dtype": "float16"}, "dtype must be one of float32, float64, it is 'float16'"),
        ({"relu_forward": clean, "precision": "bf16"}, "precision must be one of ieee, tf32, tf32x3"),
        ({"relu_forward": clean, "examples": 0}, "examples must be a whole number of at least 1, it is 0"),
        ({"relu_forward": clean, "examples": "x"}, "examples must be a whole number of at least 1, it is 'x'"),
        ({"relu_forward": clean, "seed": 1.5}, "seed must be a whole number of at least 0, or None, it is 1.5"),
        ({"relu_forward": clean, "only": 3}, "only must be a dict of what is supported, it is 3"),
        ({"relu_forward": clean, "case": 3}, "case must be the dict that the line of a failure gives, it is 3"),
        ({"relu_forward": clean, "kinds": 3}, "kinds must be the name of a kind of check, or a list of names, it is 3"),
        ({"relu_forward": clean, "kinds": [3]}, "kinds: there is no kind of check 3; there are"),
        ({"relu_forward": clean, "to_array": np.asarray}, "to_array is given without to_numpy"),
        ({"relu_forward": clean, "to_numpy": np.asarray}, "to_numpy is given without to_array"),
        (
            {"relu_forward": clean, "to_array": np.float64, "to_numpy": np.asarray},
            r"must equal a, but an array of float32, \(2, 3\) became one of float64",
        ),
        (
            {"relu_forward": clean, "to_array": np.asarray, "to_numpy": raises},
            r"to_numpy\(to_array\(a\)\) raised ZeroDivisionError",
        ),
        ({"relu_forward": clean, "case": {"sizes": {}}}, "case must be the dict that the line of a failure gives"),
        ({"relu_forward": clean, "tanh_forward": np.tanh, "case": {}}, "case is a call of one function"),
    ],
)
def test_mistakes_are_explained(arguments, message):
    with pytest.raises(ConfigError, match=message):
        refnet.check(**arguments)


def test_hypothesis_may_be_missing():
    code = (
        "import sys; sys.modules['hypothesis'] = None; import refnet\n"
        "try: refnet.check(relu_forward=abs)\n"
        "except refnet.errors.ConfigError as error: print(error)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "check needs the package hypothesis, which is not installed; pip install 'refnet[testing]'\n"


def test_check_is_imported_only_when_used():
    code = "import sys, refnet; assert not {'numpy', 'hypothesis'} & set(sys.modules); assert callable(refnet.check)"
    subprocess.run([sys.executable, "-c", code], check=True)
    with pytest.raises(AttributeError):
        refnet.no_such_name  # noqa: B018


def test_precision_widens_bounds():
    def rounded(x, w, b):
        return ops.linear.forward(cut(x), cut(w), b)

    def cut(a):
        return ((a.view(np.int32) + 0x1000) & ~0x1FFF).view(np.float32)

    assert not refnet.check(linear_forward=rounded, kinds="normal", examples=6)
    refnet.check(linear_forward=rounded, kinds="normal", examples=6, precision="tf32").require()


def test_errors_near_the_limit_have_more_digits():
    assert [Row("f", "normal", 1, 0, 0, worst).cells[-1] for worst in (0, 0.0312, 0.3, 0.987, 1.234, 31234.0)] == [
        "exact",
        "0.03",
        "0.3",
        "0.987",
        "1.23",
        "3e+04",
    ]
