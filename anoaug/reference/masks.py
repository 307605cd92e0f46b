"""Mask parts in torch: a signed level per pixel (inside > 0) on a small stack.

Every function has the shape
``part(stack, row, y, x, b, pix, slots, banks, offset, option) -> stack``:

- ``stack``: tuple of float32 levels that broadcast to ``[B, N]``, the newest first
- ``row``: float32 ``[B, P]`` rows of the parameter table; the part's columns begin at ``offset``
- ``y``, ``x``: float32 pixel coordinates that broadcast to ``[B, N]``
- ``b``: int64 ``[B, 1]`` image numbers; ``pix``: int64 ``[1, N]``, ``y * W + x``
- ``slots``: per-pixel tensors ``[B, 1, H, W]`` given at call time
- ``banks``: as in ``reference/sources.py``
- ``option``: the part's one integer
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from ..rng import lattice_hash, permuted, uniform
from .noise import CHANNEL_KEY, lattice_noise, octaves, simplex_noise

Stack = tuple[Tensor, ...]
Noise = Callable[[Tensor, Tensor, Tensor], Tensor]


def f(row: Tensor, column: int) -> Tensor:
    """A float32 column, ``[B, 1]``."""
    return row[:, column : column + 1]


def i(row: Tensor, column: int) -> Tensor:
    """A bit-cast int32 column as int64, ``[B, 1]``."""
    return row.view(torch.int32)[:, column : column + 1].to(torch.int64)


def within(row: Tensor, cy: Tensor, cx: Tensor, offset: int) -> Tensor:
    """1.0 where cell coordinates lie within the bounds in four columns, else 0.0."""
    from_y = torch.minimum(cy - f(row, offset), f(row, offset + 1) - cy)
    from_x = torch.minimum(cx - f(row, offset + 2), f(row, offset + 3) - cx)
    return (torch.minimum(from_y, from_x) >= 0.0).to(torch.float32)


def perlin(
    stack: Stack, row: Tensor, y: Tensor, x: Tensor, b: Tensor, pix: Tensor,
    slots: Sequence[Tensor], banks: Sequence[Tensor], offset: int, option: int,
) -> Stack:  # fmt: skip
    """Perlin noise minus a threshold; ``option`` octaves. Columns: see ``anoaug.masks.Perlin``."""
    cy = (f(row, offset) * y + f(row, offset + 1) * x) + f(row, offset + 2)
    cx = (f(row, offset + 3) * y + f(row, offset + 4) * x) + f(row, offset + 5)
    key = i(row, offset + 6) & 0xFFFFFFFF
    noise = octaves(cy, cx, key, f(row, offset + 12), lattice_noise, option)
    return (noise * within(row, cy, cx, offset + 8) - f(row, offset + 7), *stack)


def rectangle(
    stack: Stack, row: Tensor, y: Tensor, x: Tensor, b: Tensor, pix: Tensor,
    slots: Sequence[Tensor], banks: Sequence[Tensor], offset: int, option: int,
) -> Stack:  # fmt: skip
    """Distance in pixels to the edge of a rotated rectangle: cy, cx, cos, sin, half_h, half_w."""
    dy, dx = y - f(row, offset), x - f(row, offset + 1)
    cos, sin = f(row, offset + 2), f(row, offset + 3)
    u = cos * dx + sin * dy
    v = cos * dy - sin * dx
    level = torch.minimum(f(row, offset + 4) - v.abs(), f(row, offset + 5) - u.abs())
    return (level, *stack)


def ellipses(
    stack: Stack, row: Tensor, y: Tensor, x: Tensor, b: Tensor, pix: Tensor,
    slots: Sequence[Tensor], banks: Sequence[Tensor], offset: int, option: int,
) -> Stack:  # fmt: skip
    """``1 - r^2`` of the nearest of ``option`` ellipses: for each the map to its unit disc."""
    level = torch.full_like(y * x, -torch.inf)
    for at in range(offset, offset + 6 * option, 6):
        v = (f(row, at) * y + f(row, at + 1) * x) + f(row, at + 2)
        u = (f(row, at + 3) * y + f(row, at + 4) * x) + f(row, at + 5)
        level = torch.maximum(level, 1.0 - (v * v + u * u))
    return (level, *stack)


def simplex(
    stack: Stack, row: Tensor, y: Tensor, x: Tensor, b: Tensor, pix: Tensor,
    slots: Sequence[Tensor], banks: Sequence[Tensor], offset: int, option: int,
) -> Stack:  # fmt: skip
    """Simplex noise minus a threshold; ``option`` octaves. Columns: ``anoaug.masks.Simplex``'s."""
    cy = (f(row, offset) * y + f(row, offset + 1) * x) + f(row, offset + 2)
    cx = (f(row, offset + 3) * y + f(row, offset + 4) * x) + f(row, offset + 5)
    key = i(row, offset + 6) & 0xFFFFFFFF
    noise = octaves(cy, cx, key, f(row, offset + 8), simplex_noise, option)
    return (noise - f(row, offset + 7), *stack)


