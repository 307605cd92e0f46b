"""Labels by how much an image changed: the compiled way of :class:`anoaug.finish.Difference`."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
from numba import njit

# Changes are sums over channels, whole numbers: a median is found by counting. Greater ones share
# the last of the coarse counters; what falls there is sorted.
_COARSE = 32


@functools.lru_cache(maxsize=1)
def loop() -> Any:
    """The compiled function of images ``[C, H, W]`` before and after and of where they may differ.

    It gives the labelled pixels' rows and columns and the median of the change around each.
    """

    @njit(nogil=True, cache=True)
    def labelled(before: Any, after: Any, inside: Any, bar: Any, side: Any, places: Any) -> Any:
        channels, height, width = before.shape
        change, moved = np.zeros((2, height, width), np.int32)
        for y in range(height):
            line, mark = change[y], moved[y]
            for c in range(channels):
                old, new = before[c, y], after[c, y]
                for x in range(width):
                    line[x] += abs(np.int32(old[x]) - np.int32(new[x]))
            for x in range(width):
                mark[x] = inside[y, x] and np.float32(line[x]) > bar
        label = _majority(moved, side)
        count, most = 0, 0
        for y in range(height):
            for x in range(width):
                count += label[y, x]
                change[y, x] = change[y, x] if label[y, x] else 0
                most = max(most, change[y, x])
        ys, xs = np.empty(count, np.int64), np.empty(count, np.int64)
        count = 0
        for y in range(height):
            for x in range(width):
                if label[y, x]:
                    ys[count], xs[count] = y, x
                    count += 1
        return ys, xs, _medians(change, ys, xs, places, most)

    return labelled


@njit(cache=True)
def _majority(moved: Any, side: Any) -> Any:
    """1 where most of a square are; beyond the plane its nearest pixels count."""
    height, width = moved.shape
    reach = side // 2
    lines = np.zeros((height, width), np.int32)
    label = np.zeros((height, width), np.uint8)
    for place in range(-reach, reach + 1):
        for y in range(height):
            source, line = moved[min(max(y + place, 0), height - 1)], lines[y]
            for x in range(width):
                line[x] += source[x]
    for y in range(height):
        line = lines[y]
        total = 0
        for place in range(-reach, reach + 1):
            total += line[min(max(place, 0), width - 1)]
        for x in range(width):
            label[y, x] = total > side * side // 2
            total += line[min(x + reach + 1, width - 1)] - line[max(x - reach, 0)]
    return label


@njit(cache=True)
def _medians(change: Any, ys: Any, xs: Any, places: Any, most: Any) -> Any:
    """Medians of the places around some pixels, which come row by row, as float32.

    A pixel's neighbour to the right shares most of its disc: counters follow along a row, fine ones
    of every value and coarse ones of several, and the median is where half are below.
    """
    height, width = change.shape
    shift = 0
    while (most >> shift) >= _COARSE * _COARSE:
        shift += 1
    found = np.empty(len(ys), np.float32)
    if shift > 0:
        near = np.empty(len(places), np.int32)
        for k in range(len(ys)):
            for n in range(len(places)):
                y = min(max(ys[k] + places[n, 0], 0), height - 1)
                x = min(max(xs[k] + places[n, 1], 0), width - 1)
                near[n] = change[y, x]
            found[k] = np.sort(near)[len(places) // 2]
        return found
    reach = places[:, 0].max()
    half_widths = np.zeros(2 * reach + 1, np.int64)
    for n in range(len(places)):
        row = places[n, 0] + reach
        half_widths[row] = max(half_widths[row], places[n, 1])
    fine, coarse = np.zeros(_COARSE * _COARSE, np.int32), np.zeros(_COARSE, np.int32)
    half, last_y, last_x = len(places) // 2, -1, -1
    for k in range(len(ys)):
        y, x = ys[k], xs[k]
        if y != last_y or x - last_x > 2 * reach:
            fine[: most + 1] = 0
            coarse[:] = 0
            for n in range(len(places)):
                value = change[
                    min(max(y + places[n, 0], 0), height - 1),
                    min(max(x + places[n, 1], 0), width - 1),
                ]
                fine[value] += 1
                coarse[value // _COARSE] += 1
        else:
            for centre in range(last_x + 1, x + 1):
                for row in range(2 * reach + 1):
                    line = change[min(max(y + row - reach, 0), height - 1)]
                    gone = line[min(max(centre - 1 - half_widths[row], 0), width - 1)]
                    come = line[min(max(centre + half_widths[row], 0), width - 1)]
                    fine[gone] -= 1
                    coarse[gone // _COARSE] -= 1
                    fine[come] += 1
                    coarse[come // _COARSE] += 1
        below, block = 0, 0
        while below + coarse[block] <= half:
            below += coarse[block]
            block += 1
        value = block * _COARSE
        while below + fine[value] <= half:
            below += fine[value]
            value += 1
        found[k] = value
        last_y, last_x = y, x
    return found
