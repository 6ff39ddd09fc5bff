"""The check of Numba's environment variables, imported before Numba, whose own errors do not name them."""

import os
import sys

from refnet.errors import BackendUnavailableError

LIMIT = "NUMBA_NUM_THREADS"


def _is_count(text: str) -> bool:
    try:
        return int(text) >= 1
    except ValueError:
        return False


if (_limit := os.environ.get(LIMIT)) and "numba" not in sys.modules and not _is_count(_limit):
    raise BackendUnavailableError(
        f"backend numba cannot run: {LIMIT}={_limit} must be a whole number of at least 1; unset it"
    )
