"""Check and time the Triton backend on a bare machine with a GPU, in about nine minutes.

The machine needs Python, torch, Triton, NumPy, Pillow, rich, safetensors, threadpoolctl and Hypothesis, and no network,
nox or Numba. What else is needed is packed where there is a network, in the folder ``.carry`` (about 1 MB)::

    python benchmarks/gpu_machine.py pack
    python3 benchmarks/gpu_machine.py run            # on the machine, in a copy of this repository with .carry
    python3 benchmarks/gpu_machine.py run --tuned    # a second, shorter run: tune, then time the step again

Every part writes its output to a file in the folder that ``$OUT`` names (``gpu-results`` without it). A part that
fails, or takes too long, stops no other. The tables come last. With ``--device cpu`` the parts that need no GPU run on
small sizes in Triton's interpreter, to try this program.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

ROOT = Path(__file__).parents[1]
CARRY = ROOT / ".carry"
CARRIED = ("tomli-w", "pytest>=9", "pluggy", "iniconfig")  # besides refnet itself
COUNTERS = (
    "l1tex__data_bank_conflicts_pipe_lsu_mem_shared_op_st.sum,l1tex__data_pipe_lsu_wavefronts_mem_shared.sum,"
    "lts__t_bytes.sum,dram__bytes.sum,gpu__time_duration.sum,sm__inst_executed_pipe_tensor.sum"
)
KERNELS = "regex:correlate|multiply|lay|maxpool_backward|lrn_backward"


@dataclass(frozen=True)
class Part:
    """One command.

    Attributes
    ----------
    limit
        Seconds after which it is stopped.
    lines
        How many of its last lines are printed at the end of the run.
    """

    name: str
    limit: int
    command: list[str]
    lines: int = 1


def check(options, name, *more):
    """Return the command of a check in ``gpu_checks.py``."""
    return [sys.executable, "benchmarks/gpu_checks.py", name, "--device", options.device, *more]


def tested(options, *arguments):
    """Return the command of tests on the installed wheel; -P keeps this folder off the path."""
    workers = ["-p", "xdist", "-n", "4"] if find_spec("xdist") and options.device != "cpu" else []
    return [sys.executable, "-P", "-m", "pytest", *workers, "-p", "no:cacheprovider", "-q", "--tb=short", *arguments]


def stages(options):
    """Return the parts of a run: lists of those that run at the same time, in order. Timed ones run alone."""
    if options.tuned:
        step, *_ = steps(options)
        return [[Part("tune", 240, refnet("tune", *on(options), "--precision", best(options)), 30)], [step]]
    alone = [bits(options), *steps(options), *([] if options.device == "cpu" else profiles(options))]
    return [[Part("ceilings", 40, check(options, "ceilings"))], compiling(options), *([part] for part in alone)]


def on(options, large=False):
    """Return the arguments for the network and the batch; small ones for the interpreter."""
    if options.device == "cpu":
        return ["--net", "digits", "--batch", "4" if large else "2"]
    return ["--net", "paper", "--batch", "512" if large else "128"]


def precisions(options):
    """Return the precisions of the device."""
    return ("ieee",) if options.device == "cpu" else ("ieee", "tf32x3", "tf32")


def best(options):
    """Return the fastest precision."""
    return precisions(options)[-1]


def compiling(options):
    """Return the parts that compile kernels, most of which need a CPU more than the GPU."""
    chosen = precisions(options)
    suite = ["tests/test_agreement.py", "--backend", "triton", "--max-examples"]
    suite += ["1", "-k", "relu"] if options.device == "cpu" else ["3"]
    compare = ["compare", "--backends", "numpy,triton", "--columns", "1,2", "--examples", "1", *on(options)]
    parts = [
        Part("right", 200, refnet(*compare, "--precision", ",".join(chosen)), 8),
        *(Part(f"suite-{p}", 170, tested(options, *suite, "--precision", p), 3) for p in chosen),
        Part("warm-512", 170, check(options, "warm", *on(options, large=True), "--precision", best(options))),
        Part("streams", 100, check(options, "streams"), 2),
    ]
    if options.device != "cpu":
        parts.append(Part("card", 170, tested(options, "tests/card.py", "--backend", "triton"), 3))
    return parts


def bits(options):
    """Return the part that repeats a step, eager and recorded."""
    return Part("bits", 60, check(options, "bits", *on(options), "--precision", best(options)))


def steps(options):
    """Return the parts that time the step beside PyTorch."""
    few = ["--rounds", "1"] if options.device == "cpu" else []

    def step(name, limit, rounds, precision, large=False):
        sized = [*on(options, large), "--precision", precision, "--rounds", rounds, *few]
        return Part(name, limit, [sys.executable, "benchmarks/gpu_step.py", "--device", options.device, *sized], 18)

    fast = best(options)
    both = [step("step-128", 75, "8", fast), step("step-512", 60, "5", fast, large=True)]
    return both if fast == "ieee" else [*both, step("step-ieee", 45, "3", "ieee")]


def profiles(options):
    """Return the parts that say where the time goes, and whether threads race for shared memory."""
    floor = [sys.executable, "-P", "-m", "refnet_triton.floor", "--measure", "--model", "--batch"]
    counters = ["ncu", "--clock-control", "none", "--metrics", COUNTERS, "-k", KERNELS, "-c", "60", "--csv"]
    races = ["compute-sanitizer", "--tool", "racecheck", "--print-limit", "5"]
    small = ["--net", "digits", "--batch", "32"]
    return [
        Part("floor-128", 50, [*floor, "128"], 40),
        Part("floor-512", 50, [*floor, "512"], 3),
        Part("counters", 50, [*counters, *check(options, "warm", *on(options))]),
        Part("races", 40, [*races, *check(options, "warm", *small)], 3),
    ]


def refnet(*arguments):
    """Return a command of refnet; -P keeps this folder off the path."""
    return [sys.executable, "-P", "-m", "refnet", *arguments]


def pack():
    """Build refnet's wheel and fetch the others into ``.carry``."""
    CARRY.mkdir(exist_ok=True)
    for old in CARRY.glob("*.whl"):
        old.unlink()
    pip = [sys.executable, "-m", "pip"]
    subprocess.run([*pip, "wheel", "-q", "--no-deps", "-w", CARRY, ROOT], check=True)
    subprocess.run([*pip, "download", "-q", "--no-deps", "-d", CARRY, *CARRIED], check=True)
    wheels = sorted(CARRY.iterdir())
    size = sum(wheel.stat().st_size for wheel in wheels)
    print(f"{CARRY}: {', '.join(wheel.name for wheel in wheels)}; {size / 1e6:.2f} MB")


