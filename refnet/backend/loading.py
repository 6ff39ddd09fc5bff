"""Find a backend by its name, load it, and compare it with the reference's interface.

A package registers a factory, ``factory(columns=..., devices=..., threads=...)``, in the entry-point group
``refnet.backends``. Further parameters of the factory are options of its own, which ``load`` passes on. If the backend
needs further packages, they are listed in an extra of its package with the backend's name, such as
``refnet[triton]``.
"""

import inspect
import re
from collections.abc import Callable, Mapping, Sequence
from importlib.metadata import Distribution, EntryPoint, PackageNotFoundError, distribution, entry_points
from typing import Any, cast

from refnet.backend.interface import METHODS, Backend
from refnet.backend.wrapped import CheckedArguments, CheckedResults
from refnet.errors import BackendUnavailableError, ConfigError, RefnetError
from refnet.ops import OPS, chapter
from refnet.terminal.printable import reason
from refnet.terminal.spelling import setting, with_arguments
from refnet.terminal.suggestion import did_you_mean

GROUP = "refnet.backends"
UNLISTED_GROUP = "refnet.backends.unlisted"  # loaded by name like the others, but in no list: for tests
AUTO = ("numba", "numpy")  # the fastest first
REQUIREMENT = re.compile(r"([\w.-]+).*;.*\bextra\s*==\s*[\"'](?P<extra>[\w.-]+)[\"']")  # torch>=2.11; extra == "triton"


def load(
    name: str,
    *,
    columns: int = 1,
    devices: Sequence[str] = (),
    threads: int | None = None,
    checked: bool = True,
    results: bool = False,
    **options: Any,
) -> Backend:
    """Return the backend registered under `name`.

    Parameters
    ----------
    name
        The backend's name, or "auto" for the fastest that is registered: numba, otherwise numpy.
    columns
        The number of columns of the network.
    devices
        The device of each column, in the backend's own notation, or one for all; empty for its default.
    threads
        The number of threads that its ops may use in this process; None for one per core.
    checked
        Whether the ops check their arguments (see :class:`CheckedArguments`). Without it, wrong arguments give wrong
        numbers or end the process; it is for callers that have checked them already, such as a training step.
    results
        Whether the ops check their results too (see :class:`CheckedResults`), which is slow.
    options
        Options that only some backends have, such as ``precision``: the further parameters of its factory. None selects
        the backend's default.

    Raises
    ------
    ConfigError
        The number of devices is neither one nor that of the columns, or the backend does not have an option.
    BackendUnavailableError
        The name is unknown, the backend cannot run here, or it differs from the interface. No other backend replaces it
        silently.
    """
    if devices and len(devices) not in {1, columns}:
        raise ConfigError(
            f"{setting('devices')} names {len(devices)} devices for {columns} columns; name one for all, or one "
            "for each column"
        )
    listed = _entry_points()
    if name == "auto":
        name = next(candidate for candidate in AUTO if candidate in listed)
    point = listed.get(name) or _unlisted().get(name)
    if point is None:
        hint = did_you_mean(name, ["auto", *listed], "install the package that provides it")
        raise BackendUnavailableError(f"backend {name} is not known; there are auto, {', '.join(sorted(listed))}{hint}")
    try:
        factory = point.load()
        chosen = {option: value for option, value in options.items() if value is not None}
        _check_options(name, factory, chosen)
        backend = factory(columns=columns, devices=devices, threads=threads, **chosen)
    except RefnetError:
        raise
    except Exception as error:  # another package may raise anything
        raise BackendUnavailableError(f"backend {name} cannot run here: {reason(error)}") from error
    differences = verify(backend)
    if differences:
        raise BackendUnavailableError(f"backend {name} differs from the reference: {'; '.join(differences)}")
    if results:
        backend = CheckedResults(backend)
    elif checked:
        backend = CheckedArguments(backend)
    return cast("Backend", backend)


def _check_options(name: str, factory: Callable[..., Any], options: Mapping[str, Any]) -> None:
    parameters = inspect.signature(factory).parameters if options else {}
    for option, value in options.items():
        if option not in parameters:
            remedy = f"give {setting('exchange', 'fp32')}" if option == "exchange" else "leave it out"
            raise ConfigError(
                f"backend {name} has no {setting(option, value)}; {remedy}, or name a {setting('backend')} that has it"
            )


def installed() -> dict[str, str | None]:
    """Return every listed backend, with None if the packages it needs are installed, and otherwise what is missing.

    No backend is imported. ``available`` also tests whether each can run here.
    """
    return {name: _missing(name, point.dist) for name, point in sorted(_entry_points().items())}


def available(spelling: Callable[[str], str] = with_arguments) -> dict[str, str | None]:
    """Return every listed backend, with None if it can run here, and otherwise the reason. Each is loaded.

    `spelling` writes the settings in a reason (:mod:`refnet.terminal.spelling`).
    """
    reasons: dict[str, str | None] = {}
    for name in sorted(_entry_points()):
        try:
            load(name)
            reasons[name] = None
        except RefnetError as error:
            reasons[name] = spelling(error.message)
    return reasons


def verify(backend: object) -> list[str]:
    """Return how a backend differs from the reference in names, parameters and defaults; empty if it does not."""
    differences = [f"it has no method {method}" for method in METHODS if not callable(getattr(backend, method, None))]
    for op in OPS:
        reference, module = chapter(op), getattr(backend, op, None)
        if module is None:
            differences.append(f"it has no op {op}")
            continue
        for function in reference.INTERFACE:
            expected = _parameters(getattr(reference, function))
            if not callable(getattr(module, function, None)):
                differences.append(f"it has no {op}.{function}")
            elif (actual := _parameters(getattr(module, function))) != expected:
                differences.append(f"{op}.{function} takes ({', '.join(actual)}), not ({', '.join(expected)})")
    return differences


def _entry_points() -> dict[str, EntryPoint]:
    return {point.name: point for point in entry_points(group=GROUP)}


def _unlisted() -> dict[str, EntryPoint]:
    return {point.name: point for point in entry_points(group=UNLISTED_GROUP)}


def _missing(name: str, package: Distribution | None) -> str | None:
    """Return which packages of a backend's extra are not installed, with a remedy; None if all are."""
    if package is None:
        return None
    required = [
        match[1] for need in package.requires or () if (match := REQUIREMENT.match(need)) and match["extra"] == name
    ]
    missing = [need for need in required if not _is_installed(need)]
    if not missing:
        return None
    return f"backend {name} needs {' and '.join(missing)}; pip install '{package.name}[{name}]'"


def _is_installed(package: str) -> bool:
    try:
        distribution(package)
    except PackageNotFoundError:
        return False
    return True


def _parameters(function: Callable[..., Any]) -> list[str]:
    """Return each parameter's name and default as text, with a star before the first keyword-only parameter."""
    texts: list[str] = []
    try:
        parameters = inspect.signature(function).parameters.values()
    except ValueError:
        return ["an unknown signature"]
    for parameter in parameters:
        if parameter.kind is parameter.KEYWORD_ONLY and "*" not in texts:
            texts.append("*")
        texts.append(str(parameter.replace(annotation=parameter.empty)))
    return texts
