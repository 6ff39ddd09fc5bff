"""The audit of compiled kernels finds what it looks for, and the floor counts what it says.

Both need Triton as a compiler, which the process of ``nox -s tests-triton`` has as an interpreter: they run in others.
"""

import json
import subprocess
import sys

import pytest

MUTANTS = """
import json
from dataclasses import replace
from refnet import nets
from refnet.network.fuse import fuse
from refnet_triton import _configs, audit
from refnet_triton._configs import product

steps = audit.step_launches(fuse(nets.get("paper").plan(2)), 128, "sm_90", "tf32")
right = next(l for l in steps if l.kernel.__name__ == "multiply" and l.constants["K"] == 192)


def mutant(of=right, **changed):
    return replace(of, constants={**of.constants, **changed})


flat = next(l for l in steps if l.kernel.__name__ == "add")
gradients = next(l for l in steps if l.kernel.__name__ == "correlate" and l.constants["K"] == 192)
# 256 sums for each thread of a single warp, which has 255 registers.
crowded = replace(mutant(PRECISION="ieee", BLOCK_M=128, BLOCK_D=16), config=product(128, 64, 16, 1, 3))
candidates = {
    "right": right,
    "spilled": crowded,
    "shared": replace(mutant(BLOCK_K=128), config=product(128, 128, 32, 8, 8)),
    "unaligned": mutant(ROW=right.constants["ROW"] + 1),
    "rounded": right,
    "exact": mutant(PRECISION="ieee", BLOCK_M=64, BLOCK_D=16),
    "flat": flat,
    "gradients": gradients,
    "conflicts": mutant(gradients, PRECISION="tf32"),
    "odd pointers": replace(flat, arguments={**flat.arguments, "SIZE": 1601}),
}
found = {name: audit.audit(launch, "sm_90") for name, launch in candidates.items()}
found["rounded"] = replace(found["rounded"], precision="ieee")
found["exact"] = replace(found["exact"], precision="tf32")
found["odd pointers"] = replace(found["odd pointers"], excuse="")
print(json.dumps({name: list(report.breaches()) for name, report in found.items()}))
"""


@pytest.fixture
def compiler(monkeypatch):
    """Run something in a process in which Triton compiles; return its exit code and what it printed."""
    monkeypatch.delenv("TRITON_INTERPRET")

    def run(*arguments):
        done = subprocess.run([sys.executable, *arguments], check=False, capture_output=True, text=True)
        assert not done.stderr, done.stderr
        return done.returncode, done.stdout

    return run


def test_a_kernel_that_is_not_as_it_should_be_is_a_breach(compiler):
    code, printed = compiler("-c", MUTANTS)
    assert code == 0
    breaches = json.loads(printed)
    assert breaches.pop("right") == breaches.pop("flat") == breaches.pop("gradients") == []
    for name, words in {
        "spilled": "are spilled to memory",
        "shared": "bytes of shared memory, where the chip has 232448",
        "unaligned": "narrow loads",
        "rounded": "HGMMA, which rounds what it multiplies",
        "exact": "no tensor-core instruction, although it multiplies in tf32",
        "conflicts": "16 times as long as without bank conflicts",
        "odd pointers": "narrow loads",
    }.items():
        assert any(words in breach for breach in breaches[name]), (name, breaches[name])


LIMITED = """
import sys
from refnet.nets import NetSpec
from refnet_triton import audit
audit.SHARED["sm_90"] = 1000
audit._offsets.large = lambda architecture: []
audit.launches = lambda architecture, *, every: [
    launch for launch in audit._audited(architecture) + audit.step_launches(
        NetSpec("digits").plan(), 32, architecture, "tf32"
    ) if launch.kernel.__name__ in {"correlate", "relu_forward"}
][:3]
sys.exit(audit.main(["sm_90", *sys.argv[1:]]))
"""


def test_a_breach_is_printed_and_ends_with_exit_code_1(compiler):
    code, printed = compiler("-c", LIMITED)
    assert code == 1
    assert "BREACH sm_90 correlate bf16x3" in printed
    assert "relu_forward" in printed
    code, printed = compiler("-c", LIMITED, "--json")
    assert code == 1
    found = json.loads(printed)
    assert len(found["kernels"]) == 3
    assert len(found["breaches"]) == 2


