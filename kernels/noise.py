"""Gradient noise on a hashed lattice: Perlin's and simplex, for masks and sources.

Twins of ``anoaug/reference/noise.py``. A noise has the shape ``noise(cy, cx, key) -> value``:
float32 cell coordinates, a uint32 key.
"""

import triton
import triton.language as tl

from .rng import lattice_hash, unit_vector


@triton.jit
def gradient_noise(ty, tx, g00y, g00x, g10y, g10x, g01y, g01x, g11y, g11x):
    """Perlin's noise inside a cell from its four gradients; first index is the row."""
    n00 = g00y * ty + g00x * tx
    n10 = g10y * (ty - 1.0) + g10x * tx
    n01 = g01y * ty + g01x * (tx - 1.0)
    n11 = g11y * (ty - 1.0) + g11x * (tx - 1.0)
    uy = ty * ty * ty * (ty * (ty * 6.0 - 15.0) + 10.0)
    ux = tx * tx * tx * (tx * (tx * 6.0 - 15.0) + 10.0)
    n0 = n00 + uy * (n10 - n00)
    n1 = n01 + uy * (n11 - n01)
    return (n0 + ux * (n1 - n0)) * 1.4142135381698608


@triton.jit
def lattice_noise(cy, cx, key):
    """One octave of Perlin noise."""
    fy = tl.floor(cy)
    fx = tl.floor(cx)
    iy = fy.to(tl.int32)
    ix = fx.to(tl.int32)
    g00y, g00x = unit_vector(lattice_hash(key, iy, ix))
    g10y, g10x = unit_vector(lattice_hash(key, iy + 1, ix))
    g01y, g01x = unit_vector(lattice_hash(key, iy, ix + 1))
    g11y, g11x = unit_vector(lattice_hash(key, iy + 1, ix + 1))
    return gradient_noise(cy - fy, cx - fx, g00y, g00x, g10y, g10x, g01y, g01x, g11y, g11x)


@triton.jit
def simplex_cell(cy, cx):
    """Skewed cell (row, column), place from its first corner, and 1 in its right triangle."""
    skew = (cy + cx) * 0.3660254180431366
    sy = cy + skew
    sx = cx + skew
    fy = tl.floor(sy)
    fx = tl.floor(sx)
    ty = sy - fy
    tx = sx - fx
    back = (ty + tx) * 0.21132487058639526
    return fy, fx, ty - back, tx - back, tl.where(tx > ty, 1.0, 0.0)


@triton.jit
def surflet(y, x, gy, gx):
    """What a corner at distance (y, x) adds: a ramp along its gradient under a round window."""
    window = tl.maximum(0.5 - (y * y + x * x), 0.0)
    window = window * window
    return window * window * (gy * y + gx * x)


@triton.jit
def corner_noise(y, x, right, g0y, g0x, g1y, g1x, g2y, g2x):
    """Simplex noise inside a triangle from the gradients of its first, middle and last corner."""
    first = surflet(y, x, g0y, g0x)
    down = 1.0 - right
    middle = surflet((y - down) + 0.21132487058639526, (x - right) + 0.21132487058639526, g1y, g1x)
    last = surflet(y - 0.5773502588272095, x - 0.5773502588272095, g2y, g2x)
    return ((first + middle) + last) * 99.20433807373047


@triton.jit
def simplex_noise(cy, cx, key):
    """One octave of simplex noise."""
    fy, fx, y, x, right = simplex_cell(cy, cx)
    iy = fy.to(tl.int32)
    ix = fx.to(tl.int32)
    step = right.to(tl.int32)
    g0y, g0x = unit_vector(lattice_hash(key, iy, ix))
    g1y, g1x = unit_vector(lattice_hash(key, iy + 1 - step, ix + step))
    g2y, g2x = unit_vector(lattice_hash(key, iy + 1, ix + 1))
    return corner_noise(y, x, right, g0y, g0x, g1y, g1x, g2y, g2x)


@triton.jit
def octaves(cy, cx, key, persistence, NOISE: tl.constexpr, COUNT: tl.constexpr):
    """``COUNT`` octaves of a noise, each twice as fine and ``persistence`` times as strong."""
    noise = NOISE(cy, cx, key)
    gain = persistence
    scale = 2.0
    for _ in tl.static_range(1, COUNT):
        key = key + tl.full((), 0x632BE5AB, tl.uint32)
        noise = noise + gain * NOISE(cy * scale, cx * scale, key)
        gain = gain * persistence
        scale = scale * 2.0
    return noise
