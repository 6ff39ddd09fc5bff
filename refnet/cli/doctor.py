"""``refnet doctor``: describe this machine and what slows it down."""

import argparse
import json
import os
from collections.abc import Iterator

from refnet.machine.doctor import Examination, examine
from refnet.terminal.spelling import with_flags
from refnet.terminal.wrapping import print_lines

# The vector instructions by which convolution's micro-kernels are chosen, and some that show a processor's age.
VECTOR_UNITS = ("sse4.2", "avx", "fma", "avx2", "avx512f", "avx512bf16", "amx-tile", "neon", "sve")


def run(arguments: argparse.Namespace) -> int:
    """Describe this machine: print backends, libraries, and what slows it down."""
    machine = examine(os.environ)
    if arguments.json:
        print(json.dumps(machine.as_dict()))
    else:
        print_lines(f"{title:16} {text}" for title, text in _lines(machine))
    return 0


def _lines(machine: Examination) -> Iterator[tuple[str, str]]:
    about = machine.surroundings
    yield "refnet", f"{about['refnet']} on Python {about['python']}, NumPy {about['numpy']}, {about['system']}"
    yield "processor", f"{about['processor']}; {about['physical cores']} cores, {about['cores']} threads of them"
    for pool in about["blas"]:
        yield (
            "BLAS",
            f"{pool['internal_api']} {pool['version']}, {pool['architecture']} kernels, {pool['num_threads']} threads",
        )
    for name, reason in machine.backends.items():
        yield "backends", f"{name} is ready" if reason is None else reason
    for name, details in machine.details.items():
        for what, value in details.items():
            text = value
            if isinstance(value, list):
                text = f"{' '.join(item for item in VECTOR_UNITS if item in value)} (of {len(value)}; --json lists all)"
            yield name, f"{what}: {text}"
    for name, cache in machine.caches.items():
        yield name, f"cache: {_cache(cache)}"
    yield "GPU", "; ".join(machine.gpus) or "none reported by nvidia-smi"
    for throttle in machine.throttles:
        yield "warning", f"{throttle.what}: {throttle.cost}. To fix it, {with_flags(throttle.cure)}."
    if not machine.throttles:
        yield "throttles", "none found"


def _cache(cache: object) -> str:
    if not isinstance(cache, dict):
        return (
            "none can be used, so every start compiles again; "
            "set XDG_CACHE_HOME to a directory of your own that nobody else may write to"
        )
    return (
        f"{cache['directory']}, {cache['functions']} functions, {cache['bytes'] / 1e6:.1f} MB; "
        f"{cache['free_bytes'] / 1e9:.1f} GB free (refnet warmup fills it)"
    )
