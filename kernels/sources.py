"""Source parts: what an anomaly is made of, as one float32 block per channel in image units.

Every function has the shape
``part(image, banks, row, y, x, b, pix, c0, B, H, W, OFF, OPT, C, CG, NHWC, PEAK) -> blocks``:

- ``image``: pointer to the batch; ``banks``: tuple of pointers to uint8 ``[N, C, h, w]`` tensors,
  two per bank: its images and their smoothed twins; then pictures like the batch, contiguous
- ``c0``: first of the ``CG`` channels asked for; the result is a tuple of ``CG`` blocks
- ``PEAK``: white in image units (255, 65535 or 1); banks are scaled by ``PEAK / 255``
- the other arguments are those of ``kernels/masks.py``
"""

import triton
import triton.language as tl

from .masks import f, i
from .noise import octaves, simplex_noise
from .rng import gaussian_pair, philox, uniform

# OPT of the gathers: interpolation, fill, colour stages, and the bank's number above them.
BILINEAR = tl.constexpr(1)
ZERO_FILL = tl.constexpr(2)
STAGES = tl.constexpr(4)
BANK = tl.constexpr(8)

# OPT of shuffled: the gathers' bits, and above them the grid's rows and columns, below 32.
ROWS = tl.constexpr(8)
COLUMNS = tl.constexpr(256)

# OPT of simplex: the number of octaves, and whether channels differ.
CHANNELWISE = tl.constexpr(16)


@triton.jit
def round_clip(value, peak: tl.constexpr):
    """Round half up to an integer in [0, peak]."""
    return tl.minimum(tl.maximum(tl.floor(value + 0.5), 0.0), peak)


@triton.jit
def sample_plane(plane, step, sy, sx, h, w, OPT: tl.constexpr):
    """One channel at float source coordinates.

    ``plane`` points at the channel's first pixel, ``step`` is the distance between pixels.
    """
    last_y = (h - 1).to(tl.float32)
    last_x = (w - 1).to(tl.float32)
    # A source reaches half a pixel beyond the centres of its outermost pixels.
    inside = (sy >= -0.5) & (sy <= last_y + 0.5) & (sx >= -0.5) & (sx <= last_x + 0.5)
    sy = tl.minimum(tl.maximum(sy, 0.0), last_y)
    sx = tl.minimum(tl.maximum(sx, 0.0), last_x)
    if BILINEAR & OPT:
        fy = tl.floor(sy)
        fx = tl.floor(sx)
        ty = sy - fy
        tx = sx - fx
        iy = fy.to(tl.int32)
        ix = fx.to(tl.int32)
        ny = tl.minimum(iy + 1, h - 1)
        nx = tl.minimum(ix + 1, w - 1)
        v00 = tap(plane, step, iy, ix, w)
        v01 = tap(plane, step, iy, nx, w)
        v10 = tap(plane, step, ny, ix, w)
        v11 = tap(plane, step, ny, nx, w)
        top = v00 + tx * (v01 - v00)
        bottom = v10 + tx * (v11 - v10)
        value = top + ty * (bottom - top)
    else:
        iy = tl.floor(sy + 0.5).to(tl.int32)
        ix = tl.floor(sx + 0.5).to(tl.int32)
        value = tap(plane, step, iy, ix, w)
    if ZERO_FILL & OPT:
        value = tl.where(inside, value, 0.0)
    return value


@triton.jit
def tap(plane, step, iy, ix, w):
    """One pixel."""
    return tl.load(plane + (iy * w + ix) * step).to(tl.float32)


@triton.jit
def colour_stages(values, row, count, OFF: tl.constexpr, C: tl.constexpr, CG: tl.constexpr, c0):
    """Up to three stages of table and colour matrix on 8-bit values held as floats."""
    for s in tl.static_range(3):
        if count > s:
            looked = ()
            for c in tl.static_range(CG):
                # The last group of a many-channel image may be padded: read a table that exists.
                channel = tl.minimum(c0 + c, C - 1)
                table = (row + OFF + (s * C + channel) * 64).to(
                    tl.pointer_type(tl.uint8), bitcast=True
                )
                looked = looked + (tl.load(table + values[c].to(tl.int32)).to(tl.float32),)
            if C == 3:
                m = row + OFF + 3 * C * 64 + s * 12
                values = (
                    mix_channels(looked[0], looked[1], looked[2], m),
                    mix_channels(looked[0], looked[1], looked[2], m + 4),
                    mix_channels(looked[0], looked[1], looked[2], m + 8),
                )
            else:
                values = looked
    return values


