"""The render op's faster way on the CPU: image by image, textures only under the mask.

On the CPU a data-dependent shape costs no synchronisation. This driver runs the reference's own
parts on few pixels, and replaces Perlin noise by one that hashes each lattice node once. It equals
``reference/render.py`` bit for bit.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from .recipe import ACTIVE, KIND, MIN_AREA, TOLERANCE, LayerProgram, Layout, reference_function
from .reference.masks import Stack, f, gradient_noise, i, level_of, perlin, within
from .reference.render import Rendered, fold_layer, indexable, store
from .reference.sources import (
    BANK,
    BILINEAR,
    STAGES,
    colour_stages,
    gather_bank,
    round_clip,
    sample_planes,
    sharpen,
    source_coordinates,
)
from .rng import lattice_hash, unit_vector

# Above this many nodes per pixel hashing the lattice is no saving.
_NODES_PER_PIXEL = 0.5

# Mask functions that do not read the pixel's number.
_PIXEL_FREE = frozenset(
    ("perlin", "rectangle", "everywhere", "intersection", "union", "complement")
)


def render(
    image: Tensor,
    table: Tensor,
    slots: Sequence[Tensor],
    banks: Sequence[Tensor],
    norm: Tensor | None,
    layout: Layout,
    foreground: int,
    changed: bool,
    soft: bool,
    clean: bool,
    dtype: torch.dtype,
) -> Rendered:
    """Render a batch; arguments and results are those of ``reference.render.render``."""
    batch, channels, height, width = image.shape
    out = torch.empty(image.shape, dtype=dtype)
    mask = torch.zeros(batch, 1, height, width)
    label = torch.zeros(batch, dtype=torch.int64)
    kind = torch.zeros(batch, dtype=torch.int64)
    untouched = torch.empty(image.shape if clean else 0, dtype=dtype)
    y = torch.arange(height, dtype=torch.float32)[:, None]
    x = torch.arange(width, dtype=torch.float32)[None, :]
    readable = indexable(image)
    active = (table[:, ACTIVE] > 0).tolist()  # host: the table is a host tensor here
    for n in range(batch):  # host: one image at a time stays in cache
        before = image[n]
        if norm is None:
            out[n] = before
        else:
            out[n] = store(before.to(torch.float32), norm, dtype)
        if clean:
            untouched[n] = out[n]
        if not active[n]:
            continue
        row = table[n : n + 1]
        weights = [
            _weight(layer, row, y, x, n, slots, foreground).flatten() for layer in layout.layers
        ]
        cover = weights[0] if len(weights) == 1 else torch.stack(weights).amax(0)
        pix = torch.nonzero(cover > 0.0)[:, 0]
        if len(pix) < row[0, MIN_AREA]:
            continue
        values = _values(readable, n, row, pix, weights, banks, layout)
        kept = cover[pix]
        if changed:
            start = readable[n].flatten(1)[:, pix].to(torch.float32)
            moved = (values - start).abs().amax(0) > row[0, TOLERANCE]
            kept = torch.where(moved, kept, 0.0)
            if (kept > 0.0).sum() < row[0, MIN_AREA]:
                continue
        _indexable_view(out[n]).view(channels, -1)[:, pix] = _indexable_view(
            store(values, norm, dtype)
        )
        mask[n].view(-1)[pix] = kept if soft else (kept > 0.0).to(torch.float32)
        label[n] = 1
        kind[n] = i(row, KIND)[0, 0]
    return out, untouched, mask, label, kind


def field(table: Tensor, layout: Layout, height: int, width: int) -> Tensor:
    """Signed level of the first layer's mask; as ``reference.render.field``."""
    y = torch.arange(height, dtype=torch.float32)[:, None]
    x = torch.arange(width, dtype=torch.float32)[None, :]
    out = torch.empty(len(table), 1, height, width)
    for n in range(len(table)):  # host: one image at a time stays in cache
        out[n, 0] = _level(layout.layers[0], table[n : n + 1], y, x, (), width)
    return out


def _level(
    layer: LayerProgram, row: Tensor, y: Tensor, x: Tensor, own: Sequence[Tensor], width: int
) -> Tensor:
    """Level of one layer over a window of one image; ``own`` are that image's slots."""
    stack: Stack = ()
    b = torch.zeros(1, 1, dtype=torch.int64)
    pix = b
    if not all(step.name in _PIXEL_FREE for step in layer.mask):
        pix = y.to(torch.int64) * width + x.to(torch.int64)
    for step in layer.mask:
        part = _function("masks", step.name)
        stack = part(stack, row, y, x, b, pix, own, step.offset, step.option)
    return stack[0]


