"""Source parts for a list of pixels: the compiled twins of ``reference/sources.py``.

``run(code, out, rooms, batch, n, columns, scales, places, off, option)`` fills the first columns of
``out``, float32 ``[C, ROOM]``, with the colours at pixels of sample ``n``:

- ``places``: uint32 rows and uint32 columns of the pixels
- ``rooms``: two buffers like ``out``, the second of bytes
- the other arguments are those of ``arrays``; ``columns`` is the sample's row
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit

from ..reference.sources import BANK, BILINEAR, CHANNELWISE, COLUMNS, ROWS, STAGES, ZERO_FILL
from .noise import simplex_octaves
from .numbers import (
    HALF,
    ONE,
    ZERO,
    B,
    F,
    I,
    P,
    U,
    bytes_at,
    clamp,
    copy,
    fill,
    floats_at,
    gaussian_pair,
    philox,
    round_clip,
    uniform,
)

# The numbers by which a program calls the functions; order is free.
NAMES = ("gather_image", "gather_bank", "noise", "simplex", "given", "constant", "warp", "shuffled")
GATHER_IMAGE, GATHER_BANK, NOISE, SIMPLEX, GIVEN, CONSTANT, WARP, SHUFFLED = range(len(NAMES))

WHITE = F(255.0)


@njit(forceinline=True)
def bilinear(
    values: Any, at: Any, step_y: Any, step_x: Any, height: Any, width: Any, sy: Any, sx: Any
) -> Any:  # fmt: skip
    """A plane that begins at ``at`` between its pixels, at coordinates within it."""
    fy, fx = np.floor(sy), np.floor(sx)
    ty, tx = sy - fy, sx - fx
    iy, ix = int(fy), int(fx)
    ny, nx = min(iy + 1, height - 1), min(ix + 1, width - 1)
    upper, lower = at + iy * step_y, at + ny * step_y
    v00, v01 = F(values[P(upper + ix * step_x)]), F(values[P(upper + nx * step_x)])
    v10, v11 = F(values[P(lower + ix * step_x)]), F(values[P(lower + nx * step_x)])
    top = v00 + tx * (v01 - v00)
    bottom = v10 + tx * (v11 - v10)
    return top + ty * (bottom - top)


@njit
def sample(
    out: Any, values: Any, start: Any, steps: Any, size: Any, row: Any, off: Any, places: Any,
    option: Any, finite: Any,
) -> Any:  # fmt: skip
    """A picture of ``size`` (rows, columns) under the affine map in six columns.

    Its pixel (c, y, x) is ``values[start + c * steps[0] + y * steps[1] + x * steps[2]]``; of
    ``finite`` values the four taps are one where every place is a whole pixel.
    """
    ys, xs = places
    count = len(xs)
    height, width = size
    step_c, step_y, step_x = steps
    last_y, last_x = F(height - 1), F(width - 1)
    low, half_y, half_x = -HALF, last_y + HALF, last_x + HALF
    yy, yx, y_at = row[off], row[off + 1], row[off + 2]
    xy, xx, x_at = row[off + 3], row[off + 4], row[off + 5]
    smooth, filled = (option & BILINEAR) != 0, (option & ZERO_FILL) != 0
    # Places first, all of them, so that the reads that follow wait for memory together.
    at, right, below = np.empty((3, count), np.uint32)
    ty, tx, inside = np.empty((3, count), np.float32)
    for k in range(count):
        y, x = F(I(ys[k])), F(I(xs[k]))
        sy = (yy * y + yx * x) + y_at
        sx = (xy * y + xx * x) + x_at
        within = (sy >= low) & (sy <= half_y) & (sx >= low) & (sx <= half_x)
        inside[k] = ONE if within else ZERO
        sy, sx = clamp(sy, ZERO, last_y), clamp(sx, ZERO, last_x)
        fy, fx = np.floor(sy if smooth else sy + HALF), np.floor(sx if smooth else sx + HALF)
        ty[k], tx[k] = sy - fy, sx - fx
        at[k] = U(I(fy)) * U(step_y) + U(I(fx)) * U(step_x)
        below[k] = U(step_y) if fy < last_y else U(0)
        right[k] = U(step_x) if fx < last_x else U(0)
    if smooth and finite:
        between = U(0)
        for k in range(count):
            between |= U(ty[k] != ZERO) | U(tx[k] != ZERO)
        smooth = between > U(0)
    for c in range(len(out)):
        plane, line = values[start + c * step_c :], out[c][:count]
        if smooth:
            for k in range(count):
                n, e, s = P(at[k]), P(right[k]), P(below[k])
                v00, v01 = F(plane[n]), F(plane[n + e])
                v10, v11 = F(plane[n + s]), F(plane[n + s + e])
                top = v00 + tx[k] * (v01 - v00)
                bottom = v10 + tx[k] * (v11 - v10)
                line[k] = top + ty[k] * (bottom - top)
        else:
            for k in range(count):
                line[k] = F(plane[P(at[k])])
        if filled:
            for k in range(count):
                line[k] = line[k] if inside[k] > ZERO else ZERO


@njit
def colour_stages(
    out: Any, eight: Any, count: Any, columns: Any, off: Any, stages: Any, scale: Any
) -> Any:
    """Rounded to 8 bits (NaN becomes 0) and through stages of table and colour matrix, in place.

    ``scale`` makes white 255; ``out`` is left in [0, 255].
    """
    channels, row = len(out), columns.floats
    for c in range(channels):
        line, byte = out[c][:count], eight[c][:count]
        for k in range(count):
            v = line[k] * scale
            byte[k] = B(round_clip(v if v == v else ZERO, WHITE))
    for s in range(stages):
        for c in range(channels):
            first = 4 * off + (s * channels + c) * 256
            table, byte = columns.octets[first : first + 256], eight[c][:count]
            for k in range(count):
                byte[k] = table[byte[k]]
        if channels == 3:
            m = off + 192 * channels + 12 * s
            red, green, blue = eight[0][:count], eight[1][:count], eight[2][:count]
            m0, m1, m2 = row[m : m + 4], row[m + 4 : m + 8], row[m + 8 : m + 12]
            for k in range(count):
                r, g, b = F(red[k]), F(green[k]), F(blue[k])
                red[k] = mix_channels(r, g, b, m0)
                green[k] = mix_channels(r, g, b, m1)
                blue[k] = mix_channels(r, g, b, m2)
    for c in range(channels):
        line, byte = out[c][:count], eight[c][:count]
        for k in range(count):
            line[k] = F(byte[k])


@njit(forceinline=True)
def mix_channels(r: Any, g: Any, b: Any, m: Any) -> Any:
    """One row of a colour matrix, rounded back to 8 bits."""
    return B(round_clip(((m[0] * r + m[1] * g) + m[2] * b) + m[3], WHITE))


@njit
def scale_by(out: Any, count: Any, scale: Any) -> Any:
    """Values times ``scale``, in place."""
    for c in range(len(out)):
        line = out[c][:count]
        for k in range(count):
            line[k] *= scale


@njit
def gather_image(
    out: Any, rooms: Any, batch: Any, n: Any, columns: Any, scales: Any, places: Any, off: Any,
    option: Any,
) -> Any:  # fmt: skip
    """The batch itself: own image, or the batch row of column 6. Columns: affine, row, stages."""
    donor = columns.ints[off + 6]
    donor = min(n if donor < 0 else donor, batch.shape[0] - 1)
    start, strides = donor * batch.strides[0], batch.strides
    steps, size = (strides[1], strides[2], strides[3]), (batch.shape[2], batch.shape[3])
    whole = scales[0] > ONE  # numbers, which are never NaN
    sample(out, batch.pixels, start, steps, size, columns.floats, off, places, option, whole)
    if (option & STAGES) != 0:
        stages, count = columns.ints[off + 7], len(places[0])
        if stages > 0:
            colour_stages(out, rooms[1], count, columns, off + 8, stages, scales[3])
            scale_by(out, count, scales[4])


@njit
def warp(out: Any, batch: Any, n: Any, row: Any, places: Any, off: Any) -> Any:
    """The own image bent within an ellipse: centre, map to its unit disc, shift, matrix."""
    ys, xs = places
    height, width = batch.shape[2], batch.shape[3]
    last_y, last_x = F(height - 1), F(width - 1)
    strides = batch.strides
    cy, cx = row[off], row[off + 1]
    vy, vx, uy, ux = row[off + 2], row[off + 3], row[off + 4], row[off + 5]
    ty, tx = row[off + 6], row[off + 7]
    yy, yx, xy, xx = row[off + 8], row[off + 9], row[off + 10], row[off + 11]
    for c in range(len(out)):
        at = n * strides[0] + c * strides[1]
        line = out[c][: len(xs)]
        for k in range(len(xs)):
            y, x = F(I(ys[k])), F(I(xs[k]))
            dy, dx = y - cy, x - cx
            v = vy * dy + vx * dx
            u = uy * dy + ux * dx
            window = max(ONE - (u * u + v * v), ZERO)
            window = window * window
            sy = clamp(y + window * ((ty + yy * dy) + yx * dx), ZERO, last_y)
            sx = clamp(x + window * ((tx + xy * dy) + xx * dx), ZERO, last_x)
            line[k] = bilinear(batch.pixels, at, strides[2], strides[3], height, width, sy, sx)


@njit
def shuffled(
    out: Any, rooms: Any, batch: Any, n: Any, columns: Any, scales: Any, places: Any, off: Any,
    option: Any,
) -> Any:  # fmt: skip
    """The image itself, turned, then its grid's cells exchanged: affine map, cells, stages."""
    ys, xs = places
    row, strides, count = columns.floats, batch.strides, len(xs)
    height, width = batch.shape[2], batch.shape[3]
    last_y, last_x = F(height - 1), F(width - 1)
    grid_y, grid_x = option // ROWS % 32, option // COLUMNS
    first = 4 * (off + 6)
    order = columns.octets[first : first + grid_y * grid_x]
    for k in range(count):
        iy, ix = I(ys[k]), I(xs[k])
        ny, nx = ((iy + 1) * grid_y - 1) // height, ((ix + 1) * grid_x - 1) // width
        shown = I(order[ny * grid_x + nx])
        my, mx = shown // grid_x, shown % grid_x
        # A cell may be a pixel larger than the one it shows, beyond which the image may end.
        y = F(min(iy - ny * height // grid_y + my * height // grid_y, height - 1))
        x = F(min(ix - nx * width // grid_x + mx * width // grid_x, width - 1))
        sy = (row[off] * y + row[off + 1] * x) + row[off + 2]
        sx = (row[off + 3] * y + row[off + 4] * x) + row[off + 5]
        inside = (sy >= -HALF) & (sy <= last_y + HALF) & (sx >= -HALF) & (sx <= last_x + HALF)
        sy, sx = clamp(sy, ZERO, last_y), clamp(sx, ZERO, last_x)
        for c in range(len(out)):
            at = n * strides[0] + c * strides[1]
            value = bilinear(batch.pixels, at, strides[2], strides[3], height, width, sy, sx)
            out[c, k] = value if inside else ZERO
    if (option & STAGES) != 0:
        at = off + 6 + (grid_y * grid_x + 3) // 4
        stages = columns.ints[at]
        if stages > 0:
            colour_stages(out, rooms[1], count, columns, at + 1, stages, scales[3])
            scale_by(out, count, scales[4])


@njit
def gather_bank(
    out: Any, rooms: Any, batch: Any, columns: Any, scales: Any, places: Any, off: Any,
    option: Any,
) -> Any:  # fmt: skip
    """An image of a bank. Columns: affine, image, h, w, channel stride, sharpness, stages."""
    number, count = option // BANK * 2, len(places[0])
    row, ints, spare = columns.floats, columns.ints, rooms[0]
    images, channels = batch.sizes[number, 0], batch.sizes[number, 1]
    size = (batch.sizes[number, 2], batch.sizes[number, 3])
    plane = size[0] * size[1]
    # One channel serves any number of them.
    steps, start = (plane if channels > 1 else 0, size[1], 1), ints[off + 6] * channels * plane
    pixels = bytes_at(batch.banks[number], images * channels * plane)
    sample(out, pixels, start, steps, size, row, off, places, option, True)
    if (option & STAGES) != 0:
        sharpness = row[off + 10]
        if sharpness != ONE:
            pixels = bytes_at(batch.banks[number + 1], images * channels * plane)
            sample(spare, pixels, start, steps, size, row, off, places, option, True)
            for c in range(len(out)):
                line, smooth = out[c][:count], spare[c][:count]
                for k in range(count):
                    v = smooth[k] + sharpness * (line[k] - smooth[k])
                    line[k] = np.floor(clamp(v, ZERO, WHITE))
        stages = ints[off + 11]
        if stages > 0:
            colour_stages(out, rooms[1], count, columns, off + 12, stages, ONE)
    scale_by(out, count, scales[4])


@njit
def noise(out: Any, width: Any, columns: Any, peak: Any, places: Any, off: Any, option: Any) -> Any:
    """White noise in an image of a width. Columns: key, key, then low, high or mean, std."""
    ys, xs = places
    row, channels, count = columns.floats, len(out), len(xs)
    k0, k1 = U(columns.ints[off]), U(columns.ints[off + 1])
    low = row[off + 2]
    spread = row[off + 3] if option == 1 else row[off + 3] - low
    # Words, numbers and colours one after another: then all three are vectorised.
    words, drawn = np.empty((4, count), np.uint32), np.empty((4, count), np.float32)
    w0, w1, w2, w3 = words[0], words[1], words[2], words[3]
    for c in range(0, channels, 4):
        for k in range(count):
            pixel = U(U(ys[k] * U(width)) + xs[k])
            w0[k], w1[k], w2[k], w3[k] = philox(k0, k1, pixel, U(c // 4))
        for d in range(0, 4, 2):
            first, second = drawn[d], drawn[d + 1]
            if option == 1:
                for k in range(count):
                    first[k], second[k] = gaussian_pair(words[d, k], words[d + 1, k])
            else:
                for k in range(count):
                    first[k], second[k] = uniform(words[d, k]), uniform(words[d + 1, k])
        for d in range(min(4, channels - c)):
            line, number = out[c + d][:count], drawn[d]
            for k in range(count):
                line[k] = (low + number[k] * spread) * peak


@njit
def simplex(out: Any, columns: Any, peak: Any, places: Any, off: Any, option: Any) -> Any:
    """Simplex noise about a mean. Columns: affine, key, persistence, mean, amplitude."""
    ys, xs = places
    row = columns.floats
    persistence, mean, amplitude = row[off + 7], row[off + 8], row[off + 9]
    several, octaves = (option & CHANNELWISE) != 0, option % CHANNELWISE
    for c in range(len(out)):
        line = out[c][: len(xs)]
        if c > 0 and not several:
            copy(line, out[0])
            continue
        key = U(U(columns.ints[off + 6]) + U(U(c) * U(0xC2B2AE35)))
        for k in range(len(xs)):
            y, x = F(I(ys[k])), F(I(xs[k]))
            cy = (row[off] * y + row[off + 1] * x) + row[off + 2]
            cx = (row[off + 3] * y + row[off + 4] * x) + row[off + 5]
            drawn = simplex_octaves(key, cy, cx, persistence, octaves)
            line[k] = (mean + amplitude * drawn) * peak


@njit
def given(out: Any, picture: Any, shape: Any, n: Any, places: Any) -> Any:
    """A picture like the batch at the pixel itself."""
    ys, xs = places
    plane = shape[2] * shape[3]
    for c in range(len(out)):
        line, values = out[c][: len(xs)], picture[(n * shape[1] + c) * plane :]
        for k in range(len(xs)):
            line[k] = F(values[ys[k] * P(shape[3]) + xs[k]])


@njit
def run(
    code: Any, out: Any, rooms: Any, batch: Any, n: Any, columns: Any, scales: Any, places: Any,
    off: Any, option: Any,
) -> Any:  # fmt: skip
    """Colours of one layer at some pixels."""
    if code == GATHER_IMAGE:
        gather_image(out, rooms, batch, n, columns, scales, places, off, option)
    elif code == GATHER_BANK:
        gather_bank(out, rooms, batch, columns, scales, places, off, option)
    elif code == NOISE:
        noise(out, batch.shape[3], columns, scales[0], places, off, option)
    elif code == SIMPLEX:
        simplex(out, columns, scales[0], places, off, option)
    elif code == GIVEN:
        b, c, h, w = batch.shape
        at, count = batch.banks[option], b * c * h * w
        if batch.sizes[option, 0] > 0:
            given(out, bytes_at(at, count), batch.shape, n, places)
        else:
            given(out, floats_at(at, count), batch.shape, n, places)
    elif code == WARP:
        warp(out, batch, n, columns.floats, places, off)
    elif code == SHUFFLED:
        shuffled(out, rooms, batch, n, columns, scales, places, off, option)
    else:
        for c in range(len(out)):
            fill(out[c][: len(places[0])], columns.floats[off + c] * scales[0])