def environment(options, work):
    """Return the environment of all parts: the wheels on the path, caches in a folder that goes away."""
    wheels = sorted(map(str, CARRY.glob("*.whl")))
    if not wheels:
        raise SystemExit(f"{CARRY} has no wheels; run: python benchmarks/gpu_machine.py pack")
    site = work / "site"
    install = ["install", "-q", "--no-index", "--no-deps", "--no-compile", "--no-cache-dir", "--target", site]
    subprocess.run([sys.executable, "-m", "pip", *install, *wheels], check=True)
    changed = {
        "PYTHONPATH": str(site),
        "PYTHONUNBUFFERED": "1",
        "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1",
        "TRITON_CACHE_DIR": str(work / "triton"),
        "TORCHINDUCTOR_CACHE_DIR": str(work / "inductor"),
        "XDG_CONFIG_HOME": str(work / "config"),
    }
    kept = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    return kept | changed | ({"TRITON_INTERPRET": "1"} if options.device == "cpu" else {})


def run(options):
    """Run all parts, and print their ends; return the exit code: how many parts failed."""
    out = Path(os.environ.get("OUT") or "gpu-results")
    out.mkdir(parents=True, exist_ok=True)
    began, codes, parts = time.monotonic(), {}, []
    with tempfile.TemporaryDirectory() as folder:
        shared = environment(options, Path(folder))
        for stage in stages(options):
            chosen = [part for part in stage if not options.only or part.name in options.only.split(",")]
            parts += chosen
            print(f"[{time.monotonic() - began:4.0f} s] {', '.join(part.name for part in chosen)}", flush=True)
            codes |= together(chosen, shared, out)
    for part in parts:
        print(f"\n== {part.name}: {'passed' if codes[part.name] == 0 else codes[part.name]}")
        lines = (out / f"{part.name}.txt").read_text(encoding="utf-8", errors="replace").rstrip().splitlines()
        for line in lines[-part.lines :] if codes[part.name] == 0 else lines[-max(8, part.lines) :]:
            print(line[:220])
    failed = [name for name, code in codes.items() if code != 0]
    print(f"\n[{time.monotonic() - began:4.0f} s] {len(codes) - len(failed)} of {len(codes)} parts passed", end="")
    print(f"; not: {', '.join(failed)}" if failed else "")
    return min(len(failed), 100)


def together(parts, shared, out):
    """Run parts at the same time; return what became of each: its exit code, or why it has none."""
    codes, running = {}, []
    for part in parts:
        file = (out / f"{part.name}.txt").open("w", encoding="utf-8")
        began = time.monotonic()
        try:
            process = subprocess.Popen(
                part.command, stdout=file, stderr=subprocess.STDOUT, env=shared, cwd=ROOT,
                start_new_session=True,
            )  # fmt: skip
        except OSError as error:
            file.write(f"{error}\n")
            codes[part.name] = f"cannot start ({error.strerror})"
        else:
            running.append((part, process, began))
        file.close()
    for part, process, began in running:
        try:
            code = process.wait(max(0.1, part.limit - (time.monotonic() - began)))
            codes[part.name] = code if code == 0 else f"exit code {code}"
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, 9)
            process.wait()
            codes[part.name] = f"stopped after {part.limit} s"
    return codes


def main(arguments=None):
    """Pack or run; return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", choices=["pack", "run"])
    parser.add_argument("--device", default="cuda:0", help="the GPU, or cpu to try this program (default: cuda:0)")
    parser.add_argument("--tuned", action="store_true", help="tune, and time the step again")
    parser.add_argument("--only", default="", metavar="PART,...", help="run these parts alone (default: all)")
    options = parser.parse_args(arguments)
    if options.what == "run":
        return run(options)
    pack()
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