def _weight(
    layer: LayerProgram, row: Tensor, y: Tensor, x: Tensor, n: int, slots: Sequence[Tensor],
    foreground: int,
) -> Tensor:  # fmt: skip
    """Weight of one layer over one image, ``[H, W]``; ``y`` is ``[H, 1]`` and ``x`` ``[1, W]``."""
    size = (y.shape[0], x.shape[1])
    if not f(row, layer.gate) > 0:
        return torch.zeros(size)
    rows, columns = _window(layer, row, y.shape[0], x.shape[1])
    own = [slot[n : n + 1] for slot in slots]
    level = _level(layer, row, y[rows], x[:, columns], own, x.shape[1])
    weigh = reference_function("blends", layer.weight.name)
    weight = weigh(level, row, layer.weight.offset, layer.weight.option)
    if foreground >= 0:
        weight = torch.where(level_of(own[foreground][0, 0, rows, columns]) > 0.0, weight, 0.0)
    if weight.shape == size:
        return weight
    out = torch.zeros(size)
    out[rows, columns] = weight
    return out


def _window(layer: LayerProgram, row: Tensor, height: int, width: int) -> tuple[slice, slice]:
    """Rows and columns outside which the layer's mask is certainly empty."""
    if [step.name for step in layer.mask] != ["rectangle"]:
        return slice(0, height), slice(0, width)
    first = layer.mask[0].offset
    cy, cx, cos, sin, half_h, half_w = row[0, first : first + 6].tolist()  # host: a host tensor
    reach_y = abs(cos) * half_h + abs(sin) * half_w
    reach_x = abs(cos) * half_w + abs(sin) * half_h

    def span(centre: float, reach: float, size: int) -> slice:
        low, high = math.floor(centre - reach) - 1, math.ceil(centre + reach) + 2
        return slice(min(max(low, 0), size), min(max(high, 0), size))

    return span(cy, reach_y, height), span(cx, reach_x, width)


def _values(
    image: Tensor, n: int, row: Tensor, pix: Tensor, weights: Sequence[Tensor],
    banks: Sequence[Tensor], layout: Layout,
) -> Tensor:  # fmt: skip
    """Anomalous colours of the pixels ``pix`` of one image, ``[C, len(pix)]``."""
    width = image.shape[3]
    y = (pix // width).to(torch.float32)[None]
    x = (pix % width).to(torch.float32)[None]
    b = torch.full((1, 1), n)
    values = image[n].flatten(1)[:, pix].to(torch.float32)[:, None]
    for layer, weight in zip(layout.layers, weights, strict=True):
        if f(row, layer.gate) > 0:
            values = fold_layer(
                layer, values, weight[pix][None], image, banks, row, y, x, b, pix[None],
                layout.peak, _function("sources", layer.source.name),
            )  # fmt: skip
    if not image.dtype.is_floating_point:
        values = round_clip(values, layout.peak)
    return values[:, 0]


def lattice_perlin(
    stack: Stack, row: Tensor, y: Tensor, x: Tensor, b: Tensor, pix: Tensor,
    slots: Sequence[Tensor], offset: int, option: int,
) -> Stack:  # fmt: skip
    """``reference.masks.perlin`` for one row of the table, hashing each lattice node once."""
    cy = (f(row, offset) * y + f(row, offset + 1) * x) + f(row, offset + 2)
    cx = (f(row, offset + 3) * y + f(row, offset + 4) * x) + f(row, offset + 5)
    fy, fx = torch.floor(cy), torch.floor(cx)
    (y0, y1), (x0, x1) = _span(fy), _span(fx)
    rows, columns = y1 - y0 + 2, x1 - x0 + 2
    if option > 1 or rows * columns > _NODES_PER_PIXEL * cy.numel():
        return perlin(stack, row, y, x, b, pix, slots, offset, option)
    key = i(row, offset + 6) & 0xFFFFFFFF
    iy = torch.arange(y0, y0 + rows)[:, None]
    ix = torch.arange(x0, x0 + columns)[None, :]
    gy, gx = (g.flatten() for g in unit_vector(lattice_hash(key, iy, ix)))
    node = ((fy - y0) * columns + (fx - x0)).to(torch.int32).flatten()
    corners = [
        plane[shift:].index_select(0, node).view(cy.shape)
        for shift in (0, columns, 1, columns + 1)
        for plane in (gy, gx)
    ]
    noise = gradient_noise(cy - fy, cx - fx, *corners)  # type: ignore[arg-type]
    return (noise * within(row, cy, cx, offset + 8) - f(row, offset + 7), *stack)


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
    count = i(row, offset + 11)
    if count > 0:
        stages = int(count)  # host: a host tensor
        values = colour_stages(round_clip(values, 255.0), row, count, offset + 12, stages)
    return values * (peak / 255.0)


# Functions of parts that the CPU runs in its own way, with the same bits.
_OWN: dict[Any, Callable[..., Any]] = {perlin: lattice_perlin, gather_bank: lean_gather_bank}


def _function(role: str, name: str) -> Callable[..., Any]:
    part: Any = reference_function(role, name)
    return _OWN.get(part, part)


def _indexable_view(values: Tensor) -> Tensor:
    """The same bits in a dtype torch can write by index."""
    return values.view(torch.int16) if values.dtype == torch.uint16 else values


def _span(cells: Tensor) -> tuple[int, int]:
    """Least and greatest cell number."""
    low, high = torch.aminmax(cells)
    return int(low), int(high)
