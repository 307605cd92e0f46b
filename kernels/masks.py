"""Mask parts: where an anomaly is, as a signed level per pixel (inside > 0) on a small stack.

Every function has the shape ``part(stack, row, y, x, b, pix, numel, slots, OFF, OPT) -> stack``:

- ``stack``: tuple of float32 level blocks, the newest first
- ``row``: pointer to the sample's row of the parameter table; the part's columns begin at ``OFF``
- ``y``, ``x``: float32 pixel coordinates that broadcast to the block
- ``b``: int64 image number; ``pix``: int32 block of ``y * W + x``; ``numel``: ``H * W``
- ``slots``: tuple of pointers to per-pixel tensors ``[B, 1, H, W]`` given at call time
- ``OPT``: the part's one compile-time integer
"""

import triton
import triton.language as tl

from .rng import lattice_hash, unit_vector


@triton.jit
def f(row, column):
    """A float32 column of the sample's table row."""
    return tl.load(row + column)


@triton.jit
def i(row, column):
    """A bit-cast int32 column of the sample's table row."""
    return tl.load(row + column).to(tl.int32, bitcast=True)


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
    """One octave of Perlin noise at float32 cell coordinates, gradients hashed from ``key``."""
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
def perlin(stack, row, y, x, b, pix, numel, slots, OFF: tl.constexpr, OPT: tl.constexpr):
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
    noise = lattice_noise(cy, cx, key)
    amplitude = f(row, OFF + 12)
    gain = amplitude
    scale = 2.0
    for _ in tl.static_range(1, OPT):
        key = key + tl.full((), 0x632BE5AB, tl.uint32)
        noise = noise + gain * lattice_noise(cy * scale, cx * scale, key)
        gain = gain * amplitude
        scale = scale * 2.0
    return (tl.where(inside, noise, 0.0) - f(row, OFF + 7),) + stack


@triton.jit
def rectangle(stack, row, y, x, b, pix, numel, slots, OFF: tl.constexpr, OPT: tl.constexpr):
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
def given(stack, row, y, x, b, pix, numel, slots, OFF: tl.constexpr, OPT: tl.constexpr):
    """A per-pixel tensor from slot ``OPT``: 8-bit ones are inside if not 0, floats if > 0.5."""
    value = tl.load(slots[OPT] + b * numel + pix, mask=(pix >= 0) & (pix < numel), other=0)
    if slots[OPT].dtype.element_ty == tl.uint8:
        level = tl.where(value > 0, 1.0, -1.0)
    else:
        level = value.to(tl.float32) - 0.5
        level = tl.where(level == level, level, -0.5)  # NaN is outside
    return (level,) + stack


@triton.jit
def everywhere(stack, row, y, x, b, pix, numel, slots, OFF: tl.constexpr, OPT: tl.constexpr):
    """The whole image."""
    return (y * 0.0 + x * 0.0 + 1.0,) + stack


@triton.jit
def intersection(stack, row, y, x, b, pix, numel, slots, OFF: tl.constexpr, OPT: tl.constexpr):
    """Inside both: the smaller level."""
    return (tl.minimum(stack[0], stack[1]),) + stack[2:]


@triton.jit
def union(stack, row, y, x, b, pix, numel, slots, OFF: tl.constexpr, OPT: tl.constexpr):
    """Inside either: the larger level."""
    return (tl.maximum(stack[0], stack[1]),) + stack[2:]


@triton.jit
def complement(stack, row, y, x, b, pix, numel, slots, OFF: tl.constexpr, OPT: tl.constexpr):
    """Outside: the negated level."""
    return (-stack[0],) + stack[1:]
