"""Parameters and velocities in one safetensors file, written so that a reader sees the old file or the new one."""

import os
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import safetensors
from safetensors.numpy import save

from refnet.errors import CheckpointError

Arrays = dict[str, npt.NDArray[Any]]


def write(path: Path, params: Arrays, velocities: Arrays, metadata: Mapping[str, str]) -> None:
    """Save parameters as ``param/conv1@0.w`` and velocities as ``velocity/conv1@0.w``.

    The file is written beside its name, flushed to the disk and then renamed, and so is the folder's entry.

    Raises
    ------
    CheckpointError
        The disk is full or cannot be written to.
    """
    named = {f"param/{name}": a for name, a in params.items()} | {
        f"velocity/{name}": a for name, a in velocities.items()
    }
    content = save({name: np.ascontiguousarray(a) for name, a in named.items()}, dict(metadata))
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
    except OSError as error:
        raise CheckpointError(
            f"{path} cannot be written: {error.strerror}; free some space or choose another --run-dir"
        ) from error
    finally:
        # After a failure or Ctrl-C it is still there; what hinders the removal was said above.
        with suppress(OSError):
            temporary.unlink()


def read(path: Path) -> tuple[Arrays, Arrays, dict[str, str]]:
    """Load parameters, velocities and metadata.

    Raises
    ------
    CheckpointError
        The file does not exist, cannot be read, or is not a whole safetensors file.
    """
    named: Arrays = {}
    try:
        with safetensors.safe_open(path, framework="numpy") as file:
            metadata = dict(file.metadata() or {})
            for name in file.keys():  # noqa: SIM118 - it is no mapping
                named[name] = file.get_tensor(name)
    except FileNotFoundError as error:
        raise CheckpointError(f"{path} does not exist; give the path of a .safetensors file") from error
    except (OSError, safetensors.SafetensorError, TypeError, AttributeError) as error:
        # The last two are what safetensors raises for numbers that NumPy does not have, such as bfloat16.
        raise CheckpointError(
            f"{path} is not a whole safetensors file: {error}; copy it again, or train again"
        ) from error
    params = {name.removeprefix("param/"): a for name, a in named.items() if name.startswith("param/")}
    velocities = {name.removeprefix("velocity/"): a for name, a in named.items() if name.startswith("velocity/")}
    return params, velocities, metadata
