"""Mask parts over a few rows of pixels: the compiled twins of ``reference/masks.py``.

``run(code, stack, top, columns, y0, rows, x0, x1, slots, n, off, option) -> top`` pushes, or joins,
the levels of a block of pixels on a stack ``[depth, ROWS, W]``: ``rows`` image rows from ``y0`` on,
columns ``x0 .. x1``. ``columns`` is the sample's row of the table, see ``arrays``.

Loops count from 0 over contiguous views: Numba looks for negative indices elsewhere, and only
contiguous rows are vectorised.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numba import njit

from .noise import perlin_noise, perlin_octaves, simplex_octaves
from .numbers import HALF, ONE, ZERO, F, I, U

# The numbers by which a program calls the functions; those that join levels come last.
NAMES = (
    "perlin", "simplex", "rectangle", "bitmap", "given", "everywhere",
    "intersection", "union", "complement",
)  # fmt: skip
PERLIN, SIMPLEX, RECTANGLE, BITMAP, GIVEN, EVERYWHERE = range(6)
INTERSECTION, UNION, COMPLEMENT = range(6, 9)


@njit
def perlin(block: Any, columns: Any, y0: Any, x0: Any, x1: Any, off: Any, octaves: Any) -> Any:
    """Perlin noise minus a threshold."""
    row, bits = columns.floats, columns.ints
    yy, yx, y_at = row[off], row[off + 1], row[off + 2]
    xy, xx, x_at = row[off + 3], row[off + 4], row[off + 5]
    key, threshold = U(bits[off + 6]), row[off + 7]
    y_min, y_max, x_min, x_max = row[off + 8], row[off + 9], row[off + 10], row[off + 11]
    persistence = row[off + 12]
    for r in range(len(block)):
        line, at_y, at_x = block[r][x0:x1], yy * F(I(y0 + r)), xy * F(I(y0 + r))
        if octaves == 1:  # a loop of its own, without one inside, is vectorised
            for k in range(len(line)):
                x = F(I(x0 + k))
                cy, cx = (at_y + yx * x) + y_at, (at_x + xx * x) + x_at
                value = perlin_noise(key, cy, cx)
                within = (cy >= y_min) & (cy <= y_max) & (cx >= x_min) & (cx <= x_max)
                line[k] = (value if within else ZERO) - threshold
            continue
        for k in range(len(line)):
            x = F(I(x0 + k))
            cy, cx = (at_y + yx * x) + y_at, (at_x + xx * x) + x_at
            value = perlin_octaves(key, cy, cx, persistence, octaves)
            within = (cy >= y_min) & (cy <= y_max) & (cx >= x_min) & (cx <= x_max)
            line[k] = (value if within else ZERO) - threshold


@njit
def simplex(block: Any, columns: Any, y0: Any, x0: Any, x1: Any, off: Any, octaves: Any) -> Any:
    """Simplex noise minus a threshold."""
    row, bits = columns.floats, columns.ints
    yy, yx, y_at = row[off], row[off + 1], row[off + 2]
    xy, xx, x_at = row[off + 3], row[off + 4], row[off + 5]
    key, threshold, persistence = U(bits[off + 6]), row[off + 7], row[off + 8]
    for r in range(len(block)):
        line, at_y, at_x = block[r][x0:x1], yy * F(I(y0 + r)), xy * F(I(y0 + r))
        for k in range(len(line)):
            x = F(I(x0 + k))
            cy, cx = (at_y + yx * x) + y_at, (at_x + xx * x) + x_at
            line[k] = simplex_octaves(key, cy, cx, persistence, octaves) - threshold


@njit(forceinline=True)
def bit(words: Any, side: Any, iy: Any, ix: Any) -> Any:
    """A bit of a shape of ``side`` x ``side`` as 0 or 1; 0 beyond its edge."""
    if iy < 0 or iy >= side or ix < 0 or ix >= side:
        return ZERO
    word = words[iy * (side // 32) + (ix >> 5)]
    return F((word >> (ix & 31)) & 1)


@njit
def bitmap(block: Any, columns: Any, y0: Any, x0: Any, x1: Any, off: Any, side: Any) -> Any:
    """A shape of bits joined bilinearly, minus a half."""
    row, bits = columns.floats, columns.ints
    words = bits[off + 6 : off + 6 + side * side // 32]
    for r in range(len(block)):
        line, y = block[r][x0:x1], F(I(y0 + r))
        for k in range(len(line)):
            x = F(I(x0 + k))
            cy = (row[off] * y + row[off + 1] * x) + row[off + 2]
            cx = (row[off + 3] * y + row[off + 4] * x) + row[off + 5]
            fy, fx = np.floor(cy), np.floor(cx)
            ty, tx = cy - fy, cx - fx
            iy, ix = I(fy), I(fx)
            v00, v01 = bit(words, side, iy, ix), bit(words, side, iy, ix + 1)
            v10, v11 = bit(words, side, iy + 1, ix), bit(words, side, iy + 1, ix + 1)
            top = v00 + tx * (v01 - v00)
            bottom = v10 + tx * (v11 - v10)
            line[k] = (top + ty * (bottom - top)) - HALF


@njit
def rectangle(block: Any, row: Any, y0: Any, x0: Any, x1: Any, off: Any) -> Any:
    """Distance in pixels to the edge of a rotated rectangle."""
    centre, cos, sin = row[off + 1], row[off + 2], row[off + 3]
    half_h, half_w = row[off + 4], row[off + 5]
    for r in range(len(block)):
        line, dy = block[r][x0:x1], F(I(y0 + r)) - row[off]
        for k in range(len(line)):
            dx = F(I(x0 + k)) - centre
            u = cos * dx + sin * dy
            v = cos * dy - sin * dx
            line[k] = min(half_h - abs(v), half_w - abs(u))


@njit
def run(
    code: Any, stack: Any, top: Any, columns: Any, y0: Any, rows: Any, x0: Any, x1: Any,
    slots: Any, n: Any, off: Any, option: Any,
) -> Any:  # fmt: skip
    """One step of a mask's postfix program; returns the new height of the stack."""
    if code >= INTERSECTION:
        for r in range(rows):
            last = stack[top - 1, r][x0:x1]
            if code == COMPLEMENT:
                for k in range(len(last)):
                    last[k] = -last[k]
                continue
            left = stack[top - 2, r][x0:x1]
            if code == INTERSECTION:
                for k in range(len(last)):
                    left[k] = min(left[k], last[k])
            else:
                for k in range(len(last)):
                    left[k] = max(left[k], last[k])
        return top if code == COMPLEMENT else top - 1
    block = stack[top][:rows]
    if code == PERLIN:
        perlin(block, columns, y0, x0, x1, off, option)
    elif code == SIMPLEX:
        simplex(block, columns, y0, x0, x1, off, option)
    elif code == BITMAP:
        bitmap(block, columns, y0, x0, x1, off, option)
    elif code == RECTANGLE:
        rectangle(block, columns.floats, y0, x0, x1, off)
    elif code == GIVEN:
        block[:, x0:x1] = slots[option, n, y0 : y0 + rows, x0:x1]
    else:
        block[:, x0:x1] = ONE
    return top + 1


