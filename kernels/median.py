"""The median of a disc around each pixel, by its bits: no sort, no memory.

The 31 bits of a float >= 0 are ordered as the float is. From the highest down, a bit of the median
is set if at most half of the neighbours lie below what it is then.
"""

from __future__ import annotations

import triton
import triton.language as tl
from torch import Tensor

# One a thread: the compiler then holds all neighbours of the disc in registers.
TILE_PIXELS = 128
WARPS = 4


@triton.jit
def near(values, b, y, x, H, W):
    """Bits of the pixel that counts at a place, which may be beyond the image."""
    y = tl.minimum(tl.maximum(y, 0), H - 1)
    x = tl.minimum(tl.maximum(x, 0), W - 1)
    return tl.load(values + b * H * W + y * W + x).to(tl.int32, bitcast=True)


@triton.jit
def median_kernel(
    values, out, H, W, tiles_x, tiles, RADIUS: tl.constexpr, HALF: tl.constexpr,
    BY: tl.constexpr, BX: tl.constexpr,
):  # fmt: skip
    """One tile of one image; values and out float32 ``[B, 1, H, W]``, contiguous, >= 0."""
    program = tl.program_id(0)
    b = (program // tiles).to(tl.int64)
    tile = program % tiles
    y = (tile // tiles_x) * BY + tl.arange(0, BY)[:, None]
    x = (tile % tiles_x) * BX + tl.arange(0, BX)[None, :]
    positive = tl.zeros((BY, BX), tl.int32)
    for dy in tl.static_range(-RADIUS, RADIUS + 1):
        for dx in tl.static_range(-RADIUS, RADIUS + 1):
            if dy * dy + dx * dx <= RADIUS * RADIUS:
                positive += (near(values, b, y + dy, x + dx, H, W) > 0).to(tl.int32)
    found = tl.zeros((BY, BX), tl.int32)
    # Most of an image is 0 with all its neighbours.
    if tl.max(positive) > HALF:
        for step in range(31):
            trial = found | (1 << (30 - step))
            below = tl.zeros((BY, BX), tl.int32)
            for dy in tl.static_range(-RADIUS, RADIUS + 1):
                for dx in tl.static_range(-RADIUS, RADIUS + 1):
                    if dy * dy + dx * dx <= RADIUS * RADIUS:
                        below += (near(values, b, y + dy, x + dx, H, W) < trial).to(tl.int32)
            found = tl.where(below <= HALF, trial, found)
    ok = (y < H) & (x < W)
    tl.store(out + b * H * W + y * W + x, found.to(tl.float32, bitcast=True), mask=ok)


def launch(out: Tensor, values: Tensor, radius: int, count: int, pixels: int) -> None:
    """Write the medians of discs.

    Args:
        out: float32 ``[B, 1, H, W]``, contiguous.
        values: Likewise, >= 0, without NaN.
        radius: Of the disc.
        count: Pixels of the disc, an odd number.
        pixels: Pixels per tile.
    """
    batch, _, height, width = values.shape
    bx = min(32, triton.next_power_of_2(width))
    by = max(1, min(pixels // bx, triton.next_power_of_2(height)))
    tiles_x = triton.cdiv(width, bx)
    tiles = tiles_x * triton.cdiv(height, by)
    median_kernel[(batch * tiles,)](
        values, out, height, width, tiles_x, tiles, RADIUS=radius, HALF=count // 2,
        BY=by, BX=bx, num_warps=WARPS,
    )  # fmt: skip
