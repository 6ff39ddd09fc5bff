"""Time from the start of a process to its first training step, with an empty and with a filled cache.

``python benchmarks/startup.py [--rounds N]`` prints seconds of ``refnet train`` (until the first step is in the run's
metrics), first with an empty cache and then with the cache filled by that run, and seconds of ``refnet --help``.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

MAX_WAIT_SECONDS = 600  # seconds for a first step
REFNET = [sys.executable, "-m", "refnet"]


def first_step(folder: Path, environment: dict[str, str]) -> float:
    """Start a training run, and return the seconds until its first step is done."""
    with tempfile.TemporaryDirectory(dir=folder) as run:
        began = time.perf_counter()
        process = subprocess.Popen(
            [*REFNET, "train", "--max-steps", "1", "--run-dir", run],
            env=environment,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
        )
        metrics = Path(run) / "metrics.jsonl"
        while not (metrics.exists() and metrics.stat().st_size):
            if process.poll() is not None or time.perf_counter() - began > MAX_WAIT_SECONDS:
                process.kill()
                sys.exit(f"no step was taken: {process.communicate()[1].decode()}")
            time.sleep(0.002)
        seconds = time.perf_counter() - began
        process.communicate()
    return seconds


def help_(environment: dict[str, str]) -> float:
    """Return the seconds of ``refnet --help``."""
    began = time.perf_counter()
    subprocess.run([*REFNET, "--help"], env=environment, stdout=subprocess.DEVNULL, check=True)
    return time.perf_counter() - began


def main() -> None:
    """Measure, and print one JSON object."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument(
        "--rounds", type=int, default=3, help="of each warm start (default: 3); a cold one is timed once"
    )
    rounds = parser.parse_args().rounds
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        environment = os.environ | {"XDG_CACHE_HOME": str(folder / "cache")}
        figures = {
            "cold_first_step": first_step(folder, environment),
            "warm_first_step": min(first_step(folder, environment) for _ in range(rounds)),
            "help": min(help_(environment) for _ in range(rounds)),
        }
    print(json.dumps({name: round(seconds, 3) for name, seconds in figures.items()}))


if __name__ == "__main__":
    main()
