"""How a backend is found by its name, loaded, and compared with the reference's interface.

A package registers a factory, ``factory(columns=..., devices=..., threads=...)``, under the entry-point group
``refnet.backends``. Further parameters of the factory are options of its own, which ``load`` passes on.
"""

import inspect
from collections.abc import Callable, Mapping, Sequence
from difflib import get_close_matches
from importlib.metadata import EntryPoint, entry_points
from typing import Any, cast

from refnet.backend.interface import METHODS, Backend
from refnet.backend.wrapped import Checked
from refnet.errors import BackendUnavailableError, ConfigError, RefnetError
from refnet.ops import OPS, chapter

GROUP = "refnet.backends"
AUTO = ("numba", "numpy")  # the fastest first


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
        reference, mine = chapter(op), getattr(backend, op, None)
        if mine is None:
            differences.append(f"it has no op {op}")
            continue
        for function in reference.INTERFACE:
            expected = _parameters(getattr(reference, function))
            if not callable(getattr(mine, function, None)):
                differences.append(f"it has no {op}.{function}")
            elif (found := _parameters(getattr(mine, function))) != expected:
                differences.append(f"{op}.{function} takes ({', '.join(found)}), not ({', '.join(expected)})")
    return differences


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
