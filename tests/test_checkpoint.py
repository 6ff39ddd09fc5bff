"""Parameters in a file: they come back as they were, a file is whole or refused, and the old one outlives a failure."""

import errno
import json
import os
import struct

import numpy as np
import pytest

from refnet import checkpoint
from refnet.errors import CheckpointError

METADATA = {"net": "digits", "columns": "2", "step": "7"}


def arrays(seed):
    rng = np.random.default_rng(seed)
    return {
        "conv1@0.w": rng.normal(size=(4, 1, 3, 2)).astype(np.float32),
        "conv1@0.b": np.array([0, -0.0, np.nan, np.inf], np.float32),
        "fc2@1.w": rng.normal(size=(5, 6)).astype(np.float32).T,  # not contiguous
        "fc2@1.b": np.zeros(0, np.float32),
    }


@pytest.fixture
def path(tmp_path):
    return tmp_path / "dir with ünï" / "parameters.safetensors"


@pytest.fixture
def written(path):
    path.parent.mkdir()
    checkpoint.write(path, arrays(1), arrays(2), METADATA)
    return path


def raw(header, data):
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + data


def refused(path):
    with pytest.raises(CheckpointError) as caught:
        checkpoint.read(path)
    message = str(caught.value)
    assert message.isprintable()
    assert str(path) in message
    return message


def same_bits(a, b):
    return list(a) == list(b) and all(
        a[name].dtype == b[name].dtype and a[name].shape == b[name].shape and a[name].tobytes() == b[name].tobytes()
        for name in a
    )


# Round trip


def test_everything_comes_back_bit_for_bit(written):
    params, velocities, metadata = checkpoint.read(written)
    assert same_bits(dict(sorted(params.items())), dict(sorted(arrays(1).items())))
    assert same_bits(dict(sorted(velocities.items())), dict(sorted(arrays(2).items())))
    assert metadata == METADATA


def test_nothing_lies_beside_the_file(written):
    assert [file.name for file in written.parent.iterdir()] == [written.name]


def test_the_file_is_as_readable_as_any_other_new_file(written):
    other = written.parent / "other"
    other.touch()
    assert written.stat().st_mode == other.stat().st_mode


def test_writing_again_replaces(written):
    checkpoint.write(written, arrays(3), {}, {})
    params, velocities, metadata = checkpoint.read(written)
    assert same_bits(dict(sorted(params.items())), dict(sorted(arrays(3).items())))
    assert (velocities, metadata) == ({}, {})


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
def test_a_failure_leaves_the_old_file_and_nothing_else(written, monkeypatch, call, error):
    def fail(*_, **__):
        raise error

    with monkeypatch.context() as patch:
        patch.setattr(os, call, fail)
        patch.setattr(f"pathlib.Path.{call}", fail, raising=False)
        with pytest.raises((CheckpointError, KeyboardInterrupt)) as caught:
            checkpoint.write(written, arrays(3), arrays(4), METADATA)
    if isinstance(error, OSError):
        assert str(written) in str(caught.value)
        assert "No space left on device; free some space or choose another --run-dir" in str(caught.value)
    assert same_bits(dict(sorted(checkpoint.read(written)[0].items())), dict(sorted(arrays(1).items())))
    assert [file.name for file in written.parent.iterdir()] == [written.name]


def test_a_folder_that_does_not_exist(path):
    with pytest.raises(CheckpointError, match="cannot be written: No such file or directory"):
        checkpoint.write(path, arrays(1), arrays(2), METADATA)
    assert not path.parent.exists()


def test_a_file_in_the_folders_place(path):
    path.parent.touch()
    with pytest.raises(CheckpointError, match="cannot be written: Not a directory"):
        checkpoint.write(path, arrays(1), arrays(2), METADATA)


def test_a_folder_in_the_files_place(path):
    path.mkdir(parents=True)
    with pytest.raises(CheckpointError, match="cannot be written: Is a directory"):
        checkpoint.write(path, arrays(1), arrays(2), METADATA)
    assert [file.name for file in path.parent.iterdir()] == [path.name]


# What cannot be read


def test_no_file(path):
    assert "does not exist; give the path of a .safetensors file" in refused(path)


def test_a_folder(tmp_path):
    refused(tmp_path)


def test_a_file_cut_short_anywhere_is_refused(written):
    content = written.read_bytes()
    header = 8 + struct.unpack("<Q", content[:8])[0]
    for length in [*range(0, header + 9, 7), *range(header, len(content), 50), len(content) - 1]:
        written.write_bytes(content[:length])
        assert "is not a whole safetensors file" in refused(written)


def test_bytes_after_the_end_are_refused(written):
    written.write_bytes(written.read_bytes() + b"\0")
    refused(written)


def test_a_damaged_header_is_refused_or_harmless(written):
    """A changed byte in the name of a parameter or a value of the metadata makes another valid file."""
    content = written.read_bytes()
    header = 8 + struct.unpack("<Q", content[:8])[0]
    rng = np.random.default_rng(0)
    refusals = 0
    for _ in range(300):
        damaged = bytearray(content)
        damaged[rng.integers(header)] ^= int(rng.integers(1, 256))
        written.write_bytes(damaged)
        try:
            checkpoint.read(written)
        except CheckpointError as error:
            assert str(written) in str(error)  # noqa: PT017 - both ends are allowed
            refusals += 1
    assert refusals > 200


@pytest.mark.parametrize(("dtype", "nbytes"), [("BF16", 2), ("F8_E4M3", 1)])
def test_numbers_that_numpy_does_not_have_are_refused(written, dtype, nbytes):
    header = {"param/x.w": {"dtype": dtype, "shape": [3], "data_offsets": [0, 3 * nbytes]}}
    written.write_bytes(raw(header, bytes(3 * nbytes)))
    refused(written)
