"""Wavefronts of accesses to shared memory, counted in PTX, for patterns whose bank conflicts are known.

Collected only where ``TRITON_INTERPRET`` is set, by ``nox -s tests-triton``.
"""

import numpy as np
import pytest
from refnet_triton._banks import LANES, Access, accesses, wavefronts

LANE = np.arange(LANES)


@pytest.mark.parametrize(
    ("starts", "width", "expected"),
    [
        (4 * LANE, 4, 1),  # neighbouring words
        (0 * LANE, 4, 1),  # one word for all is broadcast
        (8 * LANE, 4, 2),  # every other bank
        (128 * LANE, 4, 32),  # all in one bank
        (132 * LANE, 4, 1),  # rows padded by a word
        (16 * LANE, 16, 4),  # 512 bytes take four wavefronts at best
        (128 * LANE, 16, 32),  # eight lanes together, all in the same four banks
        (8 * LANE, 8, 2),
        (2 * LANE, 2, 1),  # two lanes in a word
        (128 * (LANE % 8) + 16 * (LANE // 8), 16, 32),
        (128 * (LANE % 8) + 16 * (LANE // 8 ^ LANE % 8), 16, 4),  # the swizzle that avoids it
    ],
)
def test_wavefronts(starts, width, expected):
    assert wavefronts(starts.astype(np.int64), width) == expected


PTX = """
    mov.u32 \t%r1, %tid.x;
    shl.b32 \t%r2, %r1, 5;
    bfe.u32 \t%r3, %r1, 1, 2;
    mov.b32 \t%r4, global_smem;
    add.s32 \t%r5, %r4, %r2;
    xor.b32 \t%r6, %r2, 8;
    mad.lo.s32 \t%r7, %r1, 4, %r4;
    ld.global.b32 \t%r8, [%rd1 + 0];
    add.s32 \t%r9, %r4, %r8;
    setp.lt.s32 \t%p1, %r1, 16;
    selp.b32 \t%r10, %r7, %r4, %p1;
    st.shared.b32 \t[ %r5 + 0 ], %r8;
    st.shared.v4.b32 \t[ %r7 + 1024 ], { %r8, %r8, %r8, %r8 };
    @%p1 ld.shared.v2.b32 {%r11, %r12}, [ %r6 + 8 ];
    cp.async.cg.shared.global \t[ %r7 + 0 ], [ %rd1 + 0 ], 0x10, %r8;
    st.shared.b32 \t[ %r9 + 0 ], %r8;
    ld.shared.b32 \t%r13, [%r10+4];
    add.s32 \t%r5, %r5, %r8;
    ld.shared.b32 \t%r13, [%r5];
    mov.b64 \t{%r14, %r7}, %rd1;
    ld.shared.b32 \t%r13, [%r7];
"""


def test_addresses_are_followed_from_the_lane_to_the_access():
    assert list(accesses(PTX)) == [
        Access("store", 4, 8, 1),  # 32 bytes apart: 4 of 32 banks
        Access("store", 16, 4, 4),
        Access("load", 8, 8, 2),
        Access("copy", 16, 4, 4),
        None,  # its address comes from memory
        Access("load", 4, 1, 1),
        None,  # so does this, which is written to a register that was known before
        None,  # and this is half of a wider register
    ]


def test_matrix_stores():
    rows = "mov.u32 %r1, %tid.x;\n shl.b32 %r2, %r1, {shift};\n"
    store = "stmatrix.sync.aligned.m8n8.x4.shared.b16 [%r2], {{%r3, %r4, %r5, %r6}};"
    (straight,) = accesses((rows + store).format(shift=4))
    (apart,) = accesses((rows + store).format(shift=7))
    assert (straight.kind, straight.ways, apart.ways) == ("store", 1, 8)
