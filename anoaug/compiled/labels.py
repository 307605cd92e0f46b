"""Labels by how much an image changed: the compiled way of :class:`anoaug.finish.Difference`."""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit

from .numbers import ONE, ZERO, copy, fill

RULES = ("valued", "binary", "continuous")
VALUED, BINARY, CONTINUOUS = range(len(RULES))

# Changes are sums over channels, whole numbers: up to here their medians come from a histogram,
# those of greater ones from a sort.
_TALL = 1 << 15


@njit(nogil=True, cache=True)
def labelled(
    before: Any, after: Any, weight: Any, out: Any, bar: Any, side: Any, places: Any, values: Any,
    rule: Any, start: Any, stop: Any,
) -> Any:  # fmt: skip
    """Write the labels of samples ``start .. stop`` into ``out``, ``[B, 1, H, W]``, which is 0.

    ``bar`` is the least sum of a pixel's changes, ``side`` that of the square in which most have to
    reach it, ``places`` those of the disc, and ``values`` the label for every sum there may be;
    ``rule`` says what a label is, see ``RULES``.
    """
    reach = max(side // 2, places[:, 0].max())
    # Beyond the last step the label stays the same, so that greater sums need not be told apart.
    last = len(values) - 1
    while last > 0 and values[last - 1] == values[last]:
        last -= 1
    for n in range(start, stop):
        top, bottom, left, right = _box(weight[n, 0])
        if top == bottom:
            continue
        top, bottom = max(top - reach, 0), min(bottom + reach, weight.shape[2])
        left, right = max(left - reach, 0), min(right + reach, weight.shape[3])
        inside = weight[n, 0, top:bottom, left:right]
        change = _changes(before[n], after[n], inside, top, left)
        moved = np.zeros(change.shape, np.int32)
        for y in range(len(moved)):
            line, mark, share = change[y], moved[y], inside[y]
            for x in range(len(line)):
                mark[x] = (share[x] > ZERO) & (np.float32(line[x]) > bar)
        label = _majority(moved, side)
        count = 0
        for y in range(len(label)):
            line, mark = change[y], label[y]
            for x in range(len(line)):
                count += mark[x]
                line[x] = min(line[x] * mark[x], last)
        ys, xs = np.empty(count, np.int64), np.empty(count, np.int64)
        count = 0
        for y in range(len(label)):
            for x in range(label.shape[1]):
                if label[y, x]:
                    ys[count], xs[count] = y, x
                    count += 1
        plane = out[n, 0, top:bottom, left:right]
        if rule == VALUED:
            middle = _medians(change, ys, xs, places, last)
            for k in range(count):
                plane[ys[k], xs[k]] = values[middle[k]]
        else:
            for k in range(count):
                share = inside[ys[k], xs[k]]
                plane[ys[k], xs[k]] = ONE if rule == BINARY else share


@njit(nogil=True, cache=True)
def settled(
    out: Any, images: Any, mask: Any, weight: Any, counts: Any, least: Any, soft: Any, start: Any,
    stop: Any,
) -> Any:  # fmt: skip
    """Empty the masks of samples that do not count, and put pixels without a label back.

    All arguments but the last four are changed; ``counts`` says which samples have an anomaly.
    """
    for n in range(start, stop):
        if not counts[n]:
            for y in range(mask.shape[2]):
                fill(mask[n, 0, y], ZERO)
            continue
        plane, share = mask[n, 0], weight[n, 0]
        area = 0
        for y in range(len(plane)):
            line = plane[y]
            for x in range(len(line)):
                area += line[x] > ZERO
        if area < least[n]:
            counts[n] = False
            for y in range(len(plane)):
                fill(plane[y], ZERO)
        elif not soft:
            for y in range(len(plane)):
                line = plane[y]
                for x in range(len(line)):
                    line[x] = ONE if line[x] > ZERO else ZERO
        top, bottom, left, right = _box(share)
        for y in range(top, bottom):
            line, given = plane[y][left:right], share[y][left:right]
            for c in range(out.shape[1]):
                new, old = out[n, c, y][left:right], images[n, c, y][left:right]
                for x in range(len(line)):
                    gone = (given[x] > ZERO) & (line[x] <= ZERO)
                    new[x] = old[x] if gone else new[x]


@njit(nogil=True, cache=True)
def _box(plane: Any) -> Any:
    """Rows and columns within which a plane is above 0."""
    height, width = plane.shape
    top, bottom, left, right = height, 0, width, 0
    for y in range(height):
        line, some = plane[y], False
        for x in range(width):
            some |= line[x] > ZERO
        if not some:
            continue
        top, bottom = min(top, y), y + 1
        first, last = 0, width
        while not line[first] > ZERO:
            first += 1
        while not line[last - 1] > ZERO:
            last -= 1
        left, right = min(left, first), max(right, last)
    return min(top, bottom), bottom, min(left, right), right


@njit(nogil=True, cache=True)
def _changes(before: Any, after: Any, inside: Any, top: Any, left: Any) -> Any:
    """Sums of the channels' changes in a part of two images, int32; 0 beyond the weight's spans."""
    height, width = inside.shape
    change = np.zeros((height, width), np.int32)
    for y in range(height):
        share = inside[y]
        x0, x1 = 0, width
        while x0 < x1 and not share[x0] > ZERO:
            x0 += 1
        while x1 > x0 and not share[x1 - 1] > ZERO:
            x1 -= 1
        line = change[y][x0:x1]
        for c in range(before.shape[0]):
            old, new = before[c, top + y][left + x0 :], after[c, top + y][left + x0 :]
            for x in range(len(line)):
                line[x] += abs(np.int32(old[x]) - np.int32(new[x]))
    return change


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
        fill(line, 0)
        for place in range(-reach, reach + 1):
            source = moved[min(max(y + place, 0), height - 1)]
            for x in range(width):
                line[x] += source[x]
        fill(wide[:reach], line[0])
        fill(wide[reach + width :], line[width - 1])
        fill(total, 0)
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
    """Medians of the disc around some pixels, which come row by row, int32; values to ``most``."""
    height, width = change.shape
    reach = places[:, 0].max()
    wide = np.empty((height + 2 * reach, width + 2 * reach), np.int32)
    for y in range(len(wide)):
        line = change[min(max(y - reach, 0), height - 1)]
        fill(wide[y, :reach], line[0])
        fill(wide[y, reach + width :], line[width - 1])
        into = wide[y, reach : reach + width]
        copy(into, line)
    found = np.empty(len(ys), np.int32)
    if most < _TALL:
        _slide(found, wide, ys, xs, places, most)
        return found
    near = np.empty(len(places), np.int32)
    for k in range(len(ys)):
        for n in range(len(places)):
            near[n] = wide[ys[k] + reach + places[n, 0], xs[k] + reach + places[n, 1]]
        found[k] = np.sort(near)[len(places) // 2]
    return found


@njit(cache=True)
def _slide(found: Any, wide: Any, ys: Any, xs: Any, places: Any, most: Any) -> Any:
    """The same from a histogram that goes along a row with the disc (Huang et al., 1979)."""
    reach, half = places[:, 0].max(), len(places) // 2
    spans = np.zeros(2 * reach + 1, np.int64)  # how far the disc's rows go to either side
    for n in range(len(places)):
        row = places[n, 0] + reach
        spans[row] = max(spans[row], places[n, 1])
    counts = np.zeros(most + 2, np.int32)
    middle, below = np.int32(0), 0  # how many lie below the middle
    for k in range(len(ys)):
        y, x = ys[k], xs[k] + reach
        if k == 0 or ys[k - 1] != y or xs[k - 1] + 1 != xs[k]:
            fill(counts, 0)
            below = 0
            for row in range(len(spans)):
                line = wide[y + row]
                for at in range(x - spans[row], x + spans[row] + 1):
                    counts[line[at]] += 1
                    below += line[at] < middle
        else:
            for row in range(len(spans)):
                gone, come = wide[y + row, x - spans[row] - 1], wide[y + row, x + spans[row]]
                if gone != come:
                    counts[gone] -= 1
                    counts[come] += 1
                    below += np.int64(come < middle) - np.int64(gone < middle)
        while below > half:
            middle -= 1
            below -= counts[middle]
        while below + counts[middle] <= half:
            below += counts[middle]
            middle += 1
        found[k] = middle
