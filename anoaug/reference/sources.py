"""Source parts in torch: the colours of an anomaly in image units.

Every function has the shape
``part(image, banks, row, y, x, b, pix, offset, option, peak) -> float32 [C, B, N]``:

- ``image``: ``[B, C, H, W]``; ``banks``: uint8 tensors ``[N, C, h, w]``, two per
  bank: its images and their smoothed twins; then pictures like the batch, contiguous
- ``peak``: white in image units (255, 65535 or 1); banks are scaled by ``peak / 255``
- the other arguments are those of ``reference/masks.py``
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from ..rng import gaussian_pair, philox, uniform
from .masks import f, i
from .noise import CHANNEL_KEY, octaves, simplex_noise

# ``option`` of the gathers: interpolation, fill, colour stages, and the bank's number above them.
BILINEAR, ZERO_FILL, STAGES, BANK = 1, 2, 4, 8

# ``option`` of shuffled: the gathers' bits, and above them the grid's rows and columns, below 32.
ROWS, COLUMNS = 8, 256

# ``option`` of simplex: the number of octaves, and whether channels differ.
CHANNELWISE = 16


def round_clip(value: Tensor, peak: float) -> Tensor:
    """Round half up to an integer in [0, peak]."""
    return torch.floor(value + 0.5).clamp(0.0, peak)


def source_coordinates(row: Tensor, y: Tensor, x: Tensor, offset: int) -> tuple[Tensor, Tensor]:
    """Where pixels come from: the affine map in the six columns from ``offset``."""
    sy = (f(row, offset) * y + f(row, offset + 1) * x) + f(row, offset + 2)
    sx = (f(row, offset + 3) * y + f(row, offset + 4) * x) + f(row, offset + 5)
    return sy, sx


def sample_planes(
    planes: Tensor, n: Tensor, channels: int, sy: Tensor, sx: Tensor, h: Tensor, w: Tensor,
    option: int,
) -> Tensor:  # fmt: skip
    """Values of images ``n`` at float source coordinates.

    Args:
        planes: ``[N, C, h, w]`` of any dtype and layout; C may be 1 for any ``channels``.
        n: int64 ``[B, 1]`` image numbers.
        channels: Channels of the result.
        sy: float32 ``[B, N]`` source rows.
        sx: float32 ``[B, N]`` source columns.
        h: int64 ``[B, 1]`` heights.
        w: int64 ``[B, 1]`` widths.
        option: Interpolation and fill bits.

    Returns:
        float32 ``[C, B, N]``.
    """
    last_y, last_x = (h - 1).to(torch.float32), (w - 1).to(torch.float32)
    # A source reaches half a pixel beyond the centres of its outermost pixels.
    inside = (sy >= -0.5) & (sy <= last_y + 0.5) & (sx >= -0.5) & (sx <= last_x + 0.5)
    sy = torch.minimum(sy.clamp(min=0.0), last_y)
    sx = torch.minimum(sx.clamp(min=0.0), last_x)

    def tap(iy: Tensor, ix: Tensor) -> Tensor:
        # Advanced indices around a slice put the channel axis last.
        value = planes[n, :, iy, ix].movedim(-1, 0).to(torch.float32)
        return value.expand(channels, *value.shape[1:])

    if option & BILINEAR:
        fy, fx = torch.floor(sy), torch.floor(sx)
        ty, tx = sy - fy, sx - fx
        iy, ix = fy.to(torch.int64), fx.to(torch.int64)
        ny, nx = torch.minimum(iy + 1, h - 1), torch.minimum(ix + 1, w - 1)
        v00, v01, v10, v11 = tap(iy, ix), tap(iy, nx), tap(ny, ix), tap(ny, nx)
        top = v00 + tx * (v01 - v00)
        bottom = v10 + tx * (v11 - v10)
        values = top + ty * (bottom - top)
    else:
        values = tap(torch.floor(sy + 0.5).to(torch.int64), torch.floor(sx + 0.5).to(torch.int64))
    return torch.where(inside, values, 0.0) if option & ZERO_FILL else values


def eight_bits(values: Tensor, peak: float) -> Tensor:
    """Values with white at ``peak`` as integers in [0, 255]; NaN becomes 0."""
    return round_clip(torch.nan_to_num(values * (255.0 / peak)), 255.0)


def sharpen(values: Tensor, smooth: Tensor, sharpness: Tensor) -> Tensor:
    """Pillow's sharpness: away from the smoothed image, truncated to 8 bits."""
    return torch.floor((smooth + sharpness * (values - smooth)).clamp(0.0, 255.0))


