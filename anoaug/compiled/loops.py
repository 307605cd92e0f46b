"""The loops over samples and rows that the compiled backend runs, outside Python and its lock.

Their binaries are cached on disk. Numba keys them by the source of this file alone, so that a hash
of all files that are compiled into them, and of the constants these take from elsewhere, goes into
every key.
"""

from __future__ import annotations

import functools
import hashlib
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
from numba import njit

from ..recipe import ACTIVE, KIND, MIN_AREA, SPEC_VERSION, TOLERANCE
from . import arrays, blends, fills, masks, noise, numbers, sources
from .arrays import Columns
from .numbers import ONE, ZERO, F, U, copy, fill, round_clip

# Rows whose masks are made together, columns looked at together for a pixel that is inside, and
# pixels painted together.
ROWS = 16
RUN = 32
PIXELS = 1024


@functools.lru_cache(maxsize=1)
def _digest() -> str:
    files = [Path(str(holder.__file__)) for holder in _holders()]
    text = b"".join(path.read_bytes() for path in files)
    return hashlib.sha256(text + repr(_constants()).encode()).hexdigest()


def _holders() -> list[ModuleType]:
    """The modules whose functions are compiled in."""
    return [arrays, blends, fills, masks, noise, numbers, sources, sys.modules[__name__]]


def _constants() -> list[tuple[str, Any]]:
    """The numbers that are compiled in, by name: most of them come from other files."""
    found: list[tuple[str, Any]] = [("SPEC_VERSION", SPEC_VERSION)]
    for holder in _holders():
        named = sorted(vars(holder).items())
        found += [(f"{holder.__name__}.{key}", one) for key, one in named if _is_constant(one)]
    return found


def _is_constant(value: Any) -> bool:
    if isinstance(value, tuple):
        return all(_is_constant(one) for one in value)
    return isinstance(value, (bool, int, float, np.generic))


@njit
def copy_sample(copies: Any, n: Any, targets: Any) -> Any:
    """A sample to the output's dtype, normalised where that is wanted."""
    lines, scale, bias = copies.lines, copies.scale, copies.bias
    for r in range(lines.shape[1]):
        line, target = lines[n, r], targets[n, r]
        if len(scale) > 0:
            s = r // (lines.shape[1] // len(scale))
            by, plus = scale[s], bias[s]
            for k in range(len(line)):
                target[k] = F(line[k]) * by[k] + plus[k]
        else:
            for k in range(len(line)):
                target[k] = line[k]


@njit
def weigh_rows(
    covers: Any, weights: Any, stack: Any, slots: Any, banks: Any, columns: Any, program: Any,
    windows: Any, left: Any, right: Any, foreground: Any, n: Any, first: Any, rows: Any,
) -> Any:  # fmt: skip
    """Weights ``[L, ROWS, W]`` of every layer in rows from ``first`` on, and the greatest.

    Columns ``left .. right`` hold all windows; others are left as they are.
    """
    steps, layers, spans = program.steps, program.layers, program.spans
    several = len(layers) > 1  # the cover of one layer is its weight
    if several:
        for r in range(rows):
            fill(covers[r][left:right], ZERO)
            for number in range(len(layers)):
                fill(weights[number, r][left:right], ZERO)
    for number in range(len(layers)):
        y0, y1, x0, x1 = windows[number]
        if first + rows <= y0 or first >= y1 or x0 >= x1:
            continue
        top = np.int64(0)
        for m in range(spans[number], spans[number + 1]):
            code, off, option = steps[m]
            top = masks.run(
                code, stack, top, columns, first, rows, x0, x1, slots, banks, n, off, option
            )
        for r in range(rows):
            weight, cover, level = (
                weights[number, r][x0:x1], covers[r][x0:x1], stack[0, r][x0:x1],
            )  # fmt: skip
            blends.weigh(layers[number, 4], weight, level, columns.floats, layers[number, 5])
            if foreground >= 0:
                inside = slots[foreground, n, first + r, x0:x1]
                for k in range(len(weight)):
                    weight[k] = weight[k] if inside[k] > ZERO else ZERO
            for k in range(len(weight) if several else 0):
                cover[k] = max(cover[k], weight[k])


@njit(forceinline=True)
def any_above(values: Any) -> Any:
    """Whether any value is above 0."""
    found = U(0)
    for k in range(len(values)):
        found |= U(values[k] > ZERO)
    return found > U(0)