@triton.jit
def mix_channels(r, g, b, m):
    """One row of a colour matrix, rounded back to 8 bits."""
    mixed = ((f(m, 0) * r + f(m, 1) * g) + f(m, 2) * b) + f(m, 3)
    return round_clip(mixed, 255.0)


@triton.jit
def gather_image(
    image, banks, row, y, x, b, pix, c0, B, H, W,
    OFF: tl.constexpr, OPT: tl.constexpr, C: tl.constexpr, CG: tl.constexpr,
    NHWC: tl.constexpr, PEAK: tl.constexpr,
):  # fmt: skip
    """The batch itself: own image, or the batch row of column 6. Columns: affine, row, stages."""
    sy = (f(row, OFF) * y + f(row, OFF + 1) * x) + f(row, OFF + 2)
    sx = (f(row, OFF + 3) * y + f(row, OFF + 4) * x) + f(row, OFF + 5)
    donor = i(row, OFF + 6).to(tl.int64)
    # Replayed in a smaller batch a row may be gone; the last one is better than foreign memory.
    donor = tl.minimum(tl.where(donor < 0, b, donor), B - 1)
    start = image + donor * C * H * W
    values = ()
    for c in tl.static_range(CG):
        channel = tl.minimum(c0 + c, C - 1)
        if NHWC:
            values = values + (sample_plane(start + channel, C, sy, sx, H, W, OPT),)
        else:
            values = values + (sample_plane(start + channel * H * W, 1, sy, sx, H, W, OPT),)
    if STAGES & OPT:
        count = i(row, OFF + 7)
        if count > 0:
            eight = ()
            for c in tl.static_range(CG):
                eight = eight + (round_clip(values[c] * (255.0 / PEAK), 255.0),)
            eight = colour_stages(eight, row, count, OFF + 8, C, CG, c0)
            values = ()
            for c in tl.static_range(CG):
                values = values + (eight[c] * (PEAK / 255.0),)
    return values


@triton.jit
def warp(
    image, banks, row, y, x, b, pix, c0, B, H, W,
    OFF: tl.constexpr, OPT: tl.constexpr, C: tl.constexpr, CG: tl.constexpr,
    NHWC: tl.constexpr, PEAK: tl.constexpr,
):  # fmt: skip
    """The own image bent within an ellipse: centre, map to its unit disc, shift, matrix."""
    dy = y - f(row, OFF)
    dx = x - f(row, OFF + 1)
    v = f(row, OFF + 2) * dy + f(row, OFF + 3) * dx
    u = f(row, OFF + 4) * dy + f(row, OFF + 5) * dx
    window = tl.maximum(1.0 - (u * u + v * v), 0.0)
    window = window * window
    sy = y + window * ((f(row, OFF + 6) + f(row, OFF + 8) * dy) + f(row, OFF + 9) * dx)
    sx = x + window * ((f(row, OFF + 7) + f(row, OFF + 10) * dy) + f(row, OFF + 11) * dx)
    start = image + b * C * H * W
    values = ()
    for c in tl.static_range(CG):
        channel = tl.minimum(c0 + c, C - 1)
        if NHWC:
            values = values + (sample_plane(start + channel, C, sy, sx, H, W, OPT),)
        else:
            values = values + (sample_plane(start + channel * H * W, 1, sy, sx, H, W, OPT),)
    return values


