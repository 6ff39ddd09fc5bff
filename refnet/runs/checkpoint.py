"""A checkpoint: one safetensors file with everything that is needed to continue training or to use the network.

Tensors, all float32: ``param/conv1@0.w`` and ``velocity/conv1@0.w`` for every parameter, and ``data/mean``, the mean
image (H,W,C) that is subtracted from what the network reads. Metadata: ``format``; ``facts``, a
`~refnet.runs.state.Facts` as JSON; ``tensors``, the SHA-256 of each tensor's bytes; ``sha256``, that of the header
itself with these 64 letters as zeros. So the facts can be trusted after reading only the header, and every flipped bit
is detected.

A pickle is never opened, whatever its name. The safetensors library checks the header; the tensors are read here,
because the library would copy them once more and cannot hash while it reads.
"""

import hashlib
import json
import os
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import safetensors

from refnet import files
from refnet.errors import CheckpointError, ConfigError
from refnet.nets import NETS, NetSpec
from refnet.network.plan import Plan
from refnet.runs.state import Facts
from refnet.terminal.printable import printable
from refnet.terminal.spelling import setting
from refnet.typed_json import check, decode, encode

HostArray = npt.NDArray[np.float32]
HostArrays = dict[str, HostArray]

FORMAT = "refnet checkpoint 2"
EARLIER_FORMAT = "refnet checkpoint 1"  # of refnet 0.1; it is still read
MEAN = "data/mean"
COLUMNS = (1, 2)
READER_THREADS = 2  # one reads while the other hashes
CHUNK_BYTES = 1 << 24  # read and then hashed, few enough to stay in the processor's cache
_UNSEALED = "0" * 64
_PICKLES = (b"PK", *(b"\x80" + bytes([protocol]) for protocol in range(2, 6)))  # a zip archive, or a bare pickle


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint in memory, checked to be intact and to fit its network.

    Attributes
    ----------
    params, velocities
        float32, by the names in ``plan.param_shapes()``.
    mean
        The mean image: float32 (H,W,C).
    """

    facts: Facts
    params: HostArrays
    velocities: HostArrays
    mean: HostArray

    def tensors(self) -> HostArrays:
        """Return every array by its name in the file."""
        named = {f"param/{name}": a for name, a in self.params.items()}
        named |= {f"velocity/{name}": a for name, a in self.velocities.items()}
        return named | {MEAN: self.mean}


def plan_of(spec: NetSpec) -> Plan:
    """Return the plan of a network that a file names. Raises ``ConfigError`` for one that is not known here."""
    if spec.columns not in COLUMNS:
        raise ConfigError(f"net {spec.name} cannot be in {spec.columns} columns")
    return spec.plan(fused=False)


def spec_in(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return the fields of the `NetSpec` that a configuration describes; the values are not checked."""
    variant, exchange = config.get("variant") or [], config.get("exchange") or "fp32"
    fields = {"name": config.get("net"), "init": config.get("init"), "columns": config.get("columns")}
    return {**fields, "variant": variant, "exchange": exchange, "outputs": None}


def remedy(spec: NetSpec) -> str:
    """Return what to do about a network that is not known here."""
    if spec.name in NETS:
        return "read it with the refnet that wrote it"
    return (
        "register a network of your own first (refnet.nets.register, or an entry point of the group refnet.nets), "
        "or read it with the refnet that wrote it"
    )


def expected_shapes(facts: Facts) -> dict[str, tuple[int, ...]]:
    """Return the shape of every tensor that the file must hold. Raises ``ConfigError`` as `plan_of` does."""
    params = plan_of(facts.spec).param_shapes()
    shapes = {f"{kind}/{name}": shape for kind in ("param", "velocity") for name, shape in params.items()}
    return shapes | {MEAN: facts.data.image_shape}


