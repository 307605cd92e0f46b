"""Poisson's equation on one rectangle, but for the matrix products: ``reference/poisson.py``.

Planes are float32 rows, channels, columns, contiguous.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit

from .numbers import ONE, ZERO, F, copy


@njit(cache=True)
def _eroded(weight: Any, reach: Any) -> Any:
    """Least weight in the square around each pixel, 0 beyond the edge."""
    height, width = weight.shape
    lines, out = np.zeros_like(weight), np.zeros_like(weight)
    for y in range(reach, height - reach):
        line = lines[y]
        copy(line, weight[y - reach])
        for near in range(y - reach + 1, y + reach + 1):
            other = weight[near]
            for x in range(width):
                line[x] = min(line[x], other[x])
    for y in range(reach, height - reach):
        line = out[y][reach : width - reach]
        copy(line, lines[y])
        for step in range(1, 2 * reach + 1):
            other = lines[y][step : step + len(line)]
            for x in range(len(line)):
                line[x] = min(line[x], other[x])
    return out


@njit(cache=True)
def guidance(destination: Any, source: Any, weight: Any, mixed: Any, reach: Any, unit: Any) -> Any:
    """``reference.divergence`` of float32 ``[h, C, w]`` and weights ``[h, w]``; ``unit`` is 1."""
    height, channels, width = destination.shape
    small = _eroded(weight, reach)
    inner = np.empty((height, width), np.float32)
    for y in range(height):
        line, given = inner[y], small[y]
        for x in range(width):
            line[x] = F(given[x]) * unit
    # Forward differences in two rows, the upper of which goes when the next one comes.
    across = np.empty((2, width - 1), np.float32)
    down = np.empty((2, width - 1), np.float32)
    field = np.empty((height - 2, channels, width - 2), np.float32)
    for c in range(channels):
        for y in range(height - 1):
            now, before = y % 2, (y + 1) % 2
            gx, gy, above = across[now], down[now], down[before]
            new, under = source[y, c], source[y + 1, c]
            old, below = destination[y, c], destination[y + 1, c]
            share = inner[y]
            for x in range(width - 1):
                sx, sy = new[x + 1] - new[x], under[x] - new[x]
                dx, dy = old[x + 1] - old[x], below[x] - old[x]
                by = share[x]
                if mixed:
                    by = by if abs(sx - sy) > abs(dx - dy) else ZERO
                gx[x], gy[x] = by * (sx - dx), by * (sy - dy)
            if y > 0:
                line = field[y - 1, c]
                for x in range(width - 2):
                    line[x] = (gx[x + 1] - gx[x]) + (gy[x + 1] - above[x + 1])
    return field


@njit(nogil=True, cache=True)
def scaled(values: Any, tall: Any, wide: Any, factor: Any) -> Any:
    """Divide ``[h, C, w]`` by the sums of the eigenvalues of rows and columns times a factor."""
    by = np.empty(len(wide), np.float32)
    for y in range(len(values)):
        for x in range(len(by)):
            by[x] = ONE / ((tall[y] + wide[x]) * factor)
        for c in range(values.shape[1]):
            line = values[y, c]
            for x in range(len(line)):
                line[x] *= by[x]


@njit(cache=True)
def corrected(destination: Any, added: Any, peak: Any, integer: Any) -> Any:
    """``reference.corrected`` of the destination within its edge and what is added to it."""
    out = np.empty(added.shape, np.float32)
    rows, channels, columns = added.shape
    for y in range(rows):
        for c in range(channels):
            line, more, old = out[y, c], added[y, c], destination[y + 1, c][1 : columns + 1]
            for x in range(columns):
                value = min(max(old[x] + more[x], ZERO), peak)
                line[x] = np.floor(value) if integer else value
    return out
