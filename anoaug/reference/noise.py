"""Gradient noise on a hashed lattice in torch: Perlin's and simplex, for masks and sources.

A noise has the shape ``noise(cy, cx, key) -> value``: float32 cell coordinates, int64 keys in
[0, 2**32), float32 values; everything broadcasts.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from ..rng import SQRT2, lattice_hash, unit_vector

# Exact in float32: (sqrt(3) - 1) / 2 squeezes triangles to half squares, (3 - sqrt(3)) / 6 undoes
# it, and 1 / sqrt(3) is how far the last corner of a triangle is from the first along each axis.
SKEW, UNSKEW, FAR = 0.3660254180431366, 0.21132487058639526, 0.5773502588272095

# One over the most that three unit gradients give; reached between two of them that face in line.
SIMPLEX_GAIN = 99.20433807373047

# Between the keys of one octave, or channel, and the next.
OCTAVE_KEY, CHANNEL_KEY = 0x632BE5AB, 0xC2B2AE35


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
    """One octave of Perlin noise, in [-1, 1]."""
    fy, fx = torch.floor(cy), torch.floor(cx)
    iy, ix = fy.to(torch.int64), fx.to(torch.int64)
    corners = ((iy, ix), (iy + 1, ix), (iy, ix + 1), (iy + 1, ix + 1))
    g = [component for node in corners for component in unit_vector(lattice_hash(key, *node))]
    return gradient_noise(cy - fy, cx - fx, g[0], g[1], g[2], g[3], g[4], g[5], g[6], g[7])


def simplex_cell(cy: Tensor, cx: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Where coordinates lie in the lattice of triangles, all float32.

    Returns:
        Row and column of the skewed cell, the place from its first corner (rows, columns), and 1
        in the cell's right triangle, 0 in the lower one.
    """
    skew = (cy + cx) * SKEW
    sy, sx = cy + skew, cx + skew
    fy, fx = torch.floor(sy), torch.floor(sx)
    ty, tx = sy - fy, sx - fx
    # From the place in the cell, not from the cell's own place: that would cancel far from 0.
    back = (ty + tx) * UNSKEW
    return fy, fx, ty - back, tx - back, (tx > ty).to(torch.float32)


def surflet(y: Tensor, x: Tensor, gy: Tensor, gx: Tensor) -> Tensor:
    """What a corner at distance (y, x) adds: a ramp along its gradient under a round window."""
    window = (0.5 - (y * y + x * x)).clamp(min=0.0)
    window = window * window
    return window * window * (gy * y + gx * x)


def corner_noise(
    y: Tensor, x: Tensor, right: Tensor,
    g0y: Tensor, g0x: Tensor, g1y: Tensor, g1x: Tensor, g2y: Tensor, g2x: Tensor,
) -> Tensor:  # fmt: skip
    """Simplex noise inside a triangle from the gradients of its first, middle and last corner.

    ``y``, ``x`` and ``right`` are those of :func:`simplex_cell`. The result is float32 in [-1, 1].
    """
    first = surflet(y, x, g0y, g0x)
    down = 1.0 - right
    middle = surflet((y - down) + UNSKEW, (x - right) + UNSKEW, g1y, g1x)
    last = surflet(y - FAR, x - FAR, g2y, g2x)
    return ((first + middle) + last) * SIMPLEX_GAIN


def simplex_noise(cy: Tensor, cx: Tensor, key: Tensor) -> Tensor:
    """One octave of simplex noise, in [-1, 1] (Perlin, 2001; Gustavson, 2005).

    Triangles with sides of sqrt(2 / 3) cells, gradients of unit length hashed from ``key``.
    """
    fy, fx, y, x, right = simplex_cell(cy, cx)
    iy, ix, step = fy.to(torch.int64), fx.to(torch.int64), right.to(torch.int64)
    corners = ((iy, ix), (iy + 1 - step, ix + step), (iy + 1, ix + 1))
    g = [component for node in corners for component in unit_vector(lattice_hash(key, *node))]
    return corner_noise(y, x, right, g[0], g[1], g[2], g[3], g[4], g[5])


def octaves(
    cy: Tensor, cx: Tensor, key: Tensor, persistence: Tensor,
    noise: Callable[[Tensor, Tensor, Tensor], Tensor], count: int,
) -> Tensor:  # fmt: skip
    """``count`` octaves of a noise, each twice as fine and ``persistence`` times as strong."""
    total = noise(cy, cx, key)
    gain, scale = persistence, 2.0
    for octave in range(1, count):
        octave_key = (key + octave * OCTAVE_KEY) & 0xFFFFFFFF
        total = total + gain * noise(cy * scale, cx * scale, octave_key)
        gain = gain * persistence
        scale = scale * 2.0
    return total
