"""What a backend is, how one is found, and how it is held to the reference's interface.

A backend is an object with the methods of :class:`Backend` and, as attributes, modules (or anything with the same
functions) named like the chapters in :mod:`refnet.ops`. There is no class to inherit: a package registers a factory,
``factory(columns=..., devices=..., threads=...)``, under the entry-point group ``refnet.backends`` and that is all.
Further parameters of the factory are options of its own, which ``load`` passes on where they are given.
"""

import inspect
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from difflib import get_close_matches
from functools import wraps
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points
from math import prod
from types import ModuleType, SimpleNamespace
from typing import Any, Protocol, cast

import numpy as np
import numpy.typing as npt

from refnet.errors import BackendUnavailableError, ConfigError, NumericError, RefnetError, ShapeError
from refnet.ops import OPS

GROUP = "refnet.backends"
AUTO = ("numba", "numpy")  # the fastest first


class Array(Protocol):
    """What the code outside a backend may know of a backend's array: its shape and the kind of its numbers."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Lengths of the axes."""

    @property
    def dtype(self) -> Any:
        """Kind of the numbers; it has an ``itemsize`` in bytes."""


class Backend(Protocol):
    """The interface. Ops are read as ``backend.conv2d.forward(...)``; their meaning is their chapter's."""

    name: str
    columns: int
    conv2d: ModuleType
    conv2d_relu: ModuleType
    relu: ModuleType
    tanh: ModuleType
    lrn: ModuleType
    maxpool: ModuleType
    linear: ModuleType
    linear_relu: ModuleType
    augment: ModuleType
    dropout: ModuleType
    softmax_xent: ModuleType
    sgd: ModuleType
    philox: ModuleType

    def asarray(self, a: npt.NDArray[Any], column: int = 0) -> Array:
        """Copy a host array to where the column lives; the dtype is kept."""

    def to_numpy(self, a: Array) -> npt.NDArray[Any]:
        """Bring an array to the host, when it has been computed. It may be the array's own memory: only read it."""

    def move(self, a: Array, column: int) -> Array:
        """Bring an array to another column; the identity where both columns live on one device."""

    def concat(self, parts: Sequence[Array]) -> Array:
        """Join arrays of one column along their channels (axis 1)."""

    def split(self, a: Array, widths: Sequence[int]) -> Sequence[Array]:
        """Undo ``concat``: parts of the given numbers of channels, in order. They may be views: only read them."""

    def add(self, a: Array, b: Array) -> Array:
        """Add two gradients that meet."""

    def synchronize(self) -> None:
        """Wait until everything asked for has been computed."""


METHODS = ("asarray", "to_numpy", "move", "concat", "split", "add", "synchronize")


def load(
    name: str,
    *,
    columns: int = 1,
    devices: Sequence[str] = (),
    threads: int | None = None,
    checked: bool = False,
    **options: Any,
) -> Backend:
    """Load the backend registered under `name`.

    Parameters
    ----------
    name
        "auto" is the first of ``AUTO`` that is registered; its ``name`` says which it became.
    columns
        How many columns the network has.
    devices
        Where the columns live, in the backend's own words; empty for its default.
    threads
        How many threads its ops may use in this process; None for one on each core.
    checked
        Wrap the backend so that every call is held to its chapter's rules (see :class:`Checked`).
    options
        What only some backends have, such as ``precision``: a factory lists its own as parameters. None leaves the
        choice to the backend.

    Raises
    ------
    ConfigError
        There are neither one device nor as many as columns, or the backend does not have such an option.
    BackendUnavailableError
        The name is unknown, the backend cannot run here, or it differs from the interface. Nothing is ever
        replaced by another backend in silence.
    """
    if devices and len(devices) not in {1, columns}:
        raise ConfigError(
            f"--devices names {len(devices)} devices for {columns} columns; name one for all, or one for each column"
        )
    found = _entry_points()
    if name == "auto":
        name = next(candidate for candidate in AUTO if candidate in found)
    if name not in found:
        nearest = get_close_matches(name, found, n=1)
        hint = f"did you mean {nearest[0]}?" if nearest else "install the package that provides it"
        raise BackendUnavailableError(
            f"backend {name} is not known; there are auto, {', '.join(sorted(found))}; {hint}"
        )
    try:
        factory = found[name].load()
        chosen = {option: value for option, value in options.items() if value is not None}
        _check_options(name, factory, chosen)
        backend = factory(columns=columns, devices=devices, threads=threads, **chosen)
    except RefnetError:
        raise
    except Exception as error:  # whatever a foreign package does when it cannot be loaded
        raise BackendUnavailableError(f"backend {name} cannot run here: {error}") from error
    differences = verify(backend)
    if differences:
        raise BackendUnavailableError(f"backend {name} differs from the reference: {'; '.join(differences)}")
    return cast("Backend", Checked(backend)) if checked else cast("Backend", backend)


def _check_options(name: str, factory: Callable[..., Any], options: Mapping[str, Any]) -> None:
    parameters = inspect.signature(factory).parameters if options else {}
    for option, value in options.items():
        if option not in parameters:
            shown = f"--{option}" if value is True else f"--{option} {value}"
            raise ConfigError(f"backend {name} has no {shown}; leave it out, or name a --backend that has it")


def available() -> dict[str, str | None]:
    """Every registered backend, with None where it can run here and the reason where it cannot."""
    reasons: dict[str, str | None] = {}
    for name in sorted(_entry_points()):
        try:
            load(name)
            reasons[name] = None
        except RefnetError as error:
            reasons[name] = str(error)
    return reasons


