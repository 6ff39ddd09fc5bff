"""Parts of ``gpu_machine.py`` that no other command has: what the card can do at most, compiling, bits, and streams.

Each prints short lines; ``ceilings`` and ``bits`` also print one line of JSON, which begins with ``{``.
"""

import argparse
import hashlib
import json
import statistics
import time

import numpy as np
import torch
from refnet_triton import TritonBackend

from refnet import backend as backends
from refnet.nets import NetSpec
from refnet.network import passes
from refnet.network.walk import images_of, labels_of
from refnet.training.step import StepSettings, begin

STEPS = 4


def loaded(options, **more):
    """Return the backend with both columns on the device."""
    return backends.load("triton", columns=2, devices=[options.device], precision=options.precision, **more)


def median_seconds(call, device, repeats=20):
    """Return the median time of a call on the device, after three that do not count."""
    times = []
    for _ in range(3 + repeats):
        if device == "cpu":
            began = time.perf_counter()
            call()
            times.append(time.perf_counter() - began)
        else:
            before, after = (torch.cuda.Event(enable_timing=True) for _ in range(2))
            before.record()
            call()
            after.record()
            after.synchronize()
            times.append(before.elapsed_time(after) / 1e3)
    return statistics.median(times[3:])


def ceilings(options):
    """Print what this device reaches: copies in memory and in the L2 cache, and products in torch's own library."""
    on_cpu = options.device == "cpu"
    sizes = {"copy": 1 << 20, "copy in L2": 1 << 16} if on_cpu else {"copy": 1 << 28, "copy in L2": 1 << 21}
    reached = {"card": "a CPU" if on_cpu else torch.cuda.get_device_name(options.device)}
    for name, numbers in sizes.items():
        source = torch.randn(numbers, device=options.device)
        target = torch.empty_like(source)
        times = 1 if name == "copy" else 50

        def copy(source=source, target=target, times=times):
            for _ in range(times):
                target.copy_(source)

        seconds = median_seconds(copy, options.device)
        reached[f"{name}, TB/s read and written"] = 2 * times * source.nbytes / seconds / 1e12
    side = 256 if on_cpu else 8192
    x, y = (torch.randn(side, side, device=options.device) for _ in range(2))
    for precision, setting in (("ieee", "highest"), ("tf32", "high")):
        torch.set_float32_matmul_precision(setting)
        seconds = median_seconds(lambda: x @ y, options.device, 5)
        reached[f"product in {precision}, TFLOP/s"] = 2 * side**3 / seconds / 1e12
    print(json.dumps(reached))


def warm(options):
    """Compile every kernel of a training step into Triton's cache, for the processes that follow."""
    began = time.monotonic()
    training, images, labels = ready(options, graph=False)
    training.take(images, labels, 0.0, 1)
    print(f"{options.net}, batch {options.batch}, {options.precision}: {time.monotonic() - began:.0f} s")


def ready(options, *, graph):
    """Return a network in training, and a batch for it."""
    backend, plan = loaded(options), NetSpec(options.net).plan()
    training = begin(plan, backend, StepSettings(seed=3, graph=graph))
    return training, passes.place(plan, images_of(plan, options.batch), backend), labels_of(plan, options.batch)


def bits(options):
    """Check that a few steps give the same bits again, and recorded as CUDA graphs."""
    runs = {}
    for name in ("eager", "eager again", *(() if options.device == "cpu" else ("recorded",))):
        training, images, labels = ready(options, graph=name == "recorded")
        losses = [training.take(images, labels, 0.01 / step, step) for step in range(1, STEPS + 1)]
        digest = hashlib.sha256()
        for array in training.params.values():
            digest.update(training.backend.to_numpy(array).tobytes())
        runs[name] = [losses, digest.hexdigest()]
    same = {name: run == runs["eager"] for name, run in runs.items()}
    print(json.dumps({"losses": runs["eager"][0], "same bits": same}))
    return 0 if all(same.values()) else 1


def streams(options):
    """Send every copy between columns over the streams of two devices, although both are one; check the bits."""
    if options.device == "cpu":
        print("needs a GPU; tests/test_triton_graph.py has streams without one")
        return 0
    direct = TritonBackend.move

    def across(self, a, column):
        self.memory.arrive(a)
        return self._across(a, self.devices[column])

    plan, worst = NetSpec("digits").plan(), 0
    for graph in (False, True):
        results = []
        for move in (direct, across):
            TritonBackend.move = move
            backend = TritonBackend(2, (options.device,), precision="ieee")
            training = begin(plan, backend, StepSettings(seed=3, graph=graph))
            rng = np.random.default_rng(1)
            losses = []
            for step in range(1, 40):
                images, labels = rng.integers(-8, 9, (32, 1, 8, 8)).astype(np.float32), rng.integers(0, 10, 32)
                losses.append(training.take(passes.place(plan, images, backend), labels, 0.02 / step, step))
            results.append((losses, {name: backend.to_numpy(a).tobytes() for name, a in training.params.items()}))
        TritonBackend.move = direct
        print(f"{'recorded' if graph else 'eager'}: same bits {results[0] == results[1]}")
        worst |= results[0] != results[1]
    return int(worst)


CHECKS = {check.__name__: check for check in (ceilings, warm, bits, streams)}


def main(arguments=None):
    """Run one check; return the exit code, 1 if bits differ."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("check", choices=CHECKS)
    parser.add_argument("--device", default="cuda:0")
    parser.add_argument("--net", default="paper")
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--precision", default=None)
    options = parser.parse_args(arguments)
    return CHECKS[options.check](options) or 0


if __name__ == "__main__":
    raise SystemExit(main())