def write(path: Path, checkpoint: Checkpoint) -> None:
    """Write a checkpoint to the disk, atomically: until it is complete there, `path` is unchanged.

    Raises
    ------
    CheckpointError
        The disk is full or cannot be written to.
    """
    tensors = {name: np.ascontiguousarray(a, np.float32) for name, a in checkpoint.tensors().items()}
    header = _header(tensors, checkpoint.facts)
    try:
        with files.replacing(path) as file:
            file.write(header)
            for a in tensors.values():
                file.write(_bytes(a))
    except OSError as error:
        raise CheckpointError(
            f"{path} cannot be written: {error.strerror}; free some space or choose another {setting('run_dir')}"
        ) from error


def read_facts(path: Path) -> Facts:
    """Read the facts of a checkpoint from its header, without the tensors.

    Raises
    ------
    CheckpointError
        The file cannot be read, is not a refnet checkpoint, or its header is damaged.
    """
    return _open(path).facts


def read(path: str | Path) -> Checkpoint:
    """Read a whole checkpoint and verify it.

    Raises
    ------
    CheckpointError
        As `read_facts`; or a tensor is missing, extra, misshapen, of another dtype, or damaged. The message names it.
    """
    path = Path(path)
    header = _open(path)
    try:
        shapes = expected_shapes(header.facts)
    except ConfigError as error:
        raise CheckpointError(f"{path}: {printable(error)}; {remedy(header.facts.spec)}") from error
    for name in sorted(shapes.keys() | header.tensors.keys()):
        _require(path, header, name, shapes.get(name))
    arrays = {name: np.empty(shape, np.float32) for name, shape in shapes.items()}
    try:
        descriptor = os.open(path, os.O_RDONLY)
        try:
            with ThreadPoolExecutor(READER_THREADS) as readers:
                # The largest tensors first, so that both threads finish at about the same time.
                names = sorted(arrays, key=lambda name: -arrays[name].nbytes)
                offsets = [header.start + header.tensors[name]["data_offsets"][0] for name in names]
                digests = list(readers.map(_read, [descriptor] * len(names), offsets, [arrays[n] for n in names]))
        finally:
            os.close(descriptor)
    except OSError as error:
        raise CheckpointError(f"{path} cannot be read: {error.strerror}; copy it again") from error
    for name, digest in zip(names, digests, strict=True):
        if digest != header.digests.get(name):
            raise CheckpointError(f"{path}: the numbers of {name} are damaged (their SHA-256 differs); copy it again")
    arrays_of = {
        kind: {name.removeprefix(kind): a for name, a in arrays.items() if name.startswith(kind)}
        for kind in ("param/", "velocity/")
    }
    return Checkpoint(header.facts, arrays_of["param/"], arrays_of["velocity/"], arrays[MEAN])


@dataclass(frozen=True)
class _Header:
    """The header: `start` is the offset of the first tensor, `tensors` the entry of each in safetensors' terms."""

    facts: Facts
    tensors: Mapping[str, Mapping[str, Any]]
    digests: Mapping[str, str]
    start: int


