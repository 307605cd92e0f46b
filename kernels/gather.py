"""Samples that lie apart as one planar batch, in one launch: their addresses come in a table.

What hands images out one by one (DALI's Python operators) has them in memory of its own, at any
address; a stack and a permutation would be two launches and the batch's bytes twice over.
"""

from __future__ import annotations

import triton
import triton.language as tl
from torch import Tensor

# 4 pixels a thread: a warp's bytes of one channel then lie within three cache lines, and its stores
# fill one. With 16 the stores were wider and the loads touched twelve lines.
TILE_PIXELS = 512
WARPS = 4


@triton.jit(do_not_specialize=["tiles"])
def gather_kernel(
    out, table, numel, tiles, C: tl.constexpr, INTERLEAVED: tl.constexpr, BLOCK: tl.constexpr
):
    """One stretch of pixels of one sample; out ``[B, C, numel]``, table int64 ``[B]``."""
    program = tl.program_id(0)
    b = (program // tiles).to(tl.int64)
    pix = (program % tiles) * BLOCK + tl.arange(0, BLOCK)
    ok = pix < numel
    sample = tl.load(table + b).to(tl.pointer_type(out.dtype.element_ty))
    for channel in tl.static_range(C):
        if INTERLEAVED:
            value = tl.load(sample + pix * C + channel, mask=ok, other=0)
        else:
            value = tl.load(sample + channel * numel + pix, mask=ok, other=0)
        tl.store(out + (b * C + channel) * numel + pix, value, mask=ok)


def launch(out: Tensor, table: Tensor, interleaved: bool, pixels: int = TILE_PIXELS) -> None:
    """Write a batch of samples.

    Args:
        out: ``[B, C, H, W]``, contiguous.
        table: int64 ``[B]``, on the same device: where each sample begins, of ``out``'s dtype,
            dense, ``[H, W, C]`` if interleaved, else ``[C, H, W]``.
        interleaved: Which of the two.
        pixels: Pixels per tile, a power of two.
    """
    batch, channels, height, width = out.shape
    numel = height * width
    block = min(pixels, triton.next_power_of_2(numel))
    tiles = triton.cdiv(numel, block)
    gather_kernel[(batch * tiles,)](
        out, table, numel, tiles, C=channels, INTERLEAVED=interleaved, BLOCK=block,
        num_warps=WARPS, enable_fp_fusion=False,
    )  # fmt: skip
