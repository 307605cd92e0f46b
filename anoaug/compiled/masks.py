"""Mask parts over a few rows of pixels: the compiled twins of ``reference/masks.py``.

``run(code, stack, top, columns, y0, rows, x0, x1, slots, banks, n, off, option) -> top`` pushes, or
joins, the levels of a block of pixels on a stack ``[depth, ROWS, W]``: ``rows`` image rows from
``y0`` on, columns ``x0 .. x1``. ``columns`` is the sample's row of the table, ``slots`` and
``banks`` are those of ``Batch``, see ``arrays``.

Loops count from 0 over contiguous views: Numba looks for negative indices elsewhere, and only
contiguous rows are vectorised.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numba import njit

from ..reference.masks import SHAPE_BANK, SHAPE_EDGE
from ..reference.noise import CHANNEL_KEY
from .noise import perlin_noise, perlin_octaves, simplex_octaves
from .numbers import (
    HALF,
    ONE,
    ZERO,
    F,
    I,
    P,
    U,
    bytes_at,
    copy,
    fill,
    lattice_hash,
    permute,
    uniform,
)

# The numbers by which a program calls the functions; those that join levels come last.
NAMES = (
    "perlin", "simplex", "rectangle", "bitmap", "given", "cells", "regions", "shape",
    "ellipses", "everywhere",
    "intersection", "union", "complement", "joined",
)  # fmt: skip
PERLIN, SIMPLEX, RECTANGLE, BITMAP, GIVEN, CELLS, REGIONS, SHAPE, ELLIPSES, EVERYWHERE = range(10)
INTERSECTION, UNION, COMPLEMENT, JOINED = range(10, 14)
READ_SLOTS = ("given", "regions")  # their option is the number of a given tensor

_CHANNEL_KEY, _SHAPE_EDGE = U(CHANNEL_KEY), F(SHAPE_EDGE)


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
            ny, nx = I(iy + 1), I(ix + 1)
            v00, v01 = bit(words, side, iy, ix), bit(words, side, iy, nx)
            v10, v11 = bit(words, side, ny, ix), bit(words, side, ny, nx)
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
def cells(block: Any, columns: Any, y0: Any, x0: Any, x1: Any, off: Any) -> Any:
    """1 in some cells of a grid, else -1; a row of cells is asked at once."""
    row, bits = columns.floats, columns.ints
    scale, across, count = row[off], bits[off + 1], bits[off + 2]
    first, last, key, coin = bits[off + 3], bits[off + 4], U(bits[off + 5]), U(bits[off + 6])
    before = I(-1)
    left = I(np.floor((F(I(x0)) + HALF) * scale))
    right = I(np.floor((F(I(x1 - 1)) + HALF) * scale))
    places = np.empty(right - left + 1, np.int32)
    levels = np.empty(len(places), np.float32)
    # Which cell a column is in is the same in every row.
    at = np.empty(x1 - x0, np.uint32)
    for k in range(len(at)):
        at[k] = U(I(np.floor((F(I(x0 + k)) + HALF) * scale)) - left)
    for r in range(len(block)):
        line, cy = block[r][x0:x1], I(np.floor((F(I(y0 + r)) + HALF) * scale))
        if cy == before:
            above = block[r - 1][x0:x1]
            for k in range(len(line)):
                line[k] = above[k]
            continue
        before = cy
        for k in range(len(places)):
            places[k] = I(cy * across + left) + I(k)
        permute(places, count, key, coin)
        for k in range(len(places)):
            levels[k] = ONE if (places[k] >= first) & (places[k] < last) else -ONE
        for k in range(len(line)):
            line[k] = levels[P(at[k])]


@njit
def regions(block: Any, columns: Any, levels: Any, y0: Any, x0: Any, x1: Any, off: Any) -> Any:
    """Random labels of a map, which ``Batch`` holds as levels: a half lower."""
    key, share = U(columns.ints[off]), columns.floats[off + 1]
    for r in range(len(block)):
        line, held = block[r][x0:x1], levels[y0 + r][x0:x1]
        for k in range(len(line)):
            label = I(held[k] + HALF)
            line[k] = share - uniform(lattice_hash(key, label, I(0))) if label >= 0 else -ONE


@njit(forceinline=True)
def level_tap(levels: Any, w: Any, h: Any, iy: Any, ix: Any) -> Any:
    """One pixel of a shape's level; far outside beyond its edge."""
    if iy < 0 or iy >= h or ix < 0 or ix >= w:
        return ZERO
    return F(levels[P(iy * w + ix)])


