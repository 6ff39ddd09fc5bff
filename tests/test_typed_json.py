"""Dataclasses as JSON: they are read as they were written, and wrong types are rejected."""

from dataclasses import dataclass, replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from refnet.runs.state import Rate, State, Validated
from refnet.terminal.printable import printable
from refnet.typed_json import check, decode, encode, read_object

FLOATS = st.floats(allow_nan=False, allow_infinity=False)
COUNTS = st.integers(0, 2**62)
VALIDATED = st.builds(Validated, epoch=COUNTS, step=COUNTS, loss=FLOATS, top1_error=FLOATS, top5_error=FLOATS)
STATES = st.builds(
    State,
    rate=st.builds(Rate, lr=FLOATS, best=FLOATS | st.none(), waited=COUNTS, drops=COUNTS, finished=st.booleans()),
    step=COUNTS,
    total=FLOATS,
    latest=VALIDATED | st.none(),
    best=VALIDATED | st.none(),
)


@dataclass(frozen=True)
class Example:
    name: str
    pair: tuple[int, float]
    many: tuple[str, ...]
    free: dict
    flag: bool | None


EXAMPLE = Example("x", (1, 2.0), ("a", "b"), {"k": [None]}, None)


@given(STATES)
def test_every_state_comes_back_to_the_bit(state):
    assert decode(State, encode(state)) == state


def test_an_example_comes_back():
    assert decode(Example, encode(EXAMPLE)) == EXAMPLE


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('{"name": 1, "pair": [1, 2], "many": [], "free": {}, "flag": null}', "Example.name is int, not str"),
        ('{"name": "", "pair": [1.5, 2], "many": [], "free": {}, "flag": null}', "Example.pair[0] is float, not int"),
        ('{"name": "", "pair": [true, 2], "many": [], "free": {}, "flag": null}', "Example.pair[0] is bool, not int"),
        ('{"name": "", "pair": [1], "many": [], "free": {}, "flag": null}', "Example.pair has 1 items, not 2"),
        ('{"name": "", "pair": {}, "many": [], "free": {}, "flag": null}', "Example.pair is dict, not tuple"),
        ('{"name": "", "pair": [1, 2], "many": "ab", "free": {}, "flag": null}', "Example.many is str, not tuple"),
        ('{"name": "", "pair": [1, 2], "many": [], "free": [], "flag": null}', "Example.free is list, not dict"),
        ('{"name": "", "pair": [1, 2], "many": [], "free": {}, "flag": 0}', "Example.flag is int, not bool"),
        ('{"name": "", "pair": [1, 2], "many": [], "free": {}}', "Example.flag is missing"),
        ('{"name": "", "pair": [1, 2], "many": [], "free": {}, "flag": null, "x": 1}', "Example.x is unknown"),
        ('{"name": "", "pair": [1, NaN], "many": [], "free": {}, "flag": null}', "it contains NaN"),
        ("[" * 100_000, "it is nested too deeply"),
        ("7", "Example is int"),
        ("", "Expecting value"),
    ],
)
def test_what_is_not_of_its_type_is_refused(text, expected):
    with pytest.raises(ValueError) as caught:  # noqa: PT011 - the text is compared below
        decode(Example, text)
    assert expected in str(caught.value)


def test_a_missing_field_is_named():
    with pytest.raises(ValueError, match=r"Example\.many is missing"):
        decode(Example, '{"name": "", "pair": [1, 2], "free": {}, "flag": null}')
    with pytest.raises(ValueError, match="Example is list"):
        decode(Example, "[]")


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_nan_is_not_written(value):
    with pytest.raises(ValueError, match="JSON"):
        encode(replace(EXAMPLE, pair=(1, value)))


@dataclass(frozen=True)
class Named:
    by_name: dict[str, tuple[int, ...]]


def test_a_dict_with_a_type_for_its_values():
    assert decode(Named, '{"by_name": {"a": [1], "b": []}}').by_name == {"a": (1,), "b": ()}
    with pytest.raises(ValueError, match=r"Named\.by_name\.b\[0\] is str, not int"):
        decode(Named, '{"by_name": {"a": [1], "b": ["1"]}}')


def test_unknown_fields_may_be_passed_over():
    text = '{"by_name": {}, "more": 1}'
    assert decode(Named, text, ignore_unknown=True) == check(Named, {"by_name": {}}) == Named({})
    with pytest.raises(ValueError, match=r"Named\.more is unknown"):
        decode(Named, text)
    with pytest.raises(ValueError, match=r"Named\.by_name is missing"):
        decode(Named, '{"more": 1}', ignore_unknown=True)


@pytest.mark.parametrize(("text", "expected"), [('{"a": 1}', {"a": 1}), ("[]", None), ("{", None), ("[" * 99999, None)])
def test_a_file_with_one_object(tmp_path, text, expected):
    path = tmp_path / "file.json"
    assert read_object(path) is None
    path.write_text(text)
    assert read_object(path) == expected


@given(st.text())
def test_printable_is_printable_and_leaves_the_harmless_alone(text):
    shown = printable(text)
    assert shown.isprintable()
    assert shown == text or not text.isprintable()