def colour_stages(values: Tensor, row: Tensor, count: Tensor, offset: int, most: int = 3) -> Tensor:
    """Up to three stages of table and colour matrix on 8-bit values held as floats.

    Args:
        values: float32 integers in [0, 255], ``[C, B, N]``.
        row: Table rows; tables of 256 bytes per stage and channel begin at ``offset``, followed by
            3 x 4 matrices per stage.
        count: int64 ``[B, 1]``, stages in use.
        offset: First column.
        most: Stages that any row uses at most.
    """
    channels = values.shape[0]
    # A row slice of a contiguous table is not contiguous; the byte view needs that it is.
    tables = row[:, offset : offset + 192 * channels].contiguous().view(torch.uint8)
    for s in range(most):
        looked = torch.stack(
            [
                tables[:, (s * channels + c) * 256 : (s * channels + c + 1) * 256]
                .gather(1, values[c].to(torch.int64))
                .to(torch.float32)
                for c in range(channels)
            ]
        )
        if channels == 3:
            m = offset + 192 * channels + 12 * s
            looked = torch.stack(
                [
                    round_clip(
                        (
                            (f(row, m + k) * looked[0] + f(row, m + k + 1) * looked[1])
                            + f(row, m + k + 2) * looked[2]
                        )
                        + f(row, m + k + 3),
                        255.0,
                    )
                    for k in (0, 4, 8)
                ]
            )
        values = torch.where(count > s, looked, values)
    return values


def gather_image(
    image: Tensor, banks: Sequence[Tensor], row: Tensor, y: Tensor, x: Tensor, b: Tensor,
    pix: Tensor, offset: int, option: int, peak: float,
) -> Tensor:  # fmt: skip
    """The batch itself: own image, or the batch row of column 6. Columns: affine, row, stages."""
    sy, sx = source_coordinates(row, y, x, offset)
    donor = i(row, offset + 6)
    # Replayed in a smaller batch a row may be gone; the last one is better than foreign memory.
    donor = torch.where(donor < 0, b, donor).clamp(max=image.shape[0] - 1)
    channels, height, width = image.shape[1:]
    h, w = torch.full_like(donor, height), torch.full_like(donor, width)
    values = sample_planes(image, donor, channels, sy, sx, h, w, option)
    if option & STAGES:
        count = i(row, offset + 7)
        eight = colour_stages(eight_bits(values, peak), row, count, offset + 8) * (peak / 255.0)
        values = torch.where(count > 0, eight, values)
    return values


def warp(
    image: Tensor, banks: Sequence[Tensor], row: Tensor, y: Tensor, x: Tensor, b: Tensor,
    pix: Tensor, offset: int, option: int, peak: float,
) -> Tensor:  # fmt: skip
    """The own image bent within an ellipse: centre, map to its unit disc, shift, matrix.

    A pixel at ``d`` from the centre comes from ``window * (shift + matrix d)`` beside it, where
    ``window = (1 - r^2)^2`` within the unit disc: no displacement and no kink on the edge.
    """
    dy, dx = y - f(row, offset), x - f(row, offset + 1)
    v = f(row, offset + 2) * dy + f(row, offset + 3) * dx
    u = f(row, offset + 4) * dy + f(row, offset + 5) * dx
    window = (1.0 - (u * u + v * v)).clamp(min=0.0)
    window = window * window
    sy = y + window * ((f(row, offset + 6) + f(row, offset + 8) * dy) + f(row, offset + 9) * dx)
    sx = x + window * ((f(row, offset + 7) + f(row, offset + 10) * dy) + f(row, offset + 11) * dx)
    channels, height, width = image.shape[1:]
    h, w = torch.full_like(b, height), torch.full_like(b, width)
    return sample_planes(image, b, channels, sy, sx, h, w, option)