@njit
def shape(
    block: Any, columns: Any, bank: Any, y0: Any, x0: Any, x1: Any, off: Any, octaves: Any
) -> Any:
    """The level of a shape of a bank, joined bilinearly."""
    row, bits = columns.floats, columns.ints
    h, w, unit = bits[off + 7], bits[off + 8], row[off + 9]
    key, bend, frequency = U(bits[off + 10]), row[off + 11], row[off + 12]
    other, plane = U(key + _CHANNEL_KEY), np.int64(h) * np.int64(w)
    levels = bytes_at(bank + np.int64(bits[off + 6]) * plane, plane)
    for r in range(len(block)):
        line, y = block[r][x0:x1], F(I(y0 + r))
        for k in range(len(line)):
            x = F(I(x0 + k))
            cy = (row[off] * y + row[off + 1] * x) + row[off + 2]
            cx = (row[off + 3] * y + row[off + 4] * x) + row[off + 5]
            if octaves > 0:
                ny, nx = cy * frequency, cx * frequency
                cy = cy + bend * perlin_octaves(key, ny, nx, HALF, octaves)
                cx = cx + bend * perlin_octaves(other, ny, nx, HALF, octaves)
            fy, fx = np.floor(cy), np.floor(cx)
            ty, tx = cy - fy, cx - fx
            iy, ix = I(fy), I(fx)
            to_y, to_x = I(iy + 1), I(ix + 1)
            v00, v01 = level_tap(levels, w, h, iy, ix), level_tap(levels, w, h, iy, to_x)
            v10, v11 = level_tap(levels, w, h, to_y, ix), level_tap(levels, w, h, to_y, to_x)
            top = v00 + tx * (v01 - v00)
            bottom = v10 + tx * (v11 - v10)
            line[k] = ((top + ty * (bottom - top)) - _SHAPE_EDGE) * unit


@njit
def ellipses(block: Any, row: Any, y0: Any, x0: Any, x1: Any, off: Any, count: Any) -> Any:
    """``1 - r^2`` of the nearest of some ellipses."""
    for r in range(len(block)):
        line, y = block[r][x0:x1], F(I(y0 + r))
        fill(line, F(-np.inf))
        for n in range(count):
            maps = row[off + 6 * n : off + 6 * n + 6]
            for k in range(len(line)):
                x = F(I(x0 + k))
                v = (maps[0] * y + maps[1] * x) + maps[2]
                u = (maps[3] * y + maps[4] * x) + maps[5]
                line[k] = max(line[k], ONE - (v * v + u * u))


@njit
def run(
    code: Any, stack: Any, top: Any, columns: Any, y0: Any, rows: Any, x0: Any, x1: Any,
    slots: Any, banks: Any, n: Any, off: Any, option: Any,
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
            # Of what is joined: 0 either, 1 both, 2 the first as it is.
            mode = columns.ints[off] if code == JOINED else I(code == INTERSECTION)
            if mode == 1:
                for k in range(len(last)):
                    left[k] = min(left[k], last[k])
            elif mode == 0:
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
    elif code == CELLS:
        cells(block, columns, y0, x0, x1, off)
    elif code == REGIONS:
        regions(block, columns, slots[option, n], y0, x0, x1, off)
    elif code == SHAPE:
        bank = banks[option // SHAPE_BANK * 2]
        shape(block, columns, bank, y0, x0, x1, off, option % SHAPE_BANK)
    elif code == ELLIPSES:
        ellipses(block, columns.floats, y0, x0, x1, off, option)
    elif code == GIVEN:
        for r in range(rows):
            copy(block[r][x0:x1], slots[option, n, y0 + r, x0:x1])
    else:
        for r in range(rows):
            fill(block[r][x0:x1], ONE)
    return top + 1


@njit
def window(code: Any, columns: Any, off: Any, side: Any, height: Any, width: Any) -> Any:
    """Rows and columns outside which a mask of one part is certainly empty: y0, y1, x0, x1."""
    if code not in (RECTANGLE, BITMAP, SHAPE):
        return 0, height, 0, width  # before six columns are read: others may have fewer
    row = columns.floats
    a, b, c = np.float64(row[off]), np.float64(row[off + 1]), np.float64(row[off + 2])
    d, e, f = np.float64(row[off + 3]), np.float64(row[off + 4]), np.float64(row[off + 5])
    if code == RECTANGLE:
        cy, cx, cos, sin, half_h, half_w = a, b, abs(c), abs(d), e, f
        reach_y, reach_x = cos * half_h + sin * half_w, cos * half_w + sin * half_h
    else:
        # The map inverted, of the middle of what it goes to and of how far that reaches.
        h, w, bend = side, side, 0.0
        if code == SHAPE:
            h, w = np.int64(columns.ints[off + 7]), np.int64(columns.ints[off + 8])
            bend = 2.0 * row[off + 11]
        area, half_h, half_w = a * e - b * d, (h + 1) / 2 + bend, (w + 1) / 2 + bend
        to_y, to_x = (h - 1) / 2 - c, (w - 1) / 2 - f
        cy, cx = (e * to_y - b * to_x) / area, (a * to_x - d * to_y) / area
        reach_y = (abs(e) * half_h + abs(b) * half_w) / abs(area)
        reach_x = (abs(a) * half_w + abs(d) * half_h) / abs(area)
    y0, y1 = int(math.floor(cy - reach_y)) - 1, int(math.ceil(cy + reach_y)) + 2
    x0, x1 = int(math.floor(cx - reach_x)) - 1, int(math.ceil(cx + reach_x)) + 2
    return (
        min(max(y0, 0), height), min(max(y1, 0), height),
        min(max(x0, 0), width), min(max(x1, 0), width),
    )  # fmt: skip