@njit
def window(code: Any, row: Any, off: Any, side: Any, height: Any, width: Any) -> Any:
    """Rows and columns outside which a mask of one part is certainly empty: y0, y1, x0, x1."""
    a, b, c = np.float64(row[off]), np.float64(row[off + 1]), np.float64(row[off + 2])
    d, e, f = np.float64(row[off + 3]), np.float64(row[off + 4]), np.float64(row[off + 5])
    if code == RECTANGLE:
        cy, cx, cos, sin, half_h, half_w = a, b, abs(c), abs(d), e, f
        reach_y, reach_x = cos * half_h + sin * half_w, cos * half_w + sin * half_h
    elif code == BITMAP:
        # The map to bits inverted, of its middle and of the square it reaches.
        area, half = a * e - b * d, (side + 1) / 2
        cy = (e * (half - 1 - c) - b * (half - 1 - f)) / area
        cx = (a * (half - 1 - f) - d * (half - 1 - c)) / area
        reach_y = (abs(e) + abs(b)) * half / abs(area)
        reach_x = (abs(a) + abs(d)) * half / abs(area)
    else:
        return 0, height, 0, width
    y0, y1 = int(math.floor(cy - reach_y)) - 1, int(math.ceil(cy + reach_y)) + 2
    x0, x1 = int(math.floor(cx - reach_x)) - 1, int(math.ceil(cx + reach_x)) + 2
    return (
        min(max(y0, 0), height), min(max(y1, 0), height),
        min(max(x0, 0), width), min(max(x1, 0), width),
    )  # fmt: skip
