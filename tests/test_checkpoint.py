"""Checkpoint files: they are read as they were written, and any damaged file is rejected by name."""

import errno
import hashlib
import json
import os
import pickle
import resource
import struct
import time
from dataclasses import asdict, replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import load_file, save_file

from refnet.errors import CheckpointError
from refnet.nets import NetSpec
from refnet.runs import checkpoint
from refnet.runs.checkpoint import expected_shapes


@pytest.fixture(scope="module")
def whole(checkpoint_of):
    return checkpoint_of(step=7, best=5)


@pytest.fixture(scope="module")
def content(whole, tmp_path_factory):
    path = tmp_path_factory.mktemp("whole") / "x.safetensors"
    checkpoint.write(path, whole)
    return path.read_bytes()


@pytest.fixture
def path(tmp_path):
    folder = tmp_path / "dir with ünï"
    folder.mkdir()
    return folder / "step.safetensors"


@pytest.fixture
def written(path, content):
    path.write_bytes(content)
    return path


def header_of(content):
    length = struct.unpack("<Q", content[:8])[0]
    return json.loads(content[8 : 8 + length]), content[8 + length :]


def raw(header, data):
    """Write any header and any numbers, with the header's own digest right."""
    if "sha256" in (header.get("__metadata__") or {}):
        header["__metadata__"] = {**header["__metadata__"], "sha256": "0" * 64}
    text = json.dumps(header, separators=(",", ":")).encode()
    digest = hashlib.sha256(text).hexdigest()
    text = text.replace(b'"sha256":"' + b"0" * 64, b'"sha256":"' + digest.encode(), 1)
    return struct.pack("<Q", len(text)) + text + data


def refused(path):
    with pytest.raises(CheckpointError) as caught:
        checkpoint.read(path)
    message = str(caught.value)
    assert message.isprintable()
    assert str(path) in message
    return message


def same_bits(a, b):
    ours, theirs = a.tensors(), b.tensors()
    return list(ours) == list(theirs) and all(
        ours[name].dtype == theirs[name].dtype
        and ours[name].shape == theirs[name].shape
        and ours[name].tobytes() == theirs[name].tobytes()
        for name in ours
    )


# Round trip


def test_everything_comes_back_bit_for_bit(written, whole):
    found = checkpoint.read(written)
    assert same_bits(found, whole)
    assert asdict_json(found.facts) == asdict_json(whole.facts)
    assert checkpoint.read_facts(written) == found.facts
    assert found.facts.state == whole.facts.state


def asdict_json(facts):
    return json.loads(json.dumps(asdict(facts)))


def test_the_comparison_sees_one_bit(whole):
    other = {**whole.params, "conv1@0.b": np.nextafter(whole.params["conv1@0.b"], np.float32(9))}
    assert not same_bits(whole, replace(whole, params=other))


def test_special_numbers_and_layouts_survive(path, whole):
    w = whole.params["fc5@0.w"]
    transposed = np.asfortranarray(w)
    special = np.full_like(whole.params["conv1@0.b"], -0.0)
    special[:3] = np.nan, np.inf, np.float32(1e-45)
    changed = replace(whole, params={**whole.params, "fc5@0.w": transposed, "conv1@0.b": special})
    checkpoint.write(path, changed)
    assert same_bits(checkpoint.read(path), changed)


def test_any_reader_of_safetensors_reads_it(written, whole):
    found = load_file(written)
    assert found.keys() == whole.tensors().keys()
    assert all(np.array_equal(found[name], a) for name, a in whole.tensors().items())


def test_nothing_lies_beside_the_file(path, whole):
    checkpoint.write(path, whole)
    assert [file.name for file in path.parent.iterdir()] == [path.name]


def test_the_file_is_as_readable_as_any_other_new_file(path, whole):
    checkpoint.write(path, whole)
    other = path.parent / "other"
    other.touch()
    assert path.stat().st_mode == other.stat().st_mode


def test_writing_again_replaces(written, checkpoint_of):
    other = checkpoint_of(seed=3)
    checkpoint.write(written, other)
    assert same_bits(checkpoint.read(written), other)


# Failure to write