def _header(tensors: HostArrays, facts: Facts) -> bytes:
    digests = {name: hashlib.sha256(_bytes(a)).hexdigest() for name, a in tensors.items()}
    entries: dict[str, Any] = {
        "__metadata__": {
            "sha256": _UNSEALED,
            "format": FORMAT,
            "facts": encode(facts),
            "tensors": json.dumps(digests),
        }
    }
    end = 0
    for name, a in tensors.items():
        entries[name] = {"dtype": "F32", "shape": a.shape, "data_offsets": (end, end := end + a.nbytes)}
    text = json.dumps(entries, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + _sealed(text, hashlib.sha256(text).hexdigest(), _UNSEALED)


def _sealed(text: bytes, new: str, old: str) -> bytes:
    """Replace the header's own digest, which is its first entry."""
    return text.replace(f'"sha256":"{old}"'.encode(), f'"sha256":"{new}"'.encode(), 1)


def _open(path: Path) -> _Header:
    if path.exists() and not path.is_file():
        raise CheckpointError(f"{path} is not a regular file (a folder, a pipe, a device); give a .safetensors file")
    try:
        # Checks that the header is JSON of the right form, and that the tensors fill the rest of the file gaplessly.
        with safetensors.safe_open(path, framework="numpy") as checked:
            metadata = checked.metadata() or {}
        with path.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
            text = file.read(length)
    except FileNotFoundError as error:
        raise CheckpointError(f"{path} does not exist; give a run's folder or a .safetensors file") from error
    except (OSError, safetensors.SafetensorError) as error:
        if _is_pickle(path):
            raise CheckpointError(
                f"{path} is a pickle or an archive, as PyTorch writes; refnet never opens one, since it is a program "
                "that runs when it is read; save the arrays as .safetensors"
            ) from error
        reason = printable(error)
        remedy = "copy it again" if path.suffix == ".safetensors" else "give a run's folder or a .safetensors file"
        raise CheckpointError(f"{path} is not an intact safetensors file: {reason}; {remedy}") from error
    try:
        tensors = json.loads(text)
        tensors.pop("__metadata__", None)
        file_format = metadata.get("format")
        if file_format not in {FORMAT, EARLIER_FORMAT}:
            raise CheckpointError(
                f"{path} is not a checkpoint of this refnet: its format is "
                f"{printable(file_format)[:80]}, not {FORMAT}; read it with the program that wrote it"
            )
        digest = metadata.get("sha256", "")
        if hashlib.sha256(_sealed(text, _UNSEALED, digest)).hexdigest() != digest:
            raise CheckpointError(f"{path}: its header is damaged (its SHA-256 differs); copy it again")
        text_of_facts, digests = metadata.get("facts", ""), decode(dict, metadata.get("tensors", ""))
        facts = decode(Facts, text_of_facts) if file_format == FORMAT else _earlier(decode(dict, text_of_facts))
    except (ValueError, RecursionError) as error:
        raise CheckpointError(f"{path}: its header is wrong: {printable(error)[:200]}; copy it again") from error
    return _Header(facts, tensors, digests, 8 + length)


def _earlier(facts: dict[str, Any]) -> Facts:
    """Read the facts of the earlier format, in which some fields and some keys of the configuration name the network.

    The first files have no words for the classes either.
    """
    facts = {"words": []} | facts
    config = facts.get("config")
    named = {name: facts.pop(name, None) for name in ("net", "init", "columns")}  # in the earlier format always there
    return check(Facts, {**facts, "spec": spec_in((config if isinstance(config, dict) else {}) | named)})


def _is_pickle(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            return file.read(2) in _PICKLES
    except OSError:
        return False


def _require(path: Path, header: _Header, name: str, shape: tuple[int, ...] | None) -> None:
    """Check one tensor against the shape the network needs; None for a tensor that it does not have."""
    entry = header.tensors.get(name)
    actual = "it is missing" if entry is None else f"it is {entry['dtype']} {tuple(entry['shape'])}"
    expected = "no such tensor" if shape is None else f"F32 {shape}"
    if actual != f"it is {expected}":
        net = f"net {header.facts.spec.name} in {header.facts.spec.columns} columns"
        raise CheckpointError(f"{path}: {printable(name)}: {actual}, {net} needs {expected}; train again")


def _read(descriptor: int, offset: int, a: HostArray) -> str:
    """Fill an array from an offset in a file; return its SHA-256. Raises ``OSError``."""
    rest, digest = _bytes(a), hashlib.sha256()
    while rest:
        count = os.preadv(descriptor, [rest[:CHUNK_BYTES]], offset)
        if not count:
            raise OSError(0, "it has become shorter")
        digest.update(rest[:count])
        rest, offset = rest[count:], offset + count
    return digest.hexdigest()


def _bytes(a: HostArray) -> memoryview:
    return a.reshape(-1).view(np.uint8).data
