"""Mask parts: where an anomaly is, as a signed level per pixel (inside > 0) on a small stack.

Every function has the shape
``part(stack, row, y, x, b, pix, numel, slots, banks, OFF, OPT) -> stack``:

- ``stack``: tuple of float32 level blocks, the newest first
- ``row``: pointer to the sample's row of the parameter table; the part's columns begin at ``OFF``
- ``y``, ``x``: float32 pixel coordinates that broadcast to the block
- ``b``: int64 image number; ``pix``: int32 block of ``y * W + x``; ``numel``: ``H * W``
- ``slots``: tuple of pointers to per-pixel tensors ``[B, 1, H, W]`` given at call time
- ``banks``: as in ``kernels/sources.py``
- ``OPT``: the part's one compile-time integer
"""

import triton
import triton.language as tl

from .noise import lattice_noise, octaves, simplex_noise
from .rng import lattice_hash, permuted, uniform


@triton.jit
def f(row, column):
    """A float32 column of the sample's table row."""
    return tl.load(row + column)


@triton.jit
def i(row, column):
    """A bit-cast int32 column of the sample's table row."""
    return tl.load(row + column).to(tl.int32, bitcast=True)


@triton.jit
def perlin(stack, row, y, x, b, pix, numel, slots, banks, OFF: tl.constexpr, OPT: tl.constexpr):
    """Perlin noise minus a threshold; ``OPT`` octaves. Columns: see ``anoaug.masks.Perlin``."""
    cy = (f(row, OFF) * y + f(row, OFF + 1) * x) + f(row, OFF + 2)
    cx = (f(row, OFF + 3) * y + f(row, OFF + 4) * x) + f(row, OFF + 5)
    key = i(row, OFF + 6).to(tl.uint32, bitcast=True)
    inside = (
        (cy >= f(row, OFF + 8))
        & (cy <= f(row, OFF + 9))
        & (cx >= f(row, OFF + 10))
        & (cx <= f(row, OFF + 11))
    )
    noise = octaves(cy, cx, key, f(row, OFF + 12), lattice_noise, OPT)
    return (tl.where(inside, noise, 0.0) - f(row, OFF + 7),) + stack


@triton.jit
def ellipses(stack, row, y, x, b, pix, numel, slots, banks, OFF: tl.constexpr, OPT: tl.constexpr):
    """``1 - r^2`` of the nearest of ``OPT`` ellipses: for each the map to its unit disc."""
    level = y * 0.0 + x * 0.0 - float("inf")
    for n in range(OPT):
        at = OFF + 6 * n
        v = (f(row, at) * y + f(row, at + 1) * x) + f(row, at + 2)
        u = (f(row, at + 3) * y + f(row, at + 4) * x) + f(row, at + 5)
        level = tl.maximum(level, 1.0 - (v * v + u * u))
    return (level,) + stack


@triton.jit
def simplex(stack, row, y, x, b, pix, numel, slots, banks, OFF: tl.constexpr, OPT: tl.constexpr):
    """Simplex noise minus a threshold; ``OPT`` octaves. Columns: see ``anoaug.masks.Simplex``."""
    cy = (f(row, OFF) * y + f(row, OFF + 1) * x) + f(row, OFF + 2)
    cx = (f(row, OFF + 3) * y + f(row, OFF + 4) * x) + f(row, OFF + 5)
    key = i(row, OFF + 6).to(tl.uint32, bitcast=True)
    noise = octaves(cy, cx, key, f(row, OFF + 8), simplex_noise, OPT)
    return (noise - f(row, OFF + 7),) + stack


@triton.jit
def rectangle(stack, row, y, x, b, pix, numel, slots, banks, OFF: tl.constexpr, OPT: tl.constexpr):
    """Distance in pixels to the edge of a rotated rectangle: cy, cx, cos, sin, half_h, half_w."""
    dy = y - f(row, OFF)
    dx = x - f(row, OFF + 1)
    cos = f(row, OFF + 2)
    sin = f(row, OFF + 3)
    u = cos * dx + sin * dy
    v = cos * dy - sin * dx
    level = tl.minimum(f(row, OFF + 4) - tl.abs(v), f(row, OFF + 5) - tl.abs(u))
    return (level,) + stack


