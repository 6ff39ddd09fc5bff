"""``refnet doctor``: what this machine computes with, and what holds it back."""

import argparse
import json
import os
from collections.abc import Iterator

from refnet.errors import with_flags
from refnet.machine.doctor import Examination, examine

# The vector instructions that convolution's micro-kernels are chosen by, and some that say how old a processor is.
TELLING = ("sse4.2", "avx", "fma", "avx2", "avx512f", "avx512bf16", "amx-tile", "neon", "sve")


def run(arguments: argparse.Namespace) -> int:
    """Examine, and say what was found."""
    found = examine(os.environ)
    if arguments.json:
        print(json.dumps(found.as_dict()))
    else:
        for title, text in _lines(found):
            print(f"{title:16} {text}")
    return 0


def _lines(found: Examination) -> Iterator[tuple[str, str]]:
    about = found.surroundings
    yield "refnet", f"{about['refnet']} on Python {about['python']}, NumPy {about['numpy']}, {about['system']}"
    yield "processor", f"{about['processor']}; {about['physical cores']} cores, {about['cores']} threads of them"
    for pool in about["blas"]:
        yield (
            "BLAS",
            f"{pool['internal_api']} {pool['version']}, {pool['architecture']} kernels, {pool['num_threads']} threads",
        )
    for name, reason in found.backends.items():
        yield "backends", f"{name} is ready" if reason is None else reason
    for name, details in found.details.items():
        for what, value in details.items():
            told = value
            if isinstance(value, list):
                told = f"{' '.join(item for item in TELLING if item in value)} (of {len(value)}; --json lists all)"
            yield name, f"{what}: {told}"
    for name, cache in found.caches.items():
        yield name, f"cache: {_cache(cache)}"
    yield "GPU", "; ".join(found.gpus) or "none that nvidia-smi knows"
    for throttle in found.throttles:
        yield "warning", f"{throttle.what}: {throttle.cost}. To fix it, {with_flags(throttle.cure)}."
    if not found.throttles:
        yield "throttles", "none found"


def _cache(cache: object) -> str:
    if not isinstance(cache, dict):
        return (
            "none can be used, so that every start compiles anew; "
            "set XDG_CACHE_HOME to a directory of your own that nobody else may write to"
        )
    return (
        f"{cache['directory']}, {cache['functions']} functions, {cache['bytes'] / 1e6:.1f} MB; "
        f"{cache['free_bytes'] / 1e9:.1f} GB free (refnet warmup fills it)"
    )
