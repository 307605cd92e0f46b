"""Mask parts in torch: a signed level per pixel (inside > 0) on a small stack.

Every function has the shape ``part(stack, row, y, x, b, pix, slots, offset, option) -> stack``:

- ``stack``: tuple of float32 levels that broadcast to ``[B, N]``, the newest first
- ``row``: float32 ``[B, P]`` rows of the parameter table; the part's columns begin at ``offset``
- ``y``, ``x``: float32 pixel coordinates that broadcast to ``[B, N]``
- ``b``: int64 ``[B, 1]`` image numbers; ``pix``: int64 ``[1, N]``, ``y * W + x``
- ``slots``: per-pixel tensors ``[B, 1, H, W]`` given at call time
- ``option``: the part's one integer
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from ..rng import SQRT2, lattice_hash, unit_vector

Stack = tuple[Tensor, ...]


def f(row: Tensor, column: int) -> Tensor:
    """A float32 column, ``[B, 1]``."""
    return row[:, column : column + 1]


def i(row: Tensor, column: int) -> Tensor:
    """A bit-cast int32 column as int64, ``[B, 1]``."""
    return row.view(torch.int32)[:, column : column + 1].to(torch.int64)


def gradient_noise(
    ty: Tensor, tx: Tensor,
    g00y: Tensor, g00x: Tensor, g10y: Tensor, g10x: Tensor,
    g01y: Tensor, g01x: Tensor, g11y: Tensor, g11x: Tensor,
) -> Tensor:  # fmt: skip
    """Perlin's noise inside a cell from its four gradients.

    ``ty`` and ``tx`` are the float32 place in the cell in [0, 1), ``gRCy`` and ``gRCx`` the row and
    column components of the gradient at the node R rows and C columns on. The result is float32 in
    [-1, 1]: quintic fade, rows joined before columns, times sqrt(2) (Perlin, 2002).
    """
    n00 = g00y * ty + g00x * tx
    n10 = g10y * (ty - 1.0) + g10x * tx
    n01 = g01y * ty + g01x * (tx - 1.0)
    n11 = g11y * (ty - 1.0) + g11x * (tx - 1.0)
    uy = ty * ty * ty * (ty * (ty * 6.0 - 15.0) + 10.0)
    ux = tx * tx * tx * (tx * (tx * 6.0 - 15.0) + 10.0)
    n0 = n00 + uy * (n10 - n00)
    n1 = n01 + uy * (n11 - n01)
    return (n0 + ux * (n1 - n0)) * SQRT2


def lattice_noise(cy: Tensor, cx: Tensor, key: Tensor) -> Tensor:
    """One octave of Perlin noise at float32 cell coordinates, gradients hashed from ``key``."""
    fy, fx = torch.floor(cy), torch.floor(cx)
    iy, ix = fy.to(torch.int64), fx.to(torch.int64)
    corners = ((iy, ix), (iy + 1, ix), (iy, ix + 1), (iy + 1, ix + 1))
    g = [component for node in corners for component in unit_vector(lattice_hash(key, *node))]
    return gradient_noise(cy - fy, cx - fx, g[0], g[1], g[2], g[3], g[4], g[5], g[6], g[7])


def within(row: Tensor, cy: Tensor, cx: Tensor, offset: int) -> Tensor:
    """1.0 where cell coordinates lie within the bounds in four columns, else 0.0."""
    from_y = torch.minimum(cy - f(row, offset), f(row, offset + 1) - cy)
    from_x = torch.minimum(cx - f(row, offset + 2), f(row, offset + 3) - cx)
    return (torch.minimum(from_y, from_x) >= 0.0).to(torch.float32)


def perlin(
    stack: Stack, row: Tensor, y: Tensor, x: Tensor, b: Tensor, pix: Tensor,
    slots: Sequence[Tensor], offset: int, option: int,
) -> Stack:  # fmt: skip
    """Perlin noise minus a threshold; ``option`` octaves. Columns: see ``anoaug.masks.Perlin``."""
    cy = (f(row, offset) * y + f(row, offset + 1) * x) + f(row, offset + 2)
    cx = (f(row, offset + 3) * y + f(row, offset + 4) * x) + f(row, offset + 5)
    key = i(row, offset + 6) & 0xFFFFFFFF
    noise = lattice_noise(cy, cx, key)
    amplitude = f(row, offset + 12)
    gain, scale = amplitude, 2.0
    for octave in range(1, option):
        octave_key = (key + octave * 0x632BE5AB) & 0xFFFFFFFF
        noise = noise + gain * lattice_noise(cy * scale, cx * scale, octave_key)
        gain = gain * amplitude
        scale = scale * 2.0
    return (noise * within(row, cy, cx, offset + 8) - f(row, offset + 7), *stack)


def rectangle(
    stack: Stack, row: Tensor, y: Tensor, x: Tensor, b: Tensor, pix: Tensor,
    slots: Sequence[Tensor], offset: int, option: int,
) -> Stack:  # fmt: skip
    """Distance in pixels to the edge of a rotated rectangle: cy, cx, cos, sin, half_h, half_w."""
    dy, dx = y - f(row, offset), x - f(row, offset + 1)
    cos, sin = f(row, offset + 2), f(row, offset + 3)
    u = cos * dx + sin * dy
    v = cos * dy - sin * dx
    level = torch.minimum(f(row, offset + 4) - v.abs(), f(row, offset + 5) - u.abs())
    return (level, *stack)


def level_of(values: Tensor) -> Tensor:
    """Level of a given tensor: 8-bit ones are inside where not 0, floats where above 0.5."""
    if values.dtype == torch.uint8:
        return (values > 0).to(torch.float32) * 2.0 - 1.0
    return torch.nan_to_num(values.to(torch.float32) - 0.5, nan=-0.5)


def given(
    stack: Stack, row: Tensor, y: Tensor, x: Tensor, b: Tensor, pix: Tensor,
    slots: Sequence[Tensor], offset: int, option: int,
) -> Stack:  # fmt: skip
    """A per-pixel tensor from slot ``option``."""
    return (level_of(slots[option].flatten(1)[b, pix]), *stack)


def everywhere(
    stack: Stack, row: Tensor, y: Tensor, x: Tensor, b: Tensor, pix: Tensor,
    slots: Sequence[Tensor], offset: int, option: int,
) -> Stack:  # fmt: skip
    """The whole image."""
    return (torch.ones_like(y * x), *stack)


def intersection(
    stack: Stack, row: Tensor, y: Tensor, x: Tensor, b: Tensor, pix: Tensor,
    slots: Sequence[Tensor], offset: int, option: int,
) -> Stack:  # fmt: skip
    """Inside both: the smaller level."""
    return (torch.minimum(stack[0], stack[1]), *stack[2:])


def union(
    stack: Stack, row: Tensor, y: Tensor, x: Tensor, b: Tensor, pix: Tensor,
    slots: Sequence[Tensor], offset: int, option: int,
) -> Stack:  # fmt: skip
    """Inside either: the larger level."""
    return (torch.maximum(stack[0], stack[1]), *stack[2:])


def complement(
    stack: Stack, row: Tensor, y: Tensor, x: Tensor, b: Tensor, pix: Tensor,
    slots: Sequence[Tensor], offset: int, option: int,
) -> Stack:  # fmt: skip
    """Outside: the negated level."""
    return (-stack[0], *stack[1:])
