"""Labels by how much an image changed: the compiled way of :class:`anoaug.finish.Difference`."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
from numba import njit

# Changes are sums over channels, whole numbers: a median below 2**15 is found bit by bit, for so
# many pixels of a row at once. Greater ones are sorted.
_RUN = 64
_TALL = 1 << 15


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
            given = inside[y]
            x0, x1 = 0, width
            while x0 < x1 and not given[x0]:
                x0 += 1
            while x1 > x0 and not given[x1 - 1]:
                x1 -= 1
            line, mark, given = change[y][x0:x1], moved[y][x0:x1], given[x0:x1]
            for c in range(channels):
                old, new = before[c, y][x0:x1], after[c, y][x0:x1]
                for x in range(len(line)):
                    line[x] += abs(np.int32(old[x]) - np.int32(new[x]))
            for x in range(len(line)):
                mark[x] = given[x] and np.float32(line[x]) > bar
        label = _majority(moved, side)
        count, most = 0, 0
        for y in range(height):
            line, mark = change[y], label[y]
            for x in range(width):
                count += mark[x]
                line[x] *= mark[x]
                most = max(most, line[x])
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
    label = np.zeros((height, width), np.int32)
    # A row's sums with its ends repeated, and the sums of these.
    wide, total = np.zeros(width + 2 * reach, np.int32), np.zeros(width, np.int32)
    for y in range(height):
        line = wide[reach : reach + width]
        line[:] = 0
        for place in range(-reach, reach + 1):
            source = moved[min(max(y + place, 0), height - 1)]
            for x in range(width):
                line[x] += source[x]
        wide[:reach], wide[reach + width :] = line[0], line[width - 1]
        total[:] = 0
        for place in range(side):
            near = wide[place : place + width]
            for x in range(width):
                total[x] += near[x]
        mark = label[y]
        for x in range(width):
            mark[x] = total[x] > side * side // 2
    return label


@njit(cache=True)
def _medians(change: Any, ys: Any, xs: Any, places: Any, most: Any) -> Any:
    """Medians of the places around some pixels, which come row by row, as float32."""
    height, width = change.shape
    found = np.empty(len(ys), np.float32)
    if most >= _TALL:
        near = np.empty(len(places), np.int32)
        for k in range(len(ys)):
            for n in range(len(places)):
                y = min(max(ys[k] + places[n, 0], 0), height - 1)
                x = min(max(xs[k] + places[n, 1], 0), width - 1)
                near[n] = change[y, x]
            found[k] = np.sort(near)[len(places) // 2]
        return found
    reach = places[:, 0].max()
    wide = np.empty((height + 2 * reach, width + 2 * reach + _RUN), np.int16)
    for y in range(len(wide)):
        line = change[min(max(y - reach, 0), height - 1)]
        wide[y, :reach], wide[y, reach + width :] = line[0], line[width - 1]
        into = wide[y, reach : reach + width]
        for x in range(width):
            into[x] = line[x]
    count, trial, value = np.zeros((3, _RUN), np.int16)
    least = np.int16(len(places) - len(places) // 2)
    bits = 0
    while most >> bits:
        bits += 1
    k = 0
    while k < len(ys):
        y, first = ys[k], xs[k]
        value[:] = 0
        for bit in range(bits - 1, -1, -1):
            step = np.int16(1 << bit)
            for x in range(_RUN):
                trial[x] = value[x] + step
                count[x] = 0
            for n in range(len(places)):
                start = first + places[n, 1] + reach
                near = wide[y + places[n, 0] + reach][start : start + _RUN]
                # As long as all of them are: a number the compiler knows.
                for x in range(_RUN):
                    count[x] += np.int16(near[x] >= trial[x])
            for x in range(_RUN):
                value[x] = trial[x] if count[x] >= least else value[x]
        while k < len(ys) and ys[k] == y and xs[k] < first + _RUN:
            found[k] = value[xs[k] - first]
            k += 1
    return found