def verify(backend: object) -> list[str]:
    """Compare a backend with the reference: names, parameters, kinds and defaults. Empty where they agree."""
    differences = [f"it has no method {method}" for method in METHODS if not callable(getattr(backend, method, None))]
    for op in OPS:
        chapter = import_module(f"refnet.ops.{op}")
        mine = getattr(backend, op, None)
        if mine is None:
            differences.append(f"it has no op {op}")
            continue
        for function in chapter.INTERFACE:
            expected = _parameters(getattr(chapter, function))
            if not callable(getattr(mine, function, None)):
                differences.append(f"it has no {op}.{function}")
            elif (found := _parameters(getattr(mine, function))) != expected:
                differences.append(f"{op}.{function} takes ({', '.join(found)}), not ({', '.join(expected)})")
    return differences


class Checked:
    """A backend whose every call is held to its chapter: shapes, dtypes and values going in, and coming out.

    Raises ``ShapeError`` for arguments that break the rule or results that do, and where real numbers of two dtypes
    meet; ``NumericError`` for a result that is not finite although every argument was. Results are brought to the
    host to be looked at, so it is slow.
    """

    def __init__(self, backend: Any) -> None:
        self._backend = backend
        for op in OPS:
            chapter = import_module(f"refnet.ops.{op}")
            functions = {name: self._check(op, chapter, name) for name in chapter.INTERFACE}
            setattr(self, op, SimpleNamespace(**functions))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._backend, name)

    def _check(self, op: str, chapter: ModuleType, name: str) -> Callable[..., Any]:
        reference = getattr(chapter, name)
        shapes_rule = getattr(chapter, f"{name}_shapes")
        values_rule = getattr(chapter, f"{name}_values", None)
        function = getattr(getattr(self._backend, op), name)
        signature = inspect.signature(reference)

        @wraps(reference)
        def checked(*args: Any, **kwargs: Any) -> Any:
            arguments = signature.bind(*args, **kwargs).arguments
            expected = shapes_rule(**{key: _each(_shape, value) for key, value in arguments.items()})
            if values_rule:
                values_rule(**{key: _each(self._backend.to_numpy, value) for key, value in arguments.items()})
            sound = self._are_finite(arguments.values())
            result = function(*args, **kwargs)
            results = () if result is None else result if isinstance(result, tuple) else (result,)
            dtypes = {str(a.dtype) for a in arrays_in((*arguments.values(), *results)) if _is_real(a)}
            if len(dtypes) > 1:
                raise ShapeError(f"{op}.{name} of backend {self.name} mixes {' and '.join(sorted(dtypes))}")
            shapes = tuple(None if array is None else tuple(array.shape) for array in results)
            if shapes != tuple(expected):
                raise ShapeError(f"{op}.{name} of backend {self.name} returned shapes {shapes}, not {tuple(expected)}")
            changed = arguments.values() if name.endswith("_") else ()
            if sound and not self._are_finite((*results, *changed)):
                raise NumericError(f"{op}.{name} of backend {self.name} made NaN or infinity out of finite numbers")
            return result

        return checked

    def _are_finite(self, values: Iterable[Any]) -> bool:
        return all(np.isfinite(self._backend.to_numpy(a)).all() for a in arrays_in(values))


def require_cpu(name: str, devices: Sequence[str]) -> None:
    """Raise ``BackendUnavailableError`` for a device that a CPU backend does not run on."""
    elsewhere = [device for device in devices if device != "cpu"]
    if elsewhere:
        raise BackendUnavailableError(
            f"backend {name} runs on the CPU alone, not on {', '.join(elsewhere)}; leave --devices out or say cpu"
        )


def nbytes(a: Array, sent_by: Any = None) -> int:
    """Bytes that the numbers of an array take; or that they take on their way between columns, if a backend sends them.

    A backend that sends them in another form than it keeps them has ``exchange_itemsize``, the bytes of one number.
    """
    return prod(a.shape) * int(getattr(sent_by, "exchange_itemsize", a.dtype.itemsize))


def arrays_in(values: Iterable[Any]) -> Iterator[Any]:
    """Find the arrays among the arguments or results of an op, and in the lists among them."""
    for value in values:
        if isinstance(value, list):
            yield from arrays_in(value)
        elif _is_array(value):
            yield value


def _entry_points() -> dict[str, EntryPoint]:
    return {point.name: point for point in entry_points(group=GROUP)}


def _parameters(function: Callable[..., Any]) -> list[str]:
    """Write each parameter as its name and default, with the star that makes those after it keyword-only."""
    written: list[str] = []
    try:
        parameters = inspect.signature(function).parameters.values()
    except ValueError:
        return ["what cannot be told"]
    for parameter in parameters:
        if parameter.kind is parameter.KEYWORD_ONLY and "*" not in written:
            written.append("*")
        bare = parameter.replace(annotation=parameter.empty)
        written.append(str(bare))
    return written


def _is_array(value: Any) -> bool:
    return hasattr(value, "shape") and hasattr(value, "dtype")


def _is_real(a: Array) -> bool:
    return "float" in str(a.dtype)


def _each(function: Callable[[Any], Any], value: Any) -> Any:
    """Apply a function to an array, or to each of a list; whatever else there is stays as it is."""
    if isinstance(value, list):
        return [_each(function, one) for one in value]
    return function(value) if _is_array(value) else value


def _shape(a: Array) -> tuple[int, ...]:
    return tuple(a.shape)