def grid_columns(option: int) -> int:
    """Columns of the table that hold the bytes of a grid's cells."""
    return (option // ROWS % 32 * (option // COLUMNS) + 3) // 4


def grid_cell(place: Tensor, cells: int, size: int) -> Tensor:
    """Which of ``cells`` parts of an axis of ``size`` pixels a pixel lies in: int64."""
    return ((place + 1) * cells - 1) // size


def shuffled(
    image: Tensor, banks: Sequence[Tensor], row: Tensor, y: Tensor, x: Tensor, b: Tensor,
    pix: Tensor, offset: int, option: int, peak: float,
) -> Tensor:  # fmt: skip
    """The image itself, turned, then its grid's cells exchanged. Columns: affine, cells, stages.

    A byte for each cell says which one it shows; cell ``k`` of n begins at pixel ``k size // n``.
    """
    channels, height, width = image.shape[1:]
    rows, columns = option // ROWS % 32, option // COLUMNS
    stages = offset + 6 + grid_columns(option)
    order = row[:, offset + 6 : stages].contiguous().view(torch.uint8)
    iy, ix = y.to(torch.int64), x.to(torch.int64)
    ny, nx = grid_cell(iy, rows, height), grid_cell(ix, columns, width)
    cell = (ny * columns + nx).expand(len(row), -1)
    shown = order.gather(1, cell).to(torch.int64)
    my, mx = shown // columns, shown % columns
    # A cell may be a pixel larger than the one it shows, beyond which the image may end.
    py = (iy - ny * height // rows + my * height // rows).clamp(max=height - 1)
    px = (ix - nx * width // columns + mx * width // columns).clamp(max=width - 1)
    sy, sx = source_coordinates(row, py.to(torch.float32), px.to(torch.float32), offset)
    h, w = torch.full_like(b, height), torch.full_like(b, width)
    values = sample_planes(image, b, channels, sy, sx, h, w, option)
    if option & STAGES:
        count = i(row, stages)
        eight = colour_stages(eight_bits(values, peak), row, count, stages + 1) * (peak / 255.0)
        values = torch.where(count > 0, eight, values)
    return values


def gather_bank(
    image: Tensor, banks: Sequence[Tensor], row: Tensor, y: Tensor, x: Tensor, b: Tensor,
    pix: Tensor, offset: int, option: int, peak: float,
) -> Tensor:  # fmt: skip
    """An image of a bank. Columns: affine, image, h, w, channel stride, sharpness, stages.

    Bank ``n`` is ``banks[2 n]``, its smoothed twin ``banks[2 n + 1]``; sharpness 1 leaves the twin
    unread.
    """
    number = option // BANK * 2
    bank, n = banks[number], i(row, offset + 6)
    channels = image.shape[1]
    sy, sx = source_coordinates(row, y, x, offset)
    h, w = i(row, offset + 7), i(row, offset + 8)
    values = sample_planes(bank, n, channels, sy, sx, h, w, option)
    if option & STAGES:
        sharpness = f(row, offset + 10)
        smooth = sample_planes(banks[number + 1], n, channels, sy, sx, h, w, option)
        values = torch.where(sharpness != 1.0, sharpen(values, smooth, sharpness), values)
        count = i(row, offset + 11)
        eight = colour_stages(eight_bits(values, 255.0), row, count, offset + 12)
        values = torch.where(count > 0, eight, values)
    return values * (peak / 255.0)


def noise(
    image: Tensor, banks: Sequence[Tensor], row: Tensor, y: Tensor, x: Tensor, b: Tensor,
    pix: Tensor, offset: int, option: int, peak: float,
) -> Tensor:  # fmt: skip
    """White noise per pixel and channel. Columns: key, key, then low, high or (1) mean, std."""
    key = (i(row, offset) & 0xFFFFFFFF, i(row, offset + 1) & 0xFFFFFFFF)
    low = f(row, offset + 2)
    spread = f(row, offset + 3) if option == 1 else f(row, offset + 3) - low
    planes: list[Tensor] = []
    for group in range(-(-image.shape[1] // 4)):
        w0, w1, w2, w3 = philox(key, (pix, group, 0, 0))
        if option == 1:
            planes += [*gaussian_pair(w0, w1), *gaussian_pair(w2, w3)]
        else:
            planes += [uniform(w) for w in (w0, w1, w2, w3)]
    return torch.stack([(low + drawn * spread) * peak for drawn in planes[: image.shape[1]]])


def simplex(
    image: Tensor, banks: Sequence[Tensor], row: Tensor, y: Tensor, x: Tensor, b: Tensor,
    pix: Tensor, offset: int, option: int, peak: float,
) -> Tensor:  # fmt: skip
    """Simplex noise about a mean. Columns: affine, key, persistence, mean, amplitude."""
    cy, cx = source_coordinates(row, y, x, offset)
    key, persistence = i(row, offset + 6) & 0xFFFFFFFF, f(row, offset + 7)
    channels = image.shape[1]
    planes = [
        octaves(
            cy, cx, (key + channel * CHANNEL_KEY) & 0xFFFFFFFF, persistence,
            simplex_noise, option % CHANNELWISE,
        )
        for channel in range(channels if option & CHANNELWISE else 1)
    ]  # fmt: skip
    values = (f(row, offset + 8) + f(row, offset + 9) * torch.stack(planes)) * peak
    return values.expand(channels, *values.shape[1:])


def constant(
    image: Tensor, banks: Sequence[Tensor], row: Tensor, y: Tensor, x: Tensor, b: Tensor,
    pix: Tensor, offset: int, option: int, peak: float,
) -> Tensor:  # fmt: skip
    """One colour per sample. Columns: C values in [0, 1]."""
    channels = image.shape[1]
    colour = row[:, offset : offset + channels].t().unsqueeze(-1) * peak
    return colour.expand(channels, row.shape[0], (y * x).shape[-1])


def given(
    image: Tensor, banks: Sequence[Tensor], row: Tensor, y: Tensor, x: Tensor, b: Tensor,
    pix: Tensor, offset: int, option: int, peak: float,
) -> Tensor:  # fmt: skip
    """The picture ``banks[option]``, ``[B, C, H, W]`` in image units, at the pixel itself."""
    picture = banks[option].flatten(2)
    if picture.dtype == torch.uint16:  # which torch cannot index
        values = picture.view(torch.int16)[b, :, pix].to(torch.int32) & 0xFFFF
    else:
        values = picture[b, :, pix]
    return values.movedim(-1, 0).to(torch.float32)
