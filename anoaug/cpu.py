"""The render op's faster way on the CPU: image by image, textures only under the mask.

On the CPU a data-dependent shape costs no synchronisation. This driver runs the reference's own
parts on few pixels, and replaces Perlin noise by one that hashes each lattice node once. It equals
``reference/render.py`` bit for bit.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from . import cpu_numpy
from .parts import reference_function
from .recipe import ACTIVE, KIND, MIN_AREA, TOLERANCE, LayerProgram, Layout
from .reference.blends import opacity, opaque
from .reference.masks import (
    Stack,
    cells,
    f,
    i,
    level_of,
    perlin,
    shape,
    shape_level,
    simplex,
    within,
)
from .reference.noise import (
    OCTAVE_KEY,
    corner_noise,
    gradient_noise,
    lattice_noise,
    octaves,
    simplex_cell,
    simplex_noise,
)
from .reference.render import Rendered, Wanted, fold_layer, indexable, store
from .reference.sources import (
    BANK,
    BILINEAR,
    CHANNELWISE,
    STAGES,
    ZERO_FILL,
    gather_bank,
    gather_image,
    grid_columns,
    round_clip,
    sample_planes,
    sharpen,
    shuffled,
    source_coordinates,
)
from .reference.sources import simplex as simplex_source
from .rng import lattice_hash, unit_vector

# Above this many nodes per pixel hashing the lattice is no saving.
_NODES_PER_PIXEL = 0.5

# Up to this many pixels the calls cost more than the arithmetic.
_FEW = 1 << 14

# Mask functions that do not read the pixel's number.
_PIXEL_FREE = frozenset(
    ("perlin", "simplex", "ellipses", "rectangle", "bitmap", "cells", "shape")
    + ("everywhere", "intersection", "union", "complement", "joined")
)


class _OneThread(threading.local):
    """One torch thread while a render runs: these ops are too small to share out.

    Threads that wait for each other at every op halve the speed, and more so on a busy machine. The
    number belongs to the calling thread (OpenMP's), so each sets and restores its own. A thread
    that uses torch for the first time meanwhile starts with one.
    """

    before = 1

    def __enter__(self) -> None:
        self.before = torch.get_num_threads()
        if self.before > 1:
            torch.set_num_threads(1)

    def __exit__(self, *_: object) -> None:
        if self.before > 1:
            torch.set_num_threads(self.before)


one_thread = _OneThread()


def render(
    image: Tensor,
    table: Tensor,
    slots: Sequence[Tensor],
    banks: Sequence[Tensor],
    norm: Tensor | None,
    layout: Layout,
    wanted: Wanted,
) -> Rendered:
    """Render a batch; arguments and results are those of ``reference.render.render``."""
    # Autocast would let the matrix product of the colours round to bfloat16.
    with one_thread, torch.autocast("cpu", enabled=False):
        try:
            return _render(image, table, slots, banks, norm, layout, wanted)
        finally:
            cpu_numpy.forget()


def _render(
    image: Tensor, table: Tensor, slots: Sequence[Tensor], banks: Sequence[Tensor],
    norm: Tensor | None, layout: Layout, wanted: Wanted,
) -> Rendered:  # fmt: skip
    batch, _, height, width = image.shape
    out = _copied(image, norm, wanted.dtype)
    mask = image.new_zeros((batch, 1, height, width), dtype=torch.float32)
    label = image.new_zeros(batch, dtype=torch.int64)
    kind = image.new_zeros(batch, dtype=torch.int64)
    untouched = out.clone() if wanted.clean else out.new_empty(0)
    y, x = _axes(height, width)
    readable, integer = indexable(image), not image.dtype.is_floating_point
    active = (table[:, ACTIVE] > 0).tolist()  # host: the table is a host tensor here
    for n in range(batch):  # host: one image at a time stays in cache
        if not active[n]:
            continue
        row = table[n : n + 1]
        least = float(row[0, MIN_AREA])
        layers = [layer for layer in layout.layers if row[0, layer.gate] > 0]
        if not layers:
            continue
        weights, top, left = _weights(layers, row, y, x, n, slots, banks, wanted.foreground)
        cover = weights[0] if len(layers) == 1 else weights.amax(0)
        inside = cover.numpy() > 0.0
        if np.count_nonzero(inside) < least:
            continue
        if len(layers) == 1 and cpu_numpy.filled(layers[0], integer, wanted.changed):
            rows, columns = slice(top, top + len(inside)), slice(left, left + inside.shape[1])
            shown = out[n, :, rows, columns]
            cpu_numpy.fill(shown, inside, layers[0], row, norm, layout.peak)
            mask[n, 0, rows, columns] = cover
            label[n], kind[n] = 1, i(row, KIND)[0, 0]
            continue
        at = torch.from_numpy(np.flatnonzero(inside))
        weights = weights.flatten(1).index_select(1, at)
        pix = (at // inside.shape[1] + top) * width + (at % inside.shape[1] + left)
        values = _values(readable, n, row, pix, layers, weights, banks, layout.peak)
        kept = weights.amax(0) if len(layers) > 1 else weights[0]
        if wanted.changed:
            start = cpu_numpy.taken(readable[n], pix)
            moved = (values - start).abs().amax(0) > row[0, TOLERANCE]
            kept = torch.where(moved, kept, 0.0)
            if (kept > 0.0).sum() < least:
                continue
        cpu_numpy.put(out[n], pix, store(values, norm, wanted.dtype))
        shown = kept if wanted.soft else cpu_numpy.opaque(kept, row, 0, 0)
        cpu_numpy.put(mask[n], pix, shown[None])
        label[n] = 1
        kind[n] = i(row, KIND)[0, 0]
    return out, untouched, mask, label, kind


def _copied(image: Tensor, norm: Tensor | None, dtype: torch.dtype) -> Tensor:
    """The images in the output's dtype and normalisation, contiguous."""
    if norm is None:
        return image.to(dtype, memory_format=torch.contiguous_format, copy=True)
    out = image.new_empty(image.shape, dtype=dtype)
    for n in range(len(image)):  # host: one image at a time stays in cache
        out[n] = store(image[n].to(torch.float32), norm, dtype)
    return out


def _axes(height: int, width: int) -> tuple[Tensor, Tensor]:
    """Pixel coordinates, float32: rows ``[H, 1]`` and columns ``[1, W]``."""
    y = torch.arange(height, dtype=torch.float32, device="cpu")[:, None]
    return y, torch.arange(width, dtype=torch.float32, device="cpu")[None, :]


def field(
    table: Tensor, banks: Sequence[Tensor], layout: Layout, height: int, width: int
) -> Tensor:
    """Signed level of the first layer's mask; as ``reference.render.field``."""
    y, x = _axes(height, width)
    out = table.new_empty((len(table), 1, height, width))
    with one_thread:
        for n in range(len(table)):  # host: one image at a time stays in cache
            out[n, 0] = _level(layout.layers[0], table[n : n + 1], y, x, (), banks, width)
    return out


def _level(
    layer: LayerProgram, row: Tensor, y: Tensor, x: Tensor, own: Sequence[Tensor],
    banks: Sequence[Tensor], width: int,
) -> Tensor:  # fmt: skip
    """Level of one layer over a window of one image; ``own`` are that image's slots."""
    stack: Stack = ()
    b = row.new_zeros((1, 1), dtype=torch.int64)
    pix = b
    if not all(step.name in _PIXEL_FREE for step in layer.mask):
        pix = y.to(torch.int64) * width + x.to(torch.int64)
    for step in layer.mask:
        part = _function("masks", step.name)
        stack = part(stack, row, y, x, b, pix, own, banks, step.offset, step.option)
    return stack[0]


def _weights(
    layers: Sequence[LayerProgram], row: Tensor, y: Tensor, x: Tensor, n: int,
    slots: Sequence[Tensor], banks: Sequence[Tensor], foreground: int,
) -> tuple[Tensor, int, int]:  # fmt: skip
    """Weights ``[layers, h, w]`` in a window of one image, and its first row and column.

    Around it they are 0. ``y`` is ``[H, 1]`` and ``x`` ``[1, W]``.
    """
    height, width = y.shape[0], x.shape[1]
    windows = [_window(layer, row, height, width) for layer in layers]
    top, left = (min(window[axis].start for window in windows) for axis in (0, 1))
    bottom, right = (max(window[axis].stop for window in windows) for axis in (0, 1))
    own = [slot[n : n + 1] for slot in slots]
    planes = row.new_zeros((len(layers), max(bottom - top, 0), max(right - left, 0)))
    for plane, layer, (rows, columns) in zip(planes, layers, windows, strict=True):
        level = _level(layer, row, y[rows], x[:, columns], own, banks, width)
        weigh = _function("blends", layer.weight.name)
        weight = weigh(level, row, layer.weight.offset, layer.weight.option)
        if foreground >= 0:
            inside = level_of(own[foreground][0, 0, rows, columns]) > 0.0
            weight = torch.where(inside, weight, 0.0)
        plane[rows.start - top : rows.stop - top, columns.start - left : columns.stop - left] = (
            weight
        )
    return planes, top, left


def _window(layer: LayerProgram, row: Tensor, height: int, width: int) -> tuple[slice, slice]:
    """Rows and columns outside which the layer's mask is certainly empty."""
    names = [step.name for step in layer.mask]
    if len(names) == 3 and names[2] == "intersection":
        names = names[:1]
    if names not in (["rectangle"], ["bitmap"], ["shape"]):
        return slice(0, height), slice(0, width)
    first = layer.mask[0].offset
    columns = row[0, first : first + 6].tolist()  # host: a host tensor
    if names == ["rectangle"]:
        cy, cx, cos, sin, half_h, half_w = columns
        reach_y = abs(cos) * half_h + abs(sin) * half_w
        reach_x = abs(cos) * half_w + abs(sin) * half_h
    else:
        # The map inverted, of the middle of what it goes to and of how far that reaches.
        yy, yx, y0, xy, xx, x0 = columns
        h = w = layer.mask[0].option
        bend = 0.0
        if names == ["shape"]:
            h, w = int(i(row, first + 7)), int(i(row, first + 8))  # host: a host tensor
            bend = 2.0 * float(row[0, first + 11])
        area, half_h, half_w = yy * xx - yx * xy, (h + 1) / 2 + bend, (w + 1) / 2 + bend
        to_y, to_x = (h - 1) / 2 - y0, (w - 1) / 2 - x0
        cy, cx = (xx * to_y - yx * to_x) / area, (yy * to_x - xy * to_y) / area
        reach_y = (abs(xx) * half_h + abs(yx) * half_w) / abs(area)
        reach_x = (abs(yy) * half_w + abs(xy) * half_h) / abs(area)

    def span(centre: float, reach: float, size: int) -> slice:
        low, high = math.floor(centre - reach) - 1, math.ceil(centre + reach) + 2
        return slice(min(max(low, 0), size), min(max(high, 0), size))

    return span(cy, reach_y, height), span(cx, reach_x, width)


def _values(
    image: Tensor, n: int, row: Tensor, pix: Tensor, layers: Sequence[LayerProgram],
    weights: Tensor, banks: Sequence[Tensor], peak: float,
) -> Tensor:  # fmt: skip
    """Anomalous colours of the pixels ``pix`` of one image, ``[C, len(pix)]``."""
    width = image.shape[3]
    y = (pix // width).to(torch.float32)[None]
    x = (pix % width).to(torch.float32)[None]
    b = row.new_full((1, 1), n, dtype=torch.int64)
    values = cpu_numpy.taken(image[n], pix)[:, None]
    for layer, weight in zip(layers, weights, strict=True):
        values = fold_layer(
            layer, values, weight[None], image, banks, row, y, x, b, pix[None], peak,
            _function("sources", layer.source.name),
        )  # fmt: skip
    if not image.dtype.is_floating_point:
        values = round_clip(values, peak)
    return values[:, 0]


def lattice_perlin(
    stack: Stack, row: Tensor, y: Tensor, x: Tensor, b: Tensor, pix: Tensor,
    slots: Sequence[Tensor], banks: Sequence[Tensor], offset: int, option: int,
) -> Stack:  # fmt: skip
    """``reference.masks.perlin`` for one row of the table, hashing each lattice node once."""
    cy, cx = source_coordinates(row, y, x, offset)
    key = i(row, offset + 6) & 0xFFFFFFFF
    noise = octaves(cy, cx, key, f(row, offset + 12), _perlin_octave, option)
    return (noise * within(row, cy, cx, offset + 8) - f(row, offset + 7), *stack)


def lattice_simplex(
    stack: Stack, row: Tensor, y: Tensor, x: Tensor, b: Tensor, pix: Tensor,
    slots: Sequence[Tensor], banks: Sequence[Tensor], offset: int, option: int,
) -> Stack:  # fmt: skip
    """``reference.masks.simplex`` for one row of the table, hashing each lattice node once."""
    cy, cx = source_coordinates(row, y, x, offset)
    key = i(row, offset + 6) & 0xFFFFFFFF
    noise = octaves(cy, cx, key, f(row, offset + 8), _simplex_octave, option)
    return (noise - f(row, offset + 7), *stack)


def lattice_shape(
    stack: Stack, row: Tensor, y: Tensor, x: Tensor, b: Tensor, pix: Tensor,
    slots: Sequence[Tensor], banks: Sequence[Tensor], offset: int, option: int,
) -> Stack:  # fmt: skip
    """``reference.masks.shape`` for one row of the table, hashing each lattice node once."""
    return (shape_level(_perlin_octave, row, y, x, banks, offset, option), *stack)


def _perlin_octave(cy: Tensor, cx: Tensor, key: Tensor) -> Tensor:
    """``reference.noise.lattice_noise`` for one key."""
    fy, fx = torch.floor(cy), torch.floor(cx)
    nodes = _Nodes.of(fy, fx, key)
    if nodes is None:
        return lattice_noise(cy, cx, key)
    down, right = nodes.columns, 1
    corners = [component for step in (0, down, right, down + right) for component in nodes.at(step)]
    return gradient_noise(cy - fy, cx - fx, *corners)  # type: ignore[arg-type]


def _simplex_octave(cy: Tensor, cx: Tensor, key: Tensor) -> Tensor:
    """``reference.noise.simplex_noise`` for one key."""
    fy, fx, y, x, right = simplex_cell(cy, cx)
    nodes = _Nodes.of(fy, fx, key)
    if nodes is None:
        return simplex_noise(cy, cx, key)
    middle = torch.where(right > 0.0, 1, nodes.columns).to(torch.int32).flatten()
    corners = [component for step in (0, middle, nodes.columns + 1) for component in nodes.at(step)]
    return corner_noise(y, x, right, *corners)  # type: ignore[arg-type]


class _Nodes(NamedTuple):
    """Gradients of the lattice nodes about some cells, each hashed once."""

    gy: Tensor
    gx: Tensor
    columns: int
    first: Tensor  # number of each cell's first node
    shape: torch.Size

    @classmethod
    def of(cls, fy: Tensor, fx: Tensor, key: Tensor) -> _Nodes | None:
        """The nodes of cells of float32 rows and columns; None where that is no saving."""
        (y0, y1), (x0, x1) = _span(fy), _span(fx)
        rows, columns = y1 - y0 + 2, x1 - x0 + 2
        if rows * columns > _NODES_PER_PIXEL * fy.numel():
            return None
        iy = torch.arange(y0, y0 + rows, device=key.device)[:, None]
        ix = torch.arange(x0, x0 + columns, device=key.device)[None, :]
        gy, gx = unit_vector(lattice_hash(key, iy, ix))
        first = ((fy - y0) * columns + (fx - x0)).to(torch.int32).flatten()
        return cls(gy.flatten(), gx.flatten(), columns, first, fy.shape)

    def at(self, step: int | Tensor) -> tuple[Tensor, Tensor]:
        """Gradients (row, column component) at the nodes that lie ``step`` after the first."""
        node = self.first + step
        return (
            self.gy.index_select(0, node).view(self.shape),
            self.gx.index_select(0, node).view(self.shape),
        )


def lean_gather_bank(
    image: Tensor, banks: Sequence[Tensor], row: Tensor, y: Tensor, x: Tensor, b: Tensor,
    pix: Tensor, offset: int, option: int, peak: float,
) -> Tensor:  # fmt: skip
    """``reference.sources.gather_bank`` for one row, without what the row does not ask for."""
    if not option & STAGES:
        return gather_bank(image, banks, row, y, x, b, pix, offset, option, peak)
    number = option // BANK * 2
    sy, sx = source_coordinates(row, y, x, offset)
    n, h, w = i(row, offset + 6), i(row, offset + 7), i(row, offset + 8)
    if option & BILINEAR and torch.equal(sy, torch.floor(sy)) and torch.equal(sx, torch.floor(sx)):
        option -= BILINEAR  # on whole pixels the four taps are one
    values = sample_planes(banks[number], n, image.shape[1], sy, sx, h, w, option)
    sharpness = f(row, offset + 10)
    if sharpness != 1.0:
        smooth = sample_planes(banks[number + 1], n, image.shape[1], sy, sx, h, w, option)
        values = sharpen(values, smooth, sharpness)
    values = cpu_numpy.coloured(values, row, offset + 11, 255.0)
    return values * (peak / 255.0)


def lean_gather_image(
    image: Tensor, banks: Sequence[Tensor], row: Tensor, y: Tensor, x: Tensor, b: Tensor,
    pix: Tensor, offset: int, option: int, peak: float,
) -> Tensor:  # fmt: skip
    """``reference.sources.gather_image`` for one row, without what the row does not ask for."""
    if option & (BILINEAR | ZERO_FILL) or image.dtype == torch.bfloat16:
        values = gather_image(image, banks, row, y, x, b, pix, offset, option & ~STAGES, peak)
    else:
        donor = int(i(row, offset + 6))  # host: a host tensor
        donor = min(int(b) if donor < 0 else donor, len(image) - 1)
        values = cpu_numpy.nearest(image[donor], *source_coordinates(row, y, x, offset))
    return cpu_numpy.coloured(values, row, offset + 7, peak) if option & STAGES else values


def lean_shuffled(
    image: Tensor, banks: Sequence[Tensor], row: Tensor, y: Tensor, x: Tensor, b: Tensor,
    pix: Tensor, offset: int, option: int, peak: float,
) -> Tensor:  # fmt: skip
    """``reference.sources.shuffled`` for one row, without what the row does not ask for."""
    values = shuffled(image, banks, row, y, x, b, pix, offset, option & ~STAGES, peak)
    at = offset + 6 + grid_columns(option)
    return cpu_numpy.coloured(values, row, at, peak) if option & STAGES else values


def stacked_simplex(
    image: Tensor, banks: Sequence[Tensor], row: Tensor, y: Tensor, x: Tensor, b: Tensor,
    pix: Tensor, offset: int, option: int, peak: float,
) -> Tensor:  # fmt: skip
    """``reference.sources.simplex`` for one row, all octaves of a few pixels in one pass."""
    channels, count = image.shape[1], option % CHANNELWISE
    if option & CHANNELWISE or pix.numel() > _FEW:
        return simplex_source(image, banks, row, y, x, b, pix, offset, option, peak)
    cy, cx = source_coordinates(row, y, x, offset)
    octave = torch.arange(count, device="cpu")[:, None]
    scale = torch.ones_like(octave).bitwise_left_shift(octave).to(torch.float32)
    keys = (i(row, offset + 6) + octave * OCTAVE_KEY) & 0xFFFFFFFF
    layers = simplex_noise(cy * scale, cx * scale, keys)
    persistence = f(row, offset + 7)
    total, gain = layers[:1], persistence
    for one in range(1, count):
        total = total + gain * layers[one : one + 1]
        gain = gain * persistence
    values = (f(row, offset + 8) + f(row, offset + 9) * total) * peak
    return values.expand(channels, *values.shape)


# Functions of parts that the CPU runs in its own way, with the same bits.
_OWN: dict[Any, Callable[..., Any]] = {
    perlin: lattice_perlin,
    simplex: lattice_simplex,
    shape: lattice_shape,
    cells: cpu_numpy.cells,
    opaque: cpu_numpy.opaque,
    opacity: cpu_numpy.opacity,
    gather_bank: lean_gather_bank,
    gather_image: lean_gather_image,
    shuffled: lean_shuffled,
    simplex_source: stacked_simplex,
}


def _function(role: str, name: str) -> Callable[..., Any]:
    part: Any = reference_function(role, name)
    return _OWN.get(part, part)


def _span(cells: Tensor) -> tuple[int, int]:
    """Least and greatest cell number."""
    low, high = torch.aminmax(cells)
    return int(low), int(high)