WIDE = """
import json
import torch
import triton
import triton.language as tl
from refnet_triton import _offline, _offsets
from refnet_triton._configs import Config
from refnet_triton._launch import Launch


@triton.jit
def right(x, SIZE, BLOCK: tl.constexpr):
    i = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    tl.store(x + i, i * 7 % 5, mask=i < SIZE)


@triton.jit
def narrow(x, SIZE, BLOCK: tl.constexpr):
    i = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    tl.store(x + i, 1.0, mask=i < SIZE)


@triton.jit
def widened_too_late(x, SIZE, BLOCK: tl.constexpr):
    i = (tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)).to(tl.int64)
    tl.store(x + i, 1.0, mask=i < SIZE)


@triton.jit
def masked_by_less(x, SIZE, BLOCK: tl.constexpr):
    i = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    tl.store(x + i, 1.0, mask=tl.program_id(0) * BLOCK + tl.arange(0, BLOCK) < SIZE)


@triton.jit
def in_a_loop(x, SIZE, BLOCK: tl.constexpr):
    for step in range(tl.program_id(0), tl.program_id(0) + 1):
        i = step * BLOCK + tl.arange(0, BLOCK)
        tl.store(x + i, 1.0, mask=i < SIZE)


@triton.jit
def of_a_loaded(x, SIZE, BLOCK: tl.constexpr):
    i = tl.load(x).to(tl.int32) * BLOCK + tl.arange(0, BLOCK)
    tl.store(x + i, 1.0, mask=i < SIZE)


@triton.jit
def random(x, SIZE, BLOCK: tl.constexpr):
    i = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    word = (tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)) * 1103515245 + 12345
    tl.store(x + i, tl.where(word.to(tl.uint32) > SIZE.to(tl.uint32), 1.0, 2.0), mask=i < SIZE)


found = {}
for kernel in (right, narrow, widened_too_late, masked_by_less, in_a_loop, of_a_loaded, random):
    for size in (2**31, 2**31 + 1):
        programs = -(-size // 1024)
        arguments = {"x": torch.empty(size, device="meta"), "SIZE": size}
        launch = Launch(kernel, arguments, {"BLOCK": 1024}, Config(), (programs,))
        text = _offline.lowered(launch, "sm_90")
        found.setdefault(kernel.__name__, []).append(list(_offsets.overflows(text, launch)))
print(json.dumps(found))
"""


def test_a_number_that_overflows_on_its_way_to_an_address_is_a_breach(compiler, tmp_path):
    """Each kernel writes 2^31 numbers, whose last index 32 bits hold, and one more."""
    script = tmp_path / "wide.py"  # Triton reads the source of a kernel from its file
    script.write_text(WIDE)
    code, printed = compiler(str(script))
    assert code == 0
    found = json.loads(printed)
    assert found.pop("right") == found.pop("random") == [[], []]
    assert "nothing is known of what arith.fptosi makes" in found.pop("of_a_loaded")[0][0]
    for name, (fits, beyond) in found.items():
        assert fits == [], name
        assert "which 32 bits do not hold" in beyond[0], name


EVERY = """
import importlib, pkgutil
import refnet_triton
from triton.runtime.jit import JITFunction
from refnet_triton import audit
written = {
    name
    for module in pkgutil.iter_modules(refnet_triton.__path__)
    for name, value in vars(importlib.import_module(f"refnet_triton.{module.name}")).items()
    if isinstance(value, JITFunction) and value.module == f"refnet_triton.{module.name}"
}
print(sorted(written - {launch.kernel.__name__ for launch in audit.launches("sm_90")}))
"""


def test_every_kernel_is_audited(compiler):
    _, printed = compiler("-c", EVERY)
    parts = "block_of_windows count draw offsets part_start pixels power rounded wide"  # of kernels, never launched
    assert printed.strip() == str(parts.split())


