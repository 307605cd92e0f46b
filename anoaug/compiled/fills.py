"""One colour laid hard into integer images: whole rows at once instead of lists of pixels."""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit

from . import blends, sources
from .numbers import ONE, ZERO, B, P, U, clamp, round_clip


@njit
def filled(program: Any, wish: Any) -> Any:
    """Whether that is all a program does; of integers, since 0 times NaN would stay."""
    layer = program.layers[0]
    hard = (layer[4] == blends.OPAQUE) & (layer[6] == blends.OVER)
    alone = (len(program.layers) == 1) & (layer[1] == sources.CONSTANT)
    return bool(hard & alone & (program.scales[0] > ONE) & (not wish.changed))


@njit
def room(width: Any, channels: Any, like: Any) -> Any:
    """A mark for each value of a row, its colours, and a mark for each pixel."""
    size = width * channels
    return np.empty(size, like.dtype), np.empty(size, like.dtype), np.empty(width, np.uint8)


@njit
def colour_row(columns: Any, program: Any, wish: Any, batch: Any, colours: Any) -> Any:
    """Write the colour, as the output has it, into a row in the order of memory."""
    peak, off = program.scales[0], program.layers[0, 2]
    channels, width = batch.shape[1], batch.shape[3]
    for c in range(channels):
        value = round_clip(clamp(columns.floats[off + c] * peak, ZERO, peak), peak)
        if len(wish.norm) > 0:
            value = value * wish.norm[0, c] + wish.norm[1, c]
        interleaved = batch.strides[3] == channels
        at, step = (P(c), P(channels)) if interleaved else (P(c * width), P(1))
        for _ in range(width):
            colours[at] = value
            at += step


@njit
def fill_rows(
    batch: Any, results: Any, covers: Any, spread: Any, n: Any, first: Any, rows: Any, x0: Any,
    x1: Any,
) -> Any:  # fmt: skip
    """Fill the covered pixels of rows from ``first`` on, columns ``x0 .. x1``; returns how many.

    ``covers`` are float32 ``[ROWS, W]``, 1 or 0; ``spread`` is a :func:`room` with the colours in.
    """
    marks, colours, inside = spread
    strides, channels, width = batch.strides, batch.shape[1], batch.shape[3]
    # In the order of memory a row is one run of interleaved pixels, or one of each channel.
    runs, each = (1, channels) if strides[3] == channels else (channels, 1)
    count = x1 - x0
    mark, single = marks[: count * each], inside[:count]
    area, here = 0, U(0)
    for r in range(rows):
        cover = covers[r][x0:x1]
        if r == 0 or not _equal(cover, covers[r - 1][x0:x1]):
            here = U(0)
            for k in range(len(single)):
                single[k] = B(cover[k] > ZERO)
                here += U(single[k])
            for c in range(each):
                at = P(c)
                for k in range(len(single)):
                    mark[at] = single[k]
                    at += P(each)
        if here == U(0):
            continue
        area += int(here)
        shown = results.mask[n, 0, first + r][x0:x1]
        for k in range(len(shown)):
            shown[k] = cover[k]
        start = n * strides[0] + (first + r) * strides[2] + x0 * strides[3]
        for run in range(runs):
            line = results.target[start + run * strides[1] :][: count * each]
            colour = colours[run * width :][: count * each]
            for k in range(len(line)):
                # Both read beforehand and marks of the same type, or it is not vectorised.
                new, old = colour[k], line[k]
                line[k] = new if mark[k] != 0 else old
    return area


@njit(forceinline=True)
def _equal(one: Any, other: Any) -> Any:
    differ = U(0)
    for k in range(len(one)):
        differ |= U(one[k] != other[k])
    return differ == U(0)