@pytest.mark.parametrize("call", ["fsync", "replace"])
@pytest.mark.parametrize(
    "error",
    [
        OSError(errno.ENOSPC, "No space left on device"),
        KeyboardInterrupt(),
    ],
    ids=["full", "ctrl-c"],
)
def test_a_failure_leaves_the_old_file_and_nothing_else(written, monkeypatch, checkpoint_of, whole, call, error):
    def fail(*_, **__):
        raise error

    with monkeypatch.context() as patch:
        patch.setattr(os, call, fail)
        patch.setattr(f"pathlib.Path.{call}", fail, raising=False)
        with pytest.raises((CheckpointError, KeyboardInterrupt)) as caught:
            checkpoint.write(written, checkpoint_of(seed=3))
    if isinstance(error, OSError):
        assert str(written) in str(caught.value)
        assert "No space left on device; free some space or choose another run_dir" in str(caught.value)
    assert same_bits(checkpoint.read(written), whole)
    assert [file.name for file in written.parent.iterdir()] == [written.name]


@pytest.mark.parametrize("share", [0, 0.01, 0.5, 0.99])
def test_a_file_that_may_not_grow_leaves_the_old_one(written, checkpoint_of, whole, content, share):
    """The system raises the error, after a given number of bytes."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (int(share * len(content)), hard))
    try:
        with pytest.raises(CheckpointError, match="cannot be written: File too large"):
            checkpoint.write(written, checkpoint_of(seed=3))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert same_bits(checkpoint.read(written), whole)
    assert [file.name for file in written.parent.iterdir()] == [written.name]


def test_a_folder_that_does_not_exist(path, whole):
    path.parent.rmdir()
    with pytest.raises(CheckpointError, match="cannot be written: No such file or directory"):
        checkpoint.write(path, whole)
    assert not path.parent.exists()


def test_a_file_in_the_folders_place(path, whole):
    path.parent.rmdir()
    path.parent.touch()
    with pytest.raises(CheckpointError, match="cannot be written: Not a directory"):
        checkpoint.write(path, whole)


def test_a_folder_in_the_files_place(path, whole):
    path.mkdir()
    with pytest.raises(CheckpointError, match="cannot be written: Is a directory"):
        checkpoint.write(path, whole)
    assert [file.name for file in path.parent.iterdir()] == [path.name]


# What cannot be read


def test_no_file(path):
    assert "does not exist; give a run's folder or a .safetensors file" in refused(path)


def test_a_pipe_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    assert "is not a regular file" in refused(tmp_path / "pipe")


def test_a_folder(tmp_path):
    refused(tmp_path)


@pytest.mark.parametrize("part", range(64))
def test_a_file_cut_at_each_sixty_fourth_is_refused(path, content, part):
    path.write_bytes(content[: len(content) * part // 64])
    assert "is not an intact safetensors file" in refused(path)


def test_a_file_cut_short_anywhere_near_its_header_is_refused(path, content):
    end = 8 + struct.unpack("<Q", content[:8])[0]
    for length in [*range(0, end + 9, 97), end - 1, end, end + 1, len(content) - 1]:
        path.write_bytes(content[:length])
        assert "is not an intact safetensors file" in refused(path)


def test_bytes_after_the_end_are_refused(path, content):
    path.write_bytes(content + b"\0")
    refused(path)


def test_every_flipped_bit_of_the_header_is_seen(path, content):
    end = 8 + struct.unpack("<Q", content[:8])[0]
    rng = np.random.default_rng(0)
    places = {int(place) for place in rng.integers(end, size=250)} | set(range(8)) | {end - 1}
    for place in sorted(places):
        damaged = bytearray(content)
        damaged[place] ^= 1 << int(rng.integers(8))
        path.write_bytes(damaged)
        refused(path)
        with pytest.raises(CheckpointError):
            checkpoint.read_facts(path)


def test_a_flipped_bit_in_the_numbers_names_their_tensor(path, content):
    header, data = header_of(content)
    header.pop("__metadata__")
    start = len(content) - len(data)
    rng = np.random.default_rng(0)
    for name, entry in header.items():
        damaged = bytearray(content)
        damaged[start + int(rng.integers(*entry["data_offsets"]))] ^= 1 << int(rng.integers(8))
        path.write_bytes(damaged)
        assert f"the numbers of {name} are damaged" in refused(path)
        assert checkpoint.read_facts(path).state.step == 7  # the header alone is whole


@pytest.mark.parametrize("length", [0, 1, 7, 10**6, 10**9, 2**63, 2**64 - 1])
def test_a_header_length_that_lies(path, content, length):
    path.write_bytes(struct.pack("<Q", length) + content[8:])
    refused(path)


@pytest.mark.parametrize(
    "offsets", [(0, 0), (0, 10**12), (-4, 4), (4, 0), (64, 192), (0, 2**64), (1, 129), ("0", "128"), (0,), None]
)
def test_offsets_that_lie(path, content, offsets):
    header, data = header_of(content)
    header["param/conv1@0.b"] = {**header["param/conv1@0.b"], "data_offsets": offsets}
    path.write_bytes(raw(header, data))
    refused(path)


@pytest.mark.parametrize("shape", [[10**9, 10**9], [2**62, 4], [-1, 16], [16.0], "16", [[16]], None])
def test_shapes_that_lie(path, content, shape):
    header, data = header_of(content)
    header["param/conv1@0.b"] = {**header["param/conv1@0.b"], "shape": shape}
    path.write_bytes(raw(header, data))
    refused(path)


# Tensors that do not fit


def resaved(path, written, change):
    """Write the file again with another tool, after a change to its tensors."""
    header, _ = header_of(written.read_bytes())
    arrays = load_file(written)
    change(arrays)
    save_file(arrays, path, header["__metadata__"])
    header, data = header_of(path.read_bytes())
    path.write_bytes(raw(header, data))


def test_a_file_written_again_by_another_tool_is_the_same(written, whole):
    resaved(written, written, lambda _: None)
    assert same_bits(checkpoint.read(written), whole)


@pytest.mark.parametrize("name", ["param/conv2@1.w", "velocity/fc6@0.b", "data/mean"])
def test_a_tensor_that_is_missing(written, whole, name):
    resaved(written, written, lambda arrays: arrays.pop(name))
    shape = expected_shapes(whole.facts)[name]
    assert f"{name}: it is missing, net digits in 2 columns needs F32 {shape}" in refused(written)


def test_a_tensor_that_is_extra(written):
    resaved(written, written, lambda arrays: arrays.update({"param/\x1b[31m": np.zeros(3, np.float32)}))
    assert "param/\\x1b[31m: it is F32 (3,), net digits in 2 columns needs no such tensor" in refused(written)


def test_a_tensor_of_another_shape(written):
    resaved(written, written, lambda arrays: arrays.update({"param/conv1@0.w": arrays["param/conv1@0.w"][:, :, :2]}))
    assert "param/conv1@0.w: it is F32 (16, 1, 2, 3), net digits in 2 columns needs F32 (16, 1, 3, 3)" in refused(
        written
    )


@pytest.mark.parametrize(
    ("dtype", "code"), [("float64", "F64"), ("float16", "F16"), ("int32", "I32"), ("bool", "BOOL")]
)
def test_a_tensor_of_another_dtype(written, dtype, code):
    resaved(
        written,
        written,
        lambda arrays: arrays.update({"param/fc6@0.b": arrays["param/fc6@0.b"].astype(np.dtype(dtype))}),
    )
    assert f"param/fc6@0.b: it is {code} (10,), net digits in 2 columns needs F32 (10,)" in refused(written)


@pytest.mark.parametrize(("dtype", "nbytes"), [("BF16", 2), ("F8_E4M3", 1)])
def test_numbers_that_numpy_does_not_have_are_refused(path, dtype, nbytes):
    header = {"param/x.w": {"dtype": dtype, "shape": [3], "data_offsets": [0, 3 * nbytes]}}
    path.write_bytes(raw(header, bytes(3 * nbytes)))
    refused(path)


@pytest.mark.parametrize("shape", [(10, 10), (10**6, 10**6, 10**6), (0, 0, 0), (-1, 1, 1)])
def test_a_mean_of_another_shape_than_the_images(path, whole, shape):
    """Numbers that are never allocated."""
    facts = replace(whole.facts, data=replace(whole.facts.data, image_shape=shape))
    checkpoint.write(path, replace(whole, facts=facts))
    message = refused(path)
    assert "data/mean" in message or "image_shape" in message


# Facts that do not hold


@pytest.mark.parametrize(
    ("facts", "expected"),
    [
        ({"spec": NetSpec("vgg")}, "net vgg is not known"),
        ({"spec": NetSpec("\x1b]0;gone\x07")}, "is not known"),
        ({"spec": NetSpec("digits", columns=10**12)}, "cannot be in 1000000000000 columns"),
        ({"spec": NetSpec("digits", columns=0)}, "cannot be in 0 columns"),
        ({"spec": NetSpec("digits", "xavier")}, "has no initialisation xavier"),
        ({"classes": 7}, "Facts.classes is int"),
        ({"classes": ("a", 1)}, "Facts.classes[1] is int, not str"),
        ({"spec": NetSpec("digits", columns=True)}, "Facts.spec.columns is bool, not int"),
        ({"spec": NetSpec(None)}, "Facts.spec.name is NoneType, not str"),
    ],
    ids=str,
)
def test_facts_that_make_no_sense(path, whole, facts, expected):
    checkpoint.write(path, replace(whole, facts=replace(whole.facts, **facts)))
    assert expected in refused(path)


@pytest.mark.parametrize("text", ["", "[]", "{}", "null", "[" * 100_000, '{"net": NaN}', "9" * 10_000, "{", "\ud800"])
def test_facts_that_are_no_facts(path, content, text):
    header, data = header_of(content)
    header["__metadata__"]["facts"] = text
    path.write_bytes(raw(header, data))
    refused(path)


def test_another_format_is_not_read(path, content):
    header, data = header_of(content)
    header["__metadata__"]["format"] = "refnet checkpoint 3"
    path.write_bytes(raw(header, data))
    assert "its format is refnet checkpoint 3, not refnet checkpoint 2" in refused(path)
    save_file({"x": np.zeros(3)}, path)
    assert "its format is None" in refused(path)
    path.write_bytes(raw({"__metadata__": None}, b""))
    assert "its format is None" in refused(path)


# The format of refnet 0.1


def earlier(content, **changes):
    """The file as refnet 0.1 wrote it: the network is named by three fields and two keys of the configuration."""
    header, data = header_of(content)
    facts = json.loads(header["__metadata__"]["facts"])
    spec = facts.pop("spec")
    facts |= {"net": spec["name"], "init": spec["init"], "columns": spec["columns"]} | changes
    facts = {name: value for name, value in facts.items() if value != "left out"}
    header["__metadata__"] |= {"format": "refnet checkpoint 1", "facts": json.dumps(facts)}
    return raw(header, data)


def test_the_earlier_format_is_read(path, content, whole):
    path.write_bytes(earlier(content))
    assert same_bits(checkpoint.read(path), whole)
    assert asdict_json(checkpoint.read_facts(path)) == asdict_json(whole.facts)
    path.write_bytes(earlier(content, words="left out"))  # as the first files
    assert checkpoint.read_facts(path).words == ()
    path.write_bytes(earlier(content, config={"variant": ["tanh", "no-lrn"], "exchange": "none"}))
    assert checkpoint.read_facts(path).spec == NetSpec("digits", None, ("tanh", "no-lrn"), 2, "none")


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"net": "vgg"}, "net vgg is not known"),
        ({"net": "left out"}, "Facts.spec.name is NoneType, not str"),
        ({"net": None}, "Facts.spec.name is NoneType, not str"),
        ({"columns": "left out"}, "Facts.spec.columns is NoneType, not int"),
        ({"columns": 10**12}, "cannot be in 1000000000000 columns"),
        ({"init": "xavier"}, "has no initialisation xavier"),
        ({"config": {"variant": "tanh"}}, "Facts.spec.variant is str, not tuple"),
        ({"config": {"variant": ["tang"]}}, "has no variant tang"),
        ({"config": 7}, "Facts.config is int, not dict"),
    ],
    ids=str,
)
def test_facts_of_the_earlier_format_that_make_no_sense(path, content, changes, expected):
    path.write_bytes(earlier(content, **changes))
    assert expected in refused(path)


def test_a_network_that_is_not_known_here(path, whole):
    """It may be one of the user's own."""
    for name, expected in (("my-own", "register a network of your own first"), ("digits", "read it with the refnet")):
        facts = replace(whole.facts, spec=NetSpec(name, None if name == "my-own" else "xavier"))
        checkpoint.write(path, replace(whole, facts=facts))
        assert expected in refused(path)
        assert ("register" in refused(path)) == (name == "my-own")