@triton.jit
def bit(row, iy, ix, SIDE: tl.constexpr):
    """1.0 where a bit of a square bitmap is set, else and outside it 0.0."""
    inside = (iy >= 0) & (iy < SIDE) & (ix >= 0) & (ix < SIDE)
    column = tl.where(inside, iy * (SIDE // 32) + (ix >> 5), 0)
    word = (i(row, column) >> (ix & 31)) & 1
    return tl.where(inside, word.to(tl.float32), 0.0)


@triton.jit
def bitmap(stack, row, y, x, b, pix, numel, slots, banks, OFF: tl.constexpr, OPT: tl.constexpr):
    """A shape of ``OPT`` x ``OPT`` bits joined bilinearly, minus a half: affine map, then the bits.

    The map goes to bits, whose centres are whole numbers.
    """
    cy = (f(row, OFF) * y + f(row, OFF + 1) * x) + f(row, OFF + 2)
    cx = (f(row, OFF + 3) * y + f(row, OFF + 4) * x) + f(row, OFF + 5)
    fy = tl.floor(cy)
    fx = tl.floor(cx)
    ty = cy - fy
    tx = cx - fx
    iy = fy.to(tl.int32)
    ix = fx.to(tl.int32)
    v00 = bit(row + OFF + 6, iy, ix, OPT)
    v01 = bit(row + OFF + 6, iy, ix + 1, OPT)
    v10 = bit(row + OFF + 6, iy + 1, ix, OPT)
    v11 = bit(row + OFF + 6, iy + 1, ix + 1, OPT)
    top = v00 + tx * (v01 - v00)
    bottom = v10 + tx * (v11 - v10)
    return ((top + ty * (bottom - top)) - 0.5,) + stack


@triton.jit
def level_tap(levels, iy, ix, h, w):
    """One pixel of a shape's level; far outside beyond its edge."""
    inside = (iy >= 0) & (iy < h) & (ix >= 0) & (ix < w)
    return tl.load(levels + (iy * w + ix), mask=inside, other=0).to(tl.float32)


@triton.jit
def shape(stack, row, y, x, b, pix, numel, slots, banks, OFF: tl.constexpr, OPT: tl.constexpr):
    """The level of a shape of a bank, joined bilinearly: affine map, place, unit, displacement.

    ``OPT`` is the number of octaves that bend plus eight times the bank's number.
    """
    cy = (f(row, OFF) * y + f(row, OFF + 1) * x) + f(row, OFF + 2)
    cx = (f(row, OFF + 3) * y + f(row, OFF + 4) * x) + f(row, OFF + 5)
    h = i(row, OFF + 7)
    w = i(row, OFF + 8)
    if OPT % 8 > 0:
        key = i(row, OFF + 10).to(tl.uint32, bitcast=True)
        other = key + tl.full((), 0xC2B2AE35, tl.uint32)
        ny = cy * f(row, OFF + 12)
        nx = cx * f(row, OFF + 12)
        cy = cy + f(row, OFF + 11) * octaves(ny, nx, key, 0.5, lattice_noise, OPT % 8)
        cx = cx + f(row, OFF + 11) * octaves(ny, nx, other, 0.5, lattice_noise, OPT % 8)
    levels = banks[OPT // 8 * 2] + i(row, OFF + 6).to(tl.int64) * h * w
    fy = tl.floor(cy)
    fx = tl.floor(cx)
    ty = cy - fy
    tx = cx - fx
    iy = fy.to(tl.int32)
    ix = fx.to(tl.int32)
    v00 = level_tap(levels, iy, ix, h, w)
    v01 = level_tap(levels, iy, ix + 1, h, w)
    v10 = level_tap(levels, iy + 1, ix, h, w)
    v11 = level_tap(levels, iy + 1, ix + 1, h, w)
    top = v00 + tx * (v01 - v00)
    bottom = v10 + tx * (v11 - v10)
    return (((top + ty * (bottom - top)) - 128.0) * f(row, OFF + 9),) + stack


@triton.jit
def given(stack, row, y, x, b, pix, numel, slots, banks, OFF: tl.constexpr, OPT: tl.constexpr):
    """A per-pixel tensor from slot ``OPT``: 8-bit ones are inside if not 0, floats if > 0.5."""
    value = tl.load(slots[OPT] + b * numel + pix, mask=(pix >= 0) & (pix < numel), other=0)
    if slots[OPT].dtype.element_ty == tl.uint8:
        level = tl.where(value > 0, 1.0, -1.0)
    else:
        level = value.to(tl.float32) - 0.5
        level = tl.where(level == level, level, -0.5)  # NaN is outside
    return (level,) + stack


@triton.jit
def cells(stack, row, y, x, b, pix, numel, slots, banks, OFF: tl.constexpr, OPT: tl.constexpr):
    """1 in some cells of a grid, else -1: whose place in a keyed permutation is in a range.

    Columns: 1 / side, cells in a row of the grid, cells, first place, last (excluded), two keys.
    """
    cy = tl.floor((y + 0.5) * f(row, OFF)).to(tl.int32)
    cx = tl.floor((x + 0.5) * f(row, OFF)).to(tl.int32)
    key = i(row, OFF + 5).to(tl.uint32, bitcast=True)
    coin = i(row, OFF + 6).to(tl.uint32, bitcast=True)
    place = permuted(cy * i(row, OFF + 1) + cx, i(row, OFF + 2), key, coin)
    inside = (place >= i(row, OFF + 3)) & (place < i(row, OFF + 4))
    return (tl.where(inside, 1.0, -1.0),) + stack


@triton.jit
def regions(stack, row, y, x, b, pix, numel, slots, banks, OFF: tl.constexpr, OPT: tl.constexpr):
    """Random labels of the map in slot ``OPT``, float32 whole numbers; below 0 is outside.

    Columns: a key, and the chance that a label is inside; the level is what it exceeds chance by.
    """
    label = tl.load(slots[OPT] + b * numel + pix, mask=(pix >= 0) & (pix < numel), other=-1)
    label = label.to(tl.int32)
    word = lattice_hash(i(row, OFF).to(tl.uint32, bitcast=True), label, label * 0)
    level = f(row, OFF + 1) - uniform(word)
    return (tl.where(label >= 0, level, -1.0),) + stack


@triton.jit
def everywhere(stack, row, y, x, b, pix, numel, slots, banks, OFF: tl.constexpr, OPT: tl.constexpr):
    """The whole image."""
    return (y * 0.0 + x * 0.0 + 1.0,) + stack


@triton.jit
def intersection(
    stack, row, y, x, b, pix, numel, slots, banks, OFF: tl.constexpr, OPT: tl.constexpr
):
    """Inside both: the smaller level."""
    return (tl.minimum(stack[0], stack[1]),) + stack[2:]


@triton.jit
def union(stack, row, y, x, b, pix, numel, slots, banks, OFF: tl.constexpr, OPT: tl.constexpr):
    """Inside either: the larger level."""
    return (tl.maximum(stack[0], stack[1]),) + stack[2:]


@triton.jit
def complement(stack, row, y, x, b, pix, numel, slots, banks, OFF: tl.constexpr, OPT: tl.constexpr):
    """Outside: the negated level."""
    return (-stack[0],) + stack[1:]


@triton.jit
def joined(stack, row, y, x, b, pix, numel, slots, banks, OFF: tl.constexpr, OPT: tl.constexpr):
    """Inside either (0), both (1) or the first (2), as the one column says."""
    mode = i(row, OFF)
    either = tl.maximum(stack[1], stack[0])
    both = tl.minimum(stack[1], stack[0])
    return (tl.where(mode == 0, either, tl.where(mode == 1, both, stack[1])),) + stack[2:]
