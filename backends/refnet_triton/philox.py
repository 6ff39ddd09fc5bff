"""Random numbers as a pure function; see :mod:`refnet.ops.philox`.

One counter gives the four words of four neighbouring features. A program draws the words of BLOCK_N samples and BLOCK_B
such groups of four features: grid (blocks of samples, blocks of groups).
"""

from typing import Any

import torch
import triton
import triton.language as tl

from refnet.ops.philox import MULTIPLIERS, ROUNDS, WEYL, Counter, Key
from refnet_triton import _memory
from refnet_triton._configs import Config
from refnet_triton._launch import cdiv, launch, table
from refnet_triton._scalars import STEP, hold, signed

# Kernels that may have narrow loads, each with its reason: a key of audit.REASONS.
EXCUSES = {"philox_bits": "one"}

M0, M1 = (tl.constexpr(m) for m in MULTIPLIERS)
W0, W1 = (tl.constexpr(w) for w in WEYL)
ROUND_COUNT = tl.constexpr(ROUNDS)


def bits(samples: int, features: int, *, key: Key, counter: Counter, device: torch.device) -> torch.Tensor:
    """Return one random 32-bit word for each feature of each sample: uint32 (samples, features)."""
    words = _memory.empty((samples, features), torch.uint32, device)
    programs, config, blocks = grid(samples, features, counter, device)
    launch(philox_bits, programs, words, samples, features, *arguments(key, counter, device), config=config, **blocks)
    return words


def grid(
    samples: int, features: int, counter: Counter, device: torch.device
) -> tuple[tuple[int, int], Config, dict[str, int]]:
    """Return the grid of programs, the kernel's configuration, and its constants.

    SKIP is the number of features in the first group of four that come before the counter's first feature.
    """
    config = table(device).configs["philox"]
    skip = counter[3] % 4
    groups = cdiv(skip + features, 4)
    blocks = config.fit(N=samples, B=groups)
    return (cdiv(samples, blocks["BLOCK_N"]), cdiv(groups, blocks["BLOCK_B"])), config, {"SKIP": skip, **blocks}


def arguments(key: Key, counter: Counter, device: torch.device) -> list[Any]:
    """Return key and counter as kernels take them: signed 32-bit words, the step in device memory, the first group."""
    step, layer, sample, feature = counter
    k0, k1, layer, sample, first = (signed(word) for word in (*key, layer, sample, feature // 4))
    return [k0, k1, hold(STEP, signed(step), device), layer, sample, first]


def audited(backend: Any, x: torch.Tensor) -> None:
    """Launch, for the audit, the kernels that a training step of the paper's network does not use."""
    backend.philox.bits(x.shape[0], 4097, key=(0, 0), counter=(0, 0, 0, 3))


@triton.jit
def draw(k0, k1, step, layer, sample, first, SKIP: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_B: tl.constexpr):
    """Return the words of a program's samples and features, uint32 (BLOCK_N, 4*BLOCK_B), and the indices of both."""
    # 1. One counter for each sample (BLOCK_N, 1) and group of four features (1, BLOCK_B).
    n = (tl.program_id(0) * BLOCK_N + tl.arange(0, BLOCK_N))[:, None]
    group = (tl.program_id(1) * BLOCK_B + tl.arange(0, BLOCK_B))[None, :]
    zeros = tl.zeros((BLOCK_N, BLOCK_B), tl.uint32)
    c0, c1 = zeros + (first + group).to(tl.uint32), zeros + (sample + n).to(tl.uint32)
    c2, c3 = zeros + layer.to(tl.uint32), zeros + tl.load(step).to(tl.uint32)
    k0, k1 = zeros + k0.to(tl.uint32), zeros + k1.to(tl.uint32)
    m0, m1 = zeros + M0, zeros + M1
    # 2. Ten rounds.
    for _ in tl.static_range(ROUND_COUNT):
        c0, c1, c2, c3 = tl.umulhi(c2, m1) ^ c1 ^ k0, c2 * m1, tl.umulhi(c0, m0) ^ c3 ^ k1, c0 * m0
        k0, k1 = k0 + W0, k1 + W1
    # 3. The four words of a counter belong to four neighbouring features.
    words = tl.reshape(tl.join(tl.join(c0, c2), tl.join(c1, c3)), (BLOCK_N, 4 * BLOCK_B))
    f = tl.program_id(1) * (4 * BLOCK_B) + tl.arange(0, 4 * BLOCK_B) - SKIP
    return words, n.to(tl.int64), f[None, :]


@triton.jit(do_not_specialize=["k0", "k1", "layer", "sample", "first"])
def philox_bits(
    words, N, F, k0, k1, step, layer, sample, first, SKIP: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_B: tl.constexpr
):
    """words[n,f] = the random word of feature f of sample n."""
    # 1. Words (BLOCK_N, 4*BLOCK_B), samples (BLOCK_N, 1) and features (1, 4*BLOCK_B); the first SKIP are not used.
    drawn, n, f = draw(k0, k1, step, layer, sample, first, SKIP, BLOCK_N, BLOCK_B)
    # 2. Store the words of samples and features that exist.
    tl.store(words + n * F + f, drawn, mask=(n < N) & (f >= 0) & (f < F))