def test_an_architecture_that_is_not_known(monkeypatch):
    monkeypatch.delenv("TRITON_INTERPRET")
    done = subprocess.run(
        [sys.executable, "-m", "refnet_triton.audit", "sm_70"], check=False, capture_output=True, text=True
    )
    assert done.returncode == 2
    assert "sm_70 is not one of sm_80, sm_90, sm_100, gfx942" in done.stderr


MEASURED = """
import sys
from refnet.backend.reference import NumpyBackend
from refnet_triton import TritonBackend, _measured, floor


def backend(columns, devices, **options):
    return NumpyBackend(columns) if devices == ("cuda:0",) else TritonBackend(columns, devices, **options)


# NumPy stands in for the card, on which every call takes a thousandth of a second.
floor.TritonBackend, floor.card, _measured.graph_seconds = backend, lambda: "card", lambda call: 1e-3
sys.exit(floor.main(["--measure", "--batch", "2", *sys.argv[1:]]))
"""


def test_every_row_of_the_floor_is_measured(compiler):
    """The same names on paper and on the card, so that no call is left out."""
    code, printed = compiler("-c", MEASURED, "--json")
    assert code == 0
    rows = {row["what"]: row["measured"] for row in json.loads(printed)}
    assert rows["sgd, all parameters"] == rows["norm1: lrn forward, 48x55x55"] == 0.002  # one call for each column
    assert rows["fc8: linear forward, 1000x4096"] == 0.001
    assert rows["addition of gradients"] == 0.006
    code, printed = compiler("-c", MEASURED)
    assert code == 0
    assert "| sgd, all parameters | 2000.0 | - | 364.0 | 18 | 0.0 | 610 | 1636.0 |" in printed
    assert "on one card; lower bounds are those of an H100 SXM" in printed


MODELLED = """
import json
from refnet.nets import NetSpec
from dataclasses import replace
from refnet_triton import _model
from refnet_triton._offline import step_launches

launches = step_launches(NetSpec("paper").plan(), 128, "sm_90", "tf32")
split = next(launch for launch in launches if launch.kernel.__name__ == "correlate" and launch.constants["K"] == 192)
plain = replace(split, constants={**split.constants, "PRECISION": "tf32"})
tall = replace(split, programs=(132 * split.programs[0], *split.programs[1:]))
add = next(launch for launch in launches if launch.kernel.__name__ == "add")
chosen = {"split": split, "plain": plain, "tall": tall, "add": add}
print(json.dumps({name: _model.seconds(launch, 10**9) for name, launch in chosen.items()}))
"""


def test_the_model_counts_conflicts_waves_and_bytes(compiler):
    code, printed = compiler("-c", MODELLED)
    assert code == 0
    seconds = {name: value - 3e-6 for name, value in json.loads(printed).items()}
    assert seconds["plain"] > 1.5 * seconds["split"]  # the bank conflicts of tf32
    assert seconds["tall"] > 10 * seconds["split"]
    assert seconds["add"] == pytest.approx(1e9 / 6.2e12)


def test_the_floor_counts_the_products_of_the_summary(compiler):
    code, printed = compiler("-m", "refnet_triton.floor", "--batch", "4", "--json")
    rows = json.loads(printed)
    names = {row["what"] for row in rows}
    assert {"conv1: conv2d_relu backward, 48x3x11x11", "pool1: maxpool backward, 48x55x55"} < names
    assert {"drop6, drop7: dropout forward, 2048", "softmax_xent forward"} < names
    of_layers = sum(":" in name for name in names)
    assert of_layers == len(names) - 4  # all but the loss and its gradient, the update and the addition of gradients
    macs = 724_406_816 * 3 - 105_415_200  # of an image; the gradient of the pixels is not computed
    assert code == 0
    assert sum(row["flops"] for row in rows) == 2 * 4 * macs
    (sgd,) = (row for row in rows if row["what"].startswith("sgd"))
    assert sgd["must"] == sgd["asked"] == 5 * 4 * 60_965_224  # w, v and g are read, w and v written
    assert sgd["launches"] == 2  # one for each column
    assert all(row["asked"] >= row["must"] * 0.9 for row in rows if row["flops"])