@triton.jit
def shuffled(
    image, banks, row, y, x, b, pix, c0, B, H, W,
    OFF: tl.constexpr, OPT: tl.constexpr, C: tl.constexpr, CG: tl.constexpr,
    NHWC: tl.constexpr, PEAK: tl.constexpr,
):  # fmt: skip
    """The image itself, turned, then its grid's cells exchanged. Columns: affine, cells, stages.

    A byte for each cell says which one it shows; cell ``k`` of n begins at pixel ``k size // n``.
    """
    iy = y.to(tl.int32)
    ix = x.to(tl.int32)
    ny = ((iy + 1) * (OPT // ROWS % 32) - 1) // H
    nx = ((ix + 1) * (OPT // COLUMNS) - 1) // W
    # Tiles reach beyond the image; what is read there is not used.
    cell = tl.minimum(ny * (OPT // COLUMNS) + nx, (OPT // ROWS % 32) * (OPT // COLUMNS) - 1)
    order = (row + OFF + 6).to(tl.pointer_type(tl.uint8), bitcast=True)
    shown = tl.load(order + cell).to(tl.int32)
    my = shown // (OPT // COLUMNS)
    mx = shown % (OPT // COLUMNS)
    py = iy - ny * H // (OPT // ROWS % 32) + my * H // (OPT // ROWS % 32)
    px = ix - nx * W // (OPT // COLUMNS) + mx * W // (OPT // COLUMNS)
    # A cell may be a pixel larger than the one it shows, beyond which the image may end.
    py = tl.minimum(py, H - 1).to(tl.float32)
    px = tl.minimum(px, W - 1).to(tl.float32)
    sy = (f(row, OFF) * py + f(row, OFF + 1) * px) + f(row, OFF + 2)
    sx = (f(row, OFF + 3) * py + f(row, OFF + 4) * px) + f(row, OFF + 5)
    start = image + b * C * H * W
    values = ()
    for c in tl.static_range(CG):
        channel = tl.minimum(c0 + c, C - 1)
        if NHWC:
            values = values + (sample_plane(start + channel, C, sy, sx, H, W, OPT),)
        else:
            values = values + (sample_plane(start + channel * H * W, 1, sy, sx, H, W, OPT),)
    if STAGES & OPT:
        AT: tl.constexpr = OFF + 6 + ((OPT // ROWS % 32) * (OPT // COLUMNS) + 3) // 4
        count = i(row, AT)
        if count > 0:
            eight = ()
            for c in tl.static_range(CG):
                eight = eight + (round_clip(values[c] * (255.0 / PEAK), 255.0),)
            eight = colour_stages(eight, row, count, AT + 1, C, CG, c0)
            values = ()
            for c in tl.static_range(CG):
                values = values + (eight[c] * (PEAK / 255.0),)
    return values


@triton.jit
def gather_bank(
    image, banks, row, y, x, b, pix, c0, B, H, W,
    OFF: tl.constexpr, OPT: tl.constexpr, C: tl.constexpr, CG: tl.constexpr,
    NHWC: tl.constexpr, PEAK: tl.constexpr,
):  # fmt: skip
    """An image of a bank. Columns: affine, image, h, w, channel stride, sharpness, stages.

    Bank ``n`` is at ``banks[2 n]``, its smoothed twin at ``banks[2 n + 1]``; sharpness 1 leaves the
    twin unread.
    """
    sy = (f(row, OFF) * y + f(row, OFF + 1) * x) + f(row, OFF + 2)
    sx = (f(row, OFF + 3) * y + f(row, OFF + 4) * x) + f(row, OFF + 5)
    h = i(row, OFF + 7)
    w = i(row, OFF + 8)
    step_c = i(row, OFF + 9)
    size = tl.where(step_c == 0, 1, C).to(tl.int64) * h * w
    image_at = i(row, OFF + 6) * size
    start = banks[OPT // BANK * 2] + image_at
    values = ()
    for c in tl.static_range(CG):
        channel = tl.minimum(c0 + c, C - 1)
        v = sample_plane(start + channel * step_c, 1, sy, sx, h, w, OPT)
        if STAGES & OPT:
            sharpness = f(row, OFF + 10)
            if sharpness != 1.0:
                soft = banks[OPT // BANK * 2 + 1] + image_at + channel * step_c
                s = sample_plane(soft, 1, sy, sx, h, w, OPT)
                # Truncated, not rounded: so does Pillow's enhancer.
                v = tl.floor(tl.minimum(tl.maximum(s + sharpness * (v - s), 0.0), 255.0))
        values = values + (v,)
    if STAGES & OPT:
        count = i(row, OFF + 11)
        if count > 0:
            eight = ()
            for c in tl.static_range(CG):
                eight = eight + (round_clip(values[c], 255.0),)
            values = colour_stages(eight, row, count, OFF + 12, C, CG, c0)
    scaled = ()
    for c in tl.static_range(CG):
        scaled = scaled + (values[c] * (PEAK / 255.0),)
    return scaled


@triton.jit
def noise(
    image, banks, row, y, x, b, pix, c0, B, H, W,
    OFF: tl.constexpr, OPT: tl.constexpr, C: tl.constexpr, CG: tl.constexpr,
    NHWC: tl.constexpr, PEAK: tl.constexpr,
):  # fmt: skip
    """White noise per pixel and channel. Columns: key, key, then low, high or (OPT 1) mean, std."""
    k0 = i(row, OFF).to(tl.uint32, bitcast=True)
    k1 = i(row, OFF + 1).to(tl.uint32, bitcast=True)
    first = pix.to(tl.uint32)
    group = (pix * 0 + c0 // 4).to(tl.uint32)
    w0, w1, w2, w3 = philox(k0, k1, first, group, first * 0, first * 0)
    low = f(row, OFF + 2)
    if OPT == 1:
        g0, g1 = gaussian_pair(w0, w1)
        g2, g3 = gaussian_pair(w2, w3)
        drawn = (g0, g1, g2, g3)
        spread = f(row, OFF + 3)
    else:
        drawn = (uniform(w0), uniform(w1), uniform(w2), uniform(w3))
        spread = f(row, OFF + 3) - low
    values = ()
    for c in tl.static_range(CG):
        values = values + ((low + drawn[c] * spread) * PEAK,)
    return values


@triton.jit
def simplex(
    image, banks, row, y, x, b, pix, c0, B, H, W,
    OFF: tl.constexpr, OPT: tl.constexpr, C: tl.constexpr, CG: tl.constexpr,
    NHWC: tl.constexpr, PEAK: tl.constexpr,
):  # fmt: skip
    """Simplex noise about a mean. Columns: affine, key, persistence, mean, amplitude."""
    cy = (f(row, OFF) * y + f(row, OFF + 1) * x) + f(row, OFF + 2)
    cx = (f(row, OFF + 3) * y + f(row, OFF + 4) * x) + f(row, OFF + 5)
    key = i(row, OFF + 6).to(tl.uint32, bitcast=True)
    values = ()
    for c in tl.static_range(CG):
        if CHANNELWISE & OPT:
            channel = (tl.full((), c, tl.int32) + c0).to(tl.uint32)
            own = key + channel * tl.full((), 0xC2B2AE35, tl.uint32)
            drawn = octaves(cy, cx, own, f(row, OFF + 7), simplex_noise, OPT % 16)
            values = values + ((f(row, OFF + 8) + f(row, OFF + 9) * drawn) * PEAK,)
        else:
            if c == 0:
                drawn = octaves(cy, cx, key, f(row, OFF + 7), simplex_noise, OPT)
                grey = (f(row, OFF + 8) + f(row, OFF + 9) * drawn) * PEAK
            values = values + (grey,)
    return values


@triton.jit
def constant(
    image, banks, row, y, x, b, pix, c0, B, H, W,
    OFF: tl.constexpr, OPT: tl.constexpr, C: tl.constexpr, CG: tl.constexpr,
    NHWC: tl.constexpr, PEAK: tl.constexpr,
):  # fmt: skip
    """One colour per sample. Columns: C values in [0, 1]."""
    values = ()
    for c in tl.static_range(CG):
        channel = tl.minimum(c0 + c, C - 1)
        values = values + (y * 0.0 + x * 0.0 + tl.load(row + OFF + channel) * PEAK,)
    return values


@triton.jit
def given(
    image, banks, row, y, x, b, pix, c0, B, H, W,
    OFF: tl.constexpr, OPT: tl.constexpr, C: tl.constexpr, CG: tl.constexpr,
    NHWC: tl.constexpr, PEAK: tl.constexpr,
):  # fmt: skip
    """The picture ``banks[OPT]``, ``[B, C, H, W]`` in image units, at the pixel itself."""
    # Tiles reach beyond the image; what is read there is not used.
    at = tl.minimum(pix, H * W - 1)
    values = ()
    for c in tl.static_range(CG):
        channel = tl.minimum(c0 + c, C - 1)
        values = values + (tl.load(banks[OPT] + (b * C + channel) * H * W + at).to(tl.float32),)
    return values
