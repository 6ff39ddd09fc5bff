"""Kernels for a chip that this machine does not have: list the launches of a training step, and compile their kernels.

No GPU is needed. Triton must have been imported for GPUs, not as the interpreter.
"""

from importlib import import_module
from typing import Any

import numpy as np

from refnet.network.plan import Plan
from refnet.ops import OPS
from refnet.training.step import TrainingStep
from refnet_triton import TritonBackend, _launch
from refnet_triton._launch import Launch


def step_launches(plan: Plan, batch: int, architecture: str, precision: str) -> list[Launch]:
    """Return the launches of one training step, in order. Arrays have no memory, so this is fast for all sizes."""
    with _launch.trace(architecture) as launches:
        take_step(plan, batch, TritonBackend(plan.columns, ("meta",), precision=precision))
    return launches


def take_step(plan: Plan, batch: int, backend: Any) -> None:
    """Take one training step with arrays that have no memory, on a backend (or a wrapper of it) with device "meta"."""
    params, velocities = (
        {name: backend.memory.empty(shape, device="meta") for name, shape in plan.param_shapes().items()}
        for _ in range(2)
    )
    images = [backend.memory.empty((batch, *plan.input_shape), device="meta")] * plan.columns
    labels = backend.asarray(np.zeros(batch, np.int64))
    training = TrainingStep(plan, backend, params, velocities)
    _, kept = training.forward(images, labels, step=1)
    training.update(training.backward(kept), lr=0.01)


def launch_audited(backend: Any, x: Any) -> None:
    """Call the function ``audited`` of every op that has one. It launches the kernels that a step of `paper` does not.

    Parameters
    ----------
    backend
        A backend with one column on device "meta".
    x
        The input of the ops, (N,C,H,W).
    """
    for op in OPS:
        module: Any = import_module(f"refnet_triton.{op}")
        if "audited" in vars(module):
            module.audited(backend, x)


def different(launches: list[Launch]) -> list[Launch]:
    """Return one launch for each different compiled kernel."""
    return list({launch.key(): launch for launch in launches}.values())


def compiled(launch: Launch, architecture: str) -> Any:
    """Return the kernel of a launch compiled for an architecture: Triton's ``CompiledKernel``, with its ``asm``."""
    from triton.compiler import compile  # noqa: A004, PLC0415

    source, target, options = _compiler_arguments(launch, architecture)
    return compile(source, target=target, options=options)


def lowered(launch: Launch, architecture: str) -> str:
    """Return the kernel of a launch in Triton's first intermediate language, TTIR."""
    from triton._C.libtriton import ir  # noqa: PLC0415
    from triton.compiler import make_backend  # noqa: PLC0415

    source, target, options = _compiler_arguments(launch, architecture)
    backend = make_backend(target)
    parsed, context = backend.parse_options(options), ir.context()
    stages: dict[str, Any] = {}
    ir.load_dialects(context)
    backend.load_dialects(context)
    backend.add_stages(stages, parsed, source.language)
    functions, modules = backend.get_codegen_implementation(parsed), backend.get_module_map()
    module = source.make_ir(target, parsed, functions, modules, context)
    return str(stages["ttir"](module, {}))


def _compiler_arguments(launch: Launch, architecture: str) -> tuple[Any, Any, dict[str, Any]]:
    """Return the arguments of Triton's compiler: source, target and options."""
    from triton.backends.compiler import GPUTarget  # noqa: PLC0415
    from triton.compiler import ASTSource  # noqa: PLC0415

    amd = architecture.startswith("gfx")
    target = GPUTarget("hip", architecture, 64) if amd else GPUTarget("cuda", int(architecture[3:]), 32)
    source = ASTSource(launch.kernel, launch.signature(), launch.constants, launch.attributes())
    return source, target, {"num_warps": launch.config.warps, "num_stages": launch.config.stages}