# Attacks

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=8,
)
ENTRY = st.fixed_dictionaries(
    {
        "dtype": st.sampled_from(["F32", "F64", "I8", "BF16", "?"]) | JSON,
        "shape": st.lists(st.integers(-2, 2**63), max_size=3) | JSON,
        "data_offsets": st.lists(st.integers(-2, 2**63), min_size=2, max_size=2) | JSON,
    }
)
HEADERS = (
    st.dictionaries(
        st.sampled_from(["__metadata__", "param/conv1@0.w", "data/mean"]) | st.text(), ENTRY | JSON, max_size=4
    )
    | JSON
)


@settings(max_examples=300, deadline=None)
@given(header=HEADERS, data=st.binary(max_size=64), length=st.none() | st.integers(0, 2**64 - 1))
def test_any_header_is_refused_at_once(tmp_path_factory, header, data, length):
    path = tmp_path_factory.getbasetemp() / "fuzzed.safetensors"
    text = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text) if length is None else length) + text + data)
    began = time.process_time()  # a busy machine is not what would make it slow
    refused(path)
    assert time.process_time() - began < 1


@settings(max_examples=200, deadline=None)
@given(data=st.data())
def test_any_change_to_the_metadata_is_refused_or_sound(tmp_path_factory, content, data):
    """The digest is made right after the change, as an attacker would."""
    path = tmp_path_factory.getbasetemp() / "sealed.safetensors"
    header, numbers = header_of(data.draw(st.sampled_from([content, earlier(content)])))
    key = data.draw(st.sampled_from(["format", "facts", "tensors", "added"]))
    if key == "facts":
        facts = json.loads(header["__metadata__"]["facts"])
        field = data.draw(st.sampled_from(sorted(facts)))
        facts[field] = data.draw(JSON)
        header["__metadata__"]["facts"] = json.dumps(facts)
    else:
        header["__metadata__"][key] = data.draw(JSON.map(json.dumps) | st.text())
    path.write_bytes(raw(header, numbers))
    try:
        found = checkpoint.read(path)
    except CheckpointError as error:
        assert str(error).isprintable()  # noqa: PT017 - both ends are allowed
    else:
        assert list(found.params) == [n.removeprefix("param/") for n in expected_shapes(found.facts) if n[0] == "p"]