@njit
def collect_row(
    cover: Any, weights: Any, marked: Any, soft: Any, held: Any, places: Any, count: Any, y: Any,
    r: Any, left: Any,
) -> Any:  # fmt: skip
    """Append the pixels of row ``y`` that are inside, with their weights; returns the new count.

    ``cover`` and ``marked`` begin at column ``left``.
    """
    ys, xs = places
    first = count
    if not any_above(cover):
        return count
    for start in range(0, len(cover), RUN):
        part, mark = cover[start : start + RUN], marked[start : start + RUN]
        if any_above(part):
            for k in range(len(part)):
                mark[k] = part[k] if soft else (ONE if part[k] > ZERO else ZERO)
            for k in range(len(part)):
                # Without a branch: the place after the last is written in vain.
                xs[count] = left + start + k
                count += part[k] > ZERO
    fill(ys[first:count], U(y))
    for number in range(len(weights)):
        weight, kept = weights[number, r], held[number]
        for k in range(first, count):
            kept[k] = weight[xs[k]]
    return count


@njit
def pick(weight: Any, places: Any, some: Any) -> Any:
    """Number and place of the pixels where a layer has weight, into ``some``; returns how many."""
    ys, xs = places
    numbers, rows, columns = some
    count = 0
    for k in range(len(weight)):
        # Without a branch, as in ``collect_row``.
        numbers[count], rows[count], columns[count] = k, ys[k], xs[k]
        count += weight[k] > ZERO
    return count


@njit
def spread_out(colours: Any, numbers: Any) -> Any:
    """Move the first colours to the numbers that rise with them, in place: the last first."""
    for c in range(len(colours)):
        line = colours[c]
        for k in range(len(numbers) - 1, -1, -1):
            line[numbers[k]] = line[k]


@njit
def paint(
    batch: Any, results: Any, columns: Any, program: Any, wish: Any, n: Any, held: Any,
    buffers: Any, places: Any,
) -> Any:  # fmt: skip
    """Paint pixels of a sample, ``held`` are their weights; returns how many count."""
    at, before, values, colours, spare, moved, eight, some = buffers
    ys, xs = places
    count, strides, channels = len(xs), batch.strides, batch.shape[1]
    scales, norm = program.scales, wish.norm
    for k in range(count):
        at[k] = n * strides[0] + ys[k] * strides[2] + xs[k] * strides[3]
    for c in range(channels):
        plane, value, old = batch.pixels[c * strides[1] :], values[c][:count], before[c][:count]
        for k in range(count):
            old[k] = value[k] = F(plane[at[k]])
    for number in range(len(program.layers)):
        gate, code, off, option, _, _, mix = program.layers[number]
        if columns.floats[gate] > ZERO:
            rooms, weight = (spare, eight), held[number][:count]
            own = pick(weight, places, some) if len(program.layers) > 1 else count
            if own == 0:
                continue
            of_it = (some[1][:own], some[2][:own]) if own < count else places
            sources.run(code, colours, rooms, batch, n, columns, scales, of_it, off, option)
            if own < count:
                spread_out(colours, some[0][:own])
            for c in range(channels):
                blends.mix(mix, values[c][:count], colours[c][:count], weight, scales)
    fill(moved[:count], ZERO)
    for c in range(channels):
        value, old, plane = values[c][:count], before[c][:count], results.target[c * strides[1] :]
        if scales[0] > ONE:
            for k in range(count):
                value[k] = round_clip(value[k], scales[0])
        if wish.changed:
            for k in range(count):
                moved[k] = max(moved[k], abs(value[k] - old[k]))
        if len(norm) > 0:
            scale, bias = norm[0, c], norm[1, c]
            for k in range(count):
                value[k] = value[k] * scale + bias
        for k in range(count):
            plane[at[k]] = value[k]
    if not wish.changed:
        return count
    area, tolerance, shown = 0, columns.floats[TOLERANCE], results.mask[n, 0]
    for k in range(count):
        # Without a branch: which way it goes is as random as the pixels.
        still = moved[k] > tolerance
        area += still
        y, x = ys[k], xs[k]
        shown[y, x] = shown[y, x] if still else ZERO
    return area


