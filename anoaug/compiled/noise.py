"""Gradient noise on a hashed lattice: the compiled twins of ``reference/noise.py``."""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit

from ..reference import noise as reference
from .numbers import (
    FIFTEEN,
    HALF,
    ONE,
    ROOT2,
    SIX,
    TEN,
    TWO,
    ZERO,
    F,
    I,
    U,
    clamp,
    lattice_hash,
    unit_vector,
)

_SKEW, _UNSKEW, _FAR = F(reference.SKEW), F(reference.UNSKEW), F(reference.FAR)
_GAIN = F(reference.SIMPLEX_GAIN)
_OCTAVE_KEY = U(reference.OCTAVE_KEY)


@njit(forceinline=True)
def perlin_noise(key: Any, cy: Any, cx: Any) -> Any:
    """One octave of Perlin noise, in [-1, 1]."""
    fy, fx = np.floor(cy), np.floor(cx)
    iy, ix = I(fy), I(fx)
    ty, tx = cy - fy, cx - fx
    g00y, g00x = unit_vector(lattice_hash(key, iy, ix))
    g10y, g10x = unit_vector(lattice_hash(key, I(iy + I(1)), ix))
    g01y, g01x = unit_vector(lattice_hash(key, iy, I(ix + I(1))))
    g11y, g11x = unit_vector(lattice_hash(key, I(iy + I(1)), I(ix + I(1))))
    n00 = g00y * ty + g00x * tx
    n10 = g10y * (ty - ONE) + g10x * tx
    n01 = g01y * ty + g01x * (tx - ONE)
    n11 = g11y * (ty - ONE) + g11x * (tx - ONE)
    uy = ty * ty * ty * (ty * (ty * SIX - FIFTEEN) + TEN)
    ux = tx * tx * tx * (tx * (tx * SIX - FIFTEEN) + TEN)
    n0 = n00 + uy * (n10 - n00)
    n1 = n01 + uy * (n11 - n01)
    return (n0 + ux * (n1 - n0)) * ROOT2


@njit(forceinline=True)
def surflet(y: Any, x: Any, g: Any) -> Any:
    """What a corner at distance (y, x) with the gradient ``g`` adds."""
    window = clamp(HALF - (y * y + x * x), ZERO, ONE)
    window = window * window
    return window * window * (g[0] * y + g[1] * x)


@njit(forceinline=True)
def simplex_noise(key: Any, cy: Any, cx: Any) -> Any:
    """One octave of simplex noise, in [-1, 1]."""
    skew = (cy + cx) * _SKEW
    sy, sx = cy + skew, cx + skew
    fy, fx = np.floor(sy), np.floor(sx)
    ty, tx = sy - fy, sx - fx
    back = (ty + tx) * _UNSKEW
    y, x = ty - back, tx - back
    right = ONE if tx > ty else ZERO
    iy, ix, step = I(fy), I(fx), I(1) if tx > ty else I(0)
    first = surflet(y, x, unit_vector(lattice_hash(key, iy, ix)))
    node = unit_vector(lattice_hash(key, I(iy + I(1) - step), I(ix + step)))
    down = ONE - right
    middle = surflet((y - down) + _UNSKEW, (x - right) + _UNSKEW, node)
    node = unit_vector(lattice_hash(key, I(iy + I(1)), I(ix + I(1))))
    last = surflet(y - _FAR, x - _FAR, node)
    return ((first + middle) + last) * _GAIN


@njit(forceinline=True)
def perlin_octaves(key: Any, cy: Any, cx: Any, persistence: Any, count: Any) -> Any:
    """Octaves of Perlin noise, each twice as fine and ``persistence`` times as strong."""
    total = perlin_noise(key, cy, cx)
    gain, scale = persistence, TWO
    for _ in range(1, count):
        key = U(key + _OCTAVE_KEY)
        total = total + gain * perlin_noise(key, cy * scale, cx * scale)
        gain = gain * persistence
        scale = scale * TWO
    return total


@njit(forceinline=True)
def simplex_octaves(key: Any, cy: Any, cx: Any, persistence: Any, count: Any) -> Any:
    """Octaves of simplex noise, each twice as fine and ``persistence`` times as strong."""
    total = simplex_noise(key, cy, cx)
    gain, scale = persistence, TWO
    for _ in range(1, count):
        key = U(key + _OCTAVE_KEY)
        total = total + gain * simplex_noise(key, cy * scale, cx * scale)
        gain = gain * persistence
        scale = scale * TWO
    return total