class Payload:
    """Pickled, a program that makes a file when it is opened."""

    def __init__(self, victim):
        self.victim = victim

    def __reduce__(self):
        return open, (str(self.victim), "w")


@pytest.mark.parametrize("kind", ["torch", "torch-old", *range(6)])
@pytest.mark.parametrize("suffix", ["pt", "pkl", "safetensors"])
def test_a_pickle_is_never_opened(tmp_path, kind, suffix):
    path, victim = tmp_path / f"model.{suffix}", tmp_path / "victim"
    if isinstance(kind, int):
        path.write_bytes(pickle.dumps({"w": Payload(victim)}, protocol=kind))
    else:
        torch.save({"w": Payload(victim)}, path, _use_new_zipfile_serialization=kind == "torch")
    message = refused(path)
    assert kind in (0, 1) or "refnet never opens one" in message  # the oldest protocols have no mark of their own
    assert not victim.exists()


def test_the_payload_would_make_its_file(tmp_path):
    pickle.loads(pickle.dumps(Payload(tmp_path / "victim"))).close()  # noqa: S301 - it is our own
    assert (tmp_path / "victim").exists()


def test_a_sparse_file_of_a_terabyte_is_refused_at_once(path, content):
    """A header may not make refnet take memory: the file's length is checked against it first."""
    with path.open("wb") as file:
        file.write(content)
        file.truncate(1 << 40)
    refused(path)