def bitmap(
    stack: Stack, row: Tensor, y: Tensor, x: Tensor, b: Tensor, pix: Tensor,
    slots: Sequence[Tensor], banks: Sequence[Tensor], offset: int, option: int,
) -> Stack:  # fmt: skip
    """A shape of ``option`` x ``option`` bits joined bilinearly, minus a half: affine map, bits.

    The map goes to bits, whose centres are whole numbers; 32 bits of a row lie in an int32 column,
    the first in the lowest bit.
    """
    cy = (f(row, offset) * y + f(row, offset + 1) * x) + f(row, offset + 2)
    cx = (f(row, offset + 3) * y + f(row, offset + 4) * x) + f(row, offset + 5)
    fy, fx = torch.floor(cy), torch.floor(cx)
    ty, tx = cy - fy, cx - fx
    words = row.view(torch.int32)[:, offset + 6 : offset + 6 + option * option // 32]
    sample = torch.arange(len(row), device=row.device)[:, None]

    def bit(iy: Tensor, ix: Tensor) -> Tensor:
        inside = (iy >= 0) & (iy < option) & (ix >= 0) & (ix < option)
        column = torch.where(inside, iy * (option // 32) + (ix >> 5), 0)
        return (inside & ((words[sample, column] >> (ix & 31)) & 1 > 0)).to(torch.float32)

    iy, ix = fy.to(torch.int32), fx.to(torch.int32)
    v00, v01 = bit(iy, ix), bit(iy, ix + 1)
    v10, v11 = bit(iy + 1, ix), bit(iy + 1, ix + 1)
    top = v00 + tx * (v01 - v00)
    bottom = v10 + tx * (v11 - v10)
    return ((top + ty * (bottom - top)) - 0.5, *stack)


# ``option`` of shape: the octaves that bend, and the bank's number above them. Half as strong each.
BEND_OCTAVES, SHAPE_BANK = 2, 8
BEND_PERSISTENCE = 0.5
SHAPE_EDGE = 128.0


def shape(
    stack: Stack, row: Tensor, y: Tensor, x: Tensor, b: Tensor, pix: Tensor,
    slots: Sequence[Tensor], banks: Sequence[Tensor], offset: int, option: int,
) -> Stack:  # fmt: skip
    """The level of a shape of a bank, joined bilinearly: affine map, place, unit, displacement."""
    return (shape_level(lattice_noise, row, y, x, banks, offset, option), *stack)


def shape_level(
    noise: Noise, row: Tensor, y: Tensor, x: Tensor, banks: Sequence[Tensor], offset: int,
    option: int,
) -> Tensor:  # fmt: skip
    """The level that :func:`shape` adds to the stack, bent by a noise."""
    cy = (f(row, offset) * y + f(row, offset + 1) * x) + f(row, offset + 2)
    cx = (f(row, offset + 3) * y + f(row, offset + 4) * x) + f(row, offset + 5)
    n, h, w = i(row, offset + 6), i(row, offset + 7), i(row, offset + 8)
    count = option % SHAPE_BANK
    if count:
        key, bend, frequency = i(row, offset + 10), f(row, offset + 11), f(row, offset + 12)
        half = torch.full_like(bend, BEND_PERSISTENCE)
        ny, nx, other = cy * frequency, cx * frequency, (key + CHANNEL_KEY) & 0xFFFFFFFF
        cy = cy + bend * octaves(ny, nx, key & 0xFFFFFFFF, half, noise, count)
        cx = cx + bend * octaves(ny, nx, other, half, noise, count)
    levels = banks[option // SHAPE_BANK * 2]

    def tap(iy: Tensor, ix: Tensor) -> Tensor:
        inside = (iy >= 0) & (iy < h) & (ix >= 0) & (ix < w)
        value = levels[n, 0, torch.where(inside, iy, 0), torch.where(inside, ix, 0)]
        return torch.where(inside, value.to(torch.float32), 0.0)

    fy, fx = torch.floor(cy), torch.floor(cx)
    ty, tx = cy - fy, cx - fx
    iy, ix = fy.to(torch.int64), fx.to(torch.int64)
    v00, v01 = tap(iy, ix), tap(iy, ix + 1)
    v10, v11 = tap(iy + 1, ix), tap(iy + 1, ix + 1)
    top = v00 + tx * (v01 - v00)
    bottom = v10 + tx * (v11 - v10)
    return ((top + ty * (bottom - top)) - SHAPE_EDGE) * f(row, offset + 9)


def level_of(values: Tensor) -> Tensor:
    """Level of a given tensor: 8-bit ones are inside where not 0, floats where above 0.5."""
    if values.dtype == torch.uint8:
        return (values > 0).to(torch.float32) * 2.0 - 1.0
    return torch.nan_to_num(values.to(torch.float32) - 0.5, nan=-0.5)


def given(
    stack: Stack, row: Tensor, y: Tensor, x: Tensor, b: Tensor, pix: Tensor,
    slots: Sequence[Tensor], banks: Sequence[Tensor], offset: int, option: int,
) -> Stack:  # fmt: skip
    """A per-pixel tensor from slot ``option``."""
    return (level_of(slots[option].flatten(1)[b, pix]), *stack)


def cell_number(row: Tensor, y: Tensor, x: Tensor, offset: int) -> Tensor:
    """The cell of each pixel in a grid: 1 / side and the cells in a row are the first columns."""
    cy, cx = (torch.floor((axis + 0.5) * f(row, offset)).to(torch.int64) for axis in (y, x))
    return cy * i(row, offset + 1) + cx


def cells_inside(row: Tensor, number: Tensor, offset: int) -> Tensor:
    """1.0 for the cells of a grid that are inside, else -1.0; for columns see ``cells``."""
    key, coin = (i(row, offset + n) & 0xFFFFFFFF for n in (5, 6))
    place = permuted(number, i(row, offset + 2), key, coin)
    inside = (place >= i(row, offset + 3)) & (place < i(row, offset + 4))
    return inside.to(torch.float32) * 2.0 - 1.0


def cells(
    stack: Stack, row: Tensor, y: Tensor, x: Tensor, b: Tensor, pix: Tensor,
    slots: Sequence[Tensor], banks: Sequence[Tensor], offset: int, option: int,
) -> Stack:  # fmt: skip
    """1 in some cells of a grid, else -1: whose place in a keyed permutation is in a range.

    Columns: 1 / side, cells in a row of the grid, cells, first place, last (excluded), two keys.
    """
    return (cells_inside(row, cell_number(row, y, x, offset), offset), *stack)


def regions(
    stack: Stack, row: Tensor, y: Tensor, x: Tensor, b: Tensor, pix: Tensor,
    slots: Sequence[Tensor], banks: Sequence[Tensor], offset: int, option: int,
) -> Stack:  # fmt: skip
    """Random labels of the map in slot ``option``, float32 whole numbers; below 0 is outside.

    Columns: a key, and the chance that a label is inside; the level is what it exceeds chance by.
    """
    label = slots[option].flatten(1)[b, pix].to(torch.int64)
    level = f(row, offset + 1) - uniform(lattice_hash(i(row, offset) & 0xFFFFFFFF, label, 0))
    return (torch.where(label >= 0, level, -1.0), *stack)


def everywhere(
    stack: Stack, row: Tensor, y: Tensor, x: Tensor, b: Tensor, pix: Tensor,
    slots: Sequence[Tensor], banks: Sequence[Tensor], offset: int, option: int,
) -> Stack:  # fmt: skip
    """The whole image."""
    return (torch.ones_like(y * x), *stack)


def intersection(
    stack: Stack, row: Tensor, y: Tensor, x: Tensor, b: Tensor, pix: Tensor,
    slots: Sequence[Tensor], banks: Sequence[Tensor], offset: int, option: int,
) -> Stack:  # fmt: skip
    """Inside both: the smaller level."""
    return (torch.minimum(stack[0], stack[1]), *stack[2:])


def union(
    stack: Stack, row: Tensor, y: Tensor, x: Tensor, b: Tensor, pix: Tensor,
    slots: Sequence[Tensor], banks: Sequence[Tensor], offset: int, option: int,
) -> Stack:  # fmt: skip
    """Inside either: the larger level."""
    return (torch.maximum(stack[0], stack[1]), *stack[2:])


def complement(
    stack: Stack, row: Tensor, y: Tensor, x: Tensor, b: Tensor, pix: Tensor,
    slots: Sequence[Tensor], banks: Sequence[Tensor], offset: int, option: int,
) -> Stack:  # fmt: skip
    """Outside: the negated level."""
    return (-stack[0], *stack[1:])


def joined(
    stack: Stack, row: Tensor, y: Tensor, x: Tensor, b: Tensor, pix: Tensor,
    slots: Sequence[Tensor], banks: Sequence[Tensor], offset: int, option: int,
) -> Stack:  # fmt: skip
    """Inside either (0), both (1) or the first (2), as the one column says."""
    second, first = stack[:2]
    mode = i(row, offset)
    either, both = torch.maximum(first, second), torch.minimum(first, second)
    return (torch.where(mode == 0, either, torch.where(mode == 1, both, first)), *stack[2:])
