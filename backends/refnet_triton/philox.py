"""Random numbers as a pure function; see :mod:`refnet.ops.philox`."""

from typing import Any

import torch
import triton
import triton.language as tl

from refnet.ops.philox import MULTIPLIERS, ROUNDS, WEYL, Counter, Key
from refnet_triton import _memory
from refnet_triton._configs import Config
from refnet_triton._launch import cdiv, launch, table
from refnet_triton._scalars import STEP, hold, signed

# Kernels whose narrow loads are allowed, with the reason's name in audit.py.
EXCUSES = {"philox_bits": "one"}

M0, M1 = (tl.constexpr(m) for m in MULTIPLIERS)
W0, W1 = (tl.constexpr(w) for w in WEYL)
TIMES = tl.constexpr(ROUNDS)


def bits(samples: int, features: int, *, key: Key, counter: Counter, device: torch.device) -> torch.Tensor:
    """Return one random 32-bit word for each feature of each sample: uint32 (samples, features)."""
    words = _memory.empty((samples, features), torch.uint32, device)
    programs, config, blocks = grid(samples, features, counter, device)
    launch(philox_bits, programs, words, samples, features, *arguments(key, counter, device), config=config, **blocks)
    return words


def grid(
    samples: int, features: int, counter: Counter, device: torch.device
) -> tuple[tuple[int, int], Config, dict[str, int]]:
    """Return the grid of programs over samples and blocks of four features, its configuration and its constants."""
    config = table(device).configs["philox"]
    blocks = cdiv(counter[3] % 4 + features, 4)
    fitted = config.fit(N=samples, B=blocks)
    skip = {"SKIP": counter[3] % 4}
    return (cdiv(samples, fitted["BLOCK_N"]), cdiv(blocks, fitted["BLOCK_B"])), config, {**skip, **fitted}


def arguments(key: Key, counter: Counter, device: torch.device) -> list[Any]:
    """Return key and counter as kernels take them: signed 32-bit words, the step in memory, the first block."""
    step, layer, sample, feature = counter
    k0, k1, layer, sample, first = (signed(word) for word in (*key, layer, sample, feature // 4))
    return [k0, k1, hold(STEP, signed(step), device), layer, sample, first]


def audited(backend: Any, x: torch.Tensor) -> None:
    """Launch, for the audit, what a training step of the paper's network does not."""
    backend.philox.bits(x.shape[0], 4096, key=(0, 0), counter=(0, 0, 0, 0))


@triton.jit
def draw(k0, k1, step, layer, sample, first, SKIP: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_B: tl.constexpr):
    """Return the words of a program's samples and features, uint32 (BLOCK_N, 4*BLOCK_B), with the indices of both."""
    # 1. One counter for each sample (BLOCK_N, 1) and block of four features (1, BLOCK_B).
    n = (tl.program_id(0) * BLOCK_N + tl.arange(0, BLOCK_N))[:, None]
    block = (tl.program_id(1) * BLOCK_B + tl.arange(0, BLOCK_B))[None, :]
    nothing = tl.zeros((BLOCK_N, BLOCK_B), tl.uint32)
    c0, c1 = nothing + (first + block).to(tl.uint32), nothing + (sample + n).to(tl.uint32)
    c2, c3 = nothing + layer.to(tl.uint32), nothing + tl.load(step).to(tl.uint32)
    k0, k1 = nothing + k0.to(tl.uint32), nothing + k1.to(tl.uint32)
    m0, m1 = nothing + M0, nothing + M1
    # 2. Ten rounds.
    for _ in tl.static_range(TIMES):
        c0, c1, c2, c3 = tl.umulhi(c2, m1) ^ c1 ^ k0, c2 * m1, tl.umulhi(c0, m0) ^ c3 ^ k1, c0 * m0
        k0, k1 = k0 + W0, k1 + W1
    # 3. The four words of a block belong to four neighbouring features.
    words = tl.reshape(tl.join(tl.join(c0, c2), tl.join(c1, c3)), (BLOCK_N, 4 * BLOCK_B))
    f = tl.program_id(1) * (4 * BLOCK_B) + tl.arange(0, 4 * BLOCK_B) - SKIP
    return words, n.to(tl.int64), f[None, :]


@triton.jit(do_not_specialize=["k0", "k1", "layer", "sample", "first"])
def philox_bits(
    words, N, F, k0, k1, step, layer, sample, first, SKIP: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_B: tl.constexpr
):
    """words[n,f] = the word of feature f of sample n."""
    # 1. Words (BLOCK_N, 4*BLOCK_B), samples (BLOCK_N, 1) and features (1, 4*BLOCK_B); the first SKIP are not used.
    drawn, n, f = draw(k0, k1, step, layer, sample, first, SKIP, BLOCK_N, BLOCK_B)
    # 2. Store the words of samples and features that exist.
    tl.store(words + n * F + f, drawn, mask=(n < N) & (f >= 0) & (f < F))