# By Numba itself: else all that it calls is optimised a second time with the loop that calls it.
@njit(inline="always")
def render_sample(
    batch: Any, results: Any, columns: Any, program: Any, wish: Any, n: Any, lines: Any,
    held: Any, buffers: Any, places: Any, spread: Any,
) -> Any:  # fmt: skip
    """Anomalies of one sample, copied before; returns their area in pixels.

    From ``lines`` on, arguments are buffers.
    """
    height, width = batch.shape[2], batch.shape[3]
    layers, spans = program.layers, program.spans
    ys, xs = places
    covers, weights, stack = lines
    if len(layers) == 1:
        covers = weights[0]
    windows = np.zeros((len(layers), 4), np.int64)
    top, last, left, right = height, np.int64(0), width, np.int64(0)
    for number in range(len(layers)):
        if columns.floats[layers[number, 0]] > ZERO:
            code, off, option = program.steps[spans[number]]
            steps = spans[number + 1] - spans[number]
            cut = steps == 3 and program.steps[spans[number] + 2, 0] == masks.INTERSECTION
            if steps > 1 and not cut:
                code = -1  # joined levels may lie anywhere
            y0, y1, x0, x1 = masks.window(code, columns, off, option, height, width)
            window = windows[number]
            window[0], window[1], window[2], window[3] = y0, y1, x0, x1
            if y0 < y1 and x0 < x1:
                top, last, left, right = min(top, y0), max(last, y1), min(left, x0), max(right, x1)
    area, count = np.int64(0), np.int64(0)
    whole = fills.filled(program, wish)
    if whole:
        fills.colour_row(columns, program, wish, batch, spread[1])
    for first in range(top, last, ROWS):
        rows = min(ROWS, last - first)
        weigh_rows(
            covers, weights, stack, batch.slots, batch.banks, columns, program, windows,
            left, right, wish.foreground, n, first, rows,
        )  # fmt: skip
        if whole:
            area += fills.fill_rows(batch, results, covers, spread, n, first, rows, left, right)
            continue
        for r in range(rows):
            y = first + r
            cover, marked = covers[r][left:right], results.mask[n, 0, y][left:right]
            count = collect_row(cover, weights, marked, wish.soft, held, places, count, y, r, left)
            # Many pixels at a time, but no more than stay in cache.
            if count >= PIXELS or (y == last - 1 and count > 0):
                found = (ys[:count], xs[:count])
                area += paint(batch, results, columns, program, wish, n, held, buffers, found)
                count = 0
    return area


@functools.lru_cache(maxsize=1)
def render_loop() -> Any:
    """The compiled loop over samples ``start .. stop``; for its arguments see ``arrays``."""
    digest = _digest()

    @njit(nogil=True, cache=True)
    def loop(
        batch: Any, results: Any, copies: Any, table: Any, program: Any, wish: Any, start: Any,
        stop: Any,
    ) -> Any:  # fmt: skip
        if digest == "":
            return
        channels, width = batch.shape[1], batch.shape[3]
        layers, room = len(program.layers), PIXELS + width + 1
        lines = (
            np.empty((ROWS, width), np.float32),
            np.empty((layers, ROWS, width), np.float32),
            np.empty((len(program.steps), ROWS, width), np.float32),
        )
        held = np.empty((layers, room), np.float32)
        buffers = (
            np.empty(room, np.uint64),
            np.empty((channels, room), np.float32),
            np.empty((channels, room), np.float32),
            np.empty((channels, room), np.float32),
            np.empty((channels, room), np.float32),
            np.empty(room, np.float32),
            np.empty((channels, room), np.uint8),
            (np.empty(room, np.uint32), np.empty(room, np.uint32), np.empty(room, np.uint32)),
        )
        places = (np.empty(room, np.uint32), np.empty(room, np.uint32))
        spread = fills.room(width, channels, results.target)
        for n in range(start, stop):
            copy_sample(copies, n, copies.out)
            if copies.cleaned:
                copy_sample(copies, n, copies.clean)
            columns = Columns(table.floats[n], table.ints[n], table.octets[n])
            gates = 0
            for number in range(layers):
                gates += columns.floats[program.layers[number, 0]] > ZERO
            if gates == 0 or not columns.floats[ACTIVE] > ZERO:
                continue
            area = render_sample(
                batch, results, columns, program, wish, n, lines, held, buffers, places, spread
            )
            if F(area) >= columns.floats[MIN_AREA]:
                results.label[n], results.kind[n] = 1, columns.ints[KIND]
            elif area > 0 or wish.changed:
                # Too small to count: the sample turns clean again.
                copy_sample(copies, n, copies.out)
                for y in range(results.mask.shape[2]):
                    fill(results.mask[n, 0, y], ZERO)

    return loop


@functools.lru_cache(maxsize=1)
def field_loop() -> Any:
    """The compiled loop that writes the level of a mask, float32 ``[B, 1, H, W]``."""
    digest = _digest()

    @njit(nogil=True, cache=True)
    def loop(
        out: Any, table: Any, slots: Any, banks: Any, steps: Any, start: Any, stop: Any
    ) -> Any:
        if digest == "":
            return
        height, width = out.shape[2], out.shape[3]
        stack = np.empty((len(steps), ROWS, width), np.float32)
        for n in range(start, stop):
            columns = Columns(table.floats[n], table.ints[n], table.octets[n])
            for first in range(0, height, ROWS):
                rows, top = min(ROWS, height - first), np.int64(0)
                for m in range(len(steps)):
                    code, off, option = steps[m]
                    top = masks.run(
                        code,
                        stack,
                        top,
                        columns,
                        first,
                        rows,
                        0,
                        width,
                        slots,
                        banks,
                        n,
                        off,
                        option,
                    )
                for r in range(rows):
                    copy(out[n, 0, first + r], stack[0, r])

    return loop
