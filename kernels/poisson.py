"""Poisson correction: the guidance field in one launch, and laying the correction back.

Rectangles and windows are those of ``reference/poisson.py``.
"""

from __future__ import annotations

import triton
import triton.language as tl
from torch import Tensor

from .render import WARPS, interleaved, load_value, store_value, tile_shape

# Two pixels a thread: with one, the compiler aims at fewer registers and spills.
TILE_PIXELS = 256

EROSION = tl.constexpr(3)
UNIT = tl.constexpr(1.0 / 255.0)


@triton.jit
def weigh(sx, sy, dx, dy, inner, MIXED: tl.constexpr):
    """The weighted difference of two gradients, by components."""
    if MIXED:
        inner = tl.where(tl.abs(sx - sy) > tl.abs(dx - dy), inner, 0.0)
    return inner * (sx - dx), inner * (sy - dy)


@triton.jit
def load_float(image, b, channel, pix, numel, ok, C: tl.constexpr, NHWC: tl.constexpr):
    """One channel of an image as float32."""
    return load_value(image, b, channel, pix, numel, ok, C, NHWC).to(tl.float32)


# Values that vary without a better kernel for them.
@triton.jit(do_not_specialize=["tiles_x", "tiles"])
def guidance_kernel(
    destination, source, weight, rects, out, H, W, rows, columns, tiles_x, tiles,
    MIXED: tl.constexpr, C: tl.constexpr, DST_NHWC: tl.constexpr, SRC_NHWC: tl.constexpr,
    BY: tl.constexpr, BX: tl.constexpr,
):  # fmt: skip
    """Divergence of the weighted gradient difference in one tile of one window.

    Shapes: destination and source ``[B, C, H, W]`` (planar or interleaved), weight ``[B, 1, H, W]``
    uint8 or float32, rects int32 ``[b, 5]``, out float32 ``[b, rows, C, columns]``.
    """
    program = tl.program_id(0)
    n = (program // tiles).to(tl.int64)
    tile = program % tiles
    b = tl.load(rects + n * 5).to(tl.int64)
    top = tl.load(rects + n * 5 + 1)
    left = tl.load(rects + n * 5 + 2)
    tall = tl.load(rects + n * 5 + 3)
    wide = tl.load(rects + n * 5 + 4)
    numel = H * W
    iy = (tile // tiles_x) * BY + tl.arange(0, BY)[:, None]
    ix = (tile % tiles_x) * BX + tl.arange(0, BX)[None, :]
    y = top + 1 + iy
    x = left + 1 + ix
    ok = (iy < tall - 2) & (ix < wide - 2)
    pix = y * W + x
    # The eroded weight here, one to the left and one above, out of one 8 x 8 neighbourhood.
    columns_ok = ()
    for dx in tl.static_range(-EROSION - 1, EROSION + 1):
        columns_ok = columns_ok + ((ix + (dx + 1) >= 0) & (ix + (dx + 1) < wide),)
    for dy in tl.static_range(-EROSION - 1, EROSION + 1):
        line_ok = (iy + (dy + 1) >= 0) & (iy + (dy + 1) < tall)
        line = weight + b * numel + (pix + dy * W)
        first = tl.load(line - (EROSION + 1), mask=line_ok & columns_ok[0], other=0)
        shared = tl.load(line - EROSION, mask=line_ok & columns_ok[1], other=0)
        for dx in tl.static_range(-EROSION + 1, EROSION):
            good = line_ok & columns_ok[dx + EROSION + 1]
            shared = tl.minimum(shared, tl.load(line + dx, mask=good, other=0))
        last = tl.load(line + EROSION, mask=line_ok & columns_ok[2 * EROSION + 1], other=0)
        first = tl.minimum(shared, first)
        last = tl.minimum(shared, last)
        if dy == -EROSION - 1:
            above = last
        elif dy == -EROSION:
            above = tl.minimum(above, last)
            here = last
            before = first
        else:
            if dy < EROSION:
                above = tl.minimum(above, last)
            here = tl.minimum(here, last)
            before = tl.minimum(before, first)
    here = here.to(tl.float32)
    before = before.to(tl.float32)
    above = above.to(tl.float32)
    some = tl.maximum(tl.maximum(here, before), above)
    if weight.dtype.element_ty == tl.uint8:
        here = here * UNIT
        before = before * UNIT
        above = above * UNIT
    base = out + (n * rows + iy) * C * columns + ix
    good = (iy < rows) & (ix < columns)
    if tl.max(tl.max(tl.where(ok, some, 0.0), axis=1), axis=0) > 0.0:
        for channel in range(C):
            d = load_float(destination, b, channel, pix, numel, ok, C, DST_NHWC)
            d_left = load_float(destination, b, channel, pix - 1, numel, ok, C, DST_NHWC)
            d_down_left = load_float(destination, b, channel, pix + W - 1, numel, ok, C, DST_NHWC)
            d_up = load_float(destination, b, channel, pix - W, numel, ok, C, DST_NHWC)
            d_up_right = load_float(destination, b, channel, pix - W + 1, numel, ok, C, DST_NHWC)
            d_right = load_float(destination, b, channel, pix + 1, numel, ok, C, DST_NHWC)
            d_down = load_float(destination, b, channel, pix + W, numel, ok, C, DST_NHWC)
            s = load_float(source, b, channel, pix, numel, ok, C, SRC_NHWC)
            s_left = load_float(source, b, channel, pix - 1, numel, ok, C, SRC_NHWC)
            s_down_left = load_float(source, b, channel, pix + W - 1, numel, ok, C, SRC_NHWC)
            s_up = load_float(source, b, channel, pix - W, numel, ok, C, SRC_NHWC)
            s_up_right = load_float(source, b, channel, pix - W + 1, numel, ok, C, SRC_NHWC)
            s_right = load_float(source, b, channel, pix + 1, numel, ok, C, SRC_NHWC)
            s_down = load_float(source, b, channel, pix + W, numel, ok, C, SRC_NHWC)
            gx, gy = weigh(s_right - s, s_down - s, d_right - d, d_down - d, here, MIXED)
            gx_left, _ = weigh(
                s - s_left, s_down_left - s_left, d - d_left, d_down_left - d_left, before, MIXED
            )
            _, gy_up = weigh(s_up_right - s_up, s - s_up, d_up_right - d_up, d - d_up, above, MIXED)
            value = (gx - gx_left) + (gy - gy_up)
            tl.store(base + channel * columns, tl.where(ok, value, 0.0), mask=good)
    else:
        for channel in range(C):
            tl.store(base + channel * columns, some * 0.0, mask=good)


@triton.jit(do_not_specialize=["tiles_x", "tiles"])
def paste_kernel(
    out, correction, weight, rects, H, W, rows, columns, tiles_x, tiles,
    PEAK: tl.constexpr, INTEGER: tl.constexpr, CONFINE: tl.constexpr,
    C: tl.constexpr, NHWC: tl.constexpr, BY: tl.constexpr, BX: tl.constexpr,
):  # fmt: skip
    """Add one tile of one window to its image, in place.

    Shapes: out ``[B, C, H, W]`` (planar or interleaved), correction float32
    ``[b, rows, C, columns]``, weight ``[B, 1, H, W]``, rects int32 ``[b, 5]``.
    """
    program = tl.program_id(0)
    n = (program // tiles).to(tl.int64)
    tile = program % tiles
    b = tl.load(rects + n * 5).to(tl.int64)
    iy = (tile // tiles_x) * BY + tl.arange(0, BY)[:, None]
    ix = (tile % tiles_x) * BX + tl.arange(0, BX)[None, :]
    numel = H * W
    pix = (tl.load(rects + n * 5 + 1) + 1 + iy) * W + tl.load(rects + n * 5 + 2) + 1 + ix
    ok = (iy < tl.load(rects + n * 5 + 3) - 2) & (ix < tl.load(rects + n * 5 + 4) - 2)
    if CONFINE:
        ok = ok & (tl.load(weight + b * numel + pix, mask=ok, other=0).to(tl.float32) > 0.0)
    base = correction + (n * rows + iy) * C * columns + ix
    for channel in range(C):
        value = load_value(out, b, channel, pix, numel, ok, C, NHWC).to(tl.float32)
        value = value + tl.load(base + channel * columns, mask=ok, other=0.0)
        value = tl.minimum(tl.maximum(value, 0.0), PEAK)
        if INTEGER:
            value = tl.floor(value)
        store_value(out, out, value, b, channel, pix, numel, ok, C, NHWC, False)


def _tiling(rows: int, columns: int, pixels: int) -> tuple[int, int, int, int]:
    """Rows and columns of a tile, tiles a row and tiles a window."""
    by, bx = tile_shape(rows, columns, pixels)
    by = min(by, triton.next_power_of_2(rows))
    tiles_x = triton.cdiv(columns, bx)
    return by, bx, tiles_x, tiles_x * triton.cdiv(rows, by)


def launch_guidance(
    out: Tensor,
    destination: Tensor,
    source: Tensor,
    weight: Tensor,
    rects: Tensor,
    mixed: bool,
    pixels: int = TILE_PIXELS,
) -> None:
    """Write the guidance field of some rectangles' windows.

    Args:
        out: float32 ``[b, rows, C, columns]``, contiguous.
        destination: ``[B, C, H, W]``, contiguous or channels_last.
        source: Like ``destination``, on its own account.
        weight: uint8 or float32 ``[B, 1, H, W]``, contiguous.
        rects: int32 ``[b, 5]``, contiguous.
        mixed: Whether the stronger of two gradients is taken.
        pixels: Pixels per tile.
    """
    _, channels, height, width = destination.shape
    windows, rows, _, columns = out.shape
    by, bx, tiles_x, tiles = _tiling(rows, columns, pixels)
    guidance_kernel[(windows * tiles,)](
        destination, source, weight, rects, out, height, width, rows, columns, tiles_x, tiles,
        MIXED=mixed, C=channels, DST_NHWC=interleaved(destination), SRC_NHWC=interleaved(source),
        BY=by, BX=bx, num_warps=WARPS, enable_fp_fusion=False,
    )  # fmt: skip


def launch_paste(
    out: Tensor,
    correction: Tensor,
    weight: Tensor,
    rects: Tensor,
    peak: float,
    confine: bool,
    pixels: int = TILE_PIXELS,
) -> None:
    """Add corrections to ``out`` in place; arguments as for ``reference.poisson.paste``."""
    _, channels, height, width = out.shape
    windows, rows, _, columns = correction.shape
    by, bx, tiles_x, tiles = _tiling(rows, columns, pixels)
    paste_kernel[(windows * tiles,)](
        out, correction, weight, rects, height, width, rows, columns, tiles_x, tiles,
        PEAK=peak, INTEGER=not out.dtype.is_floating_point, CONFINE=confine,
        C=channels, NHWC=interleaved(out), BY=by, BX=bx,
        num_warps=WARPS, enable_fp_fusion=False,
    )  # fmt: skip
