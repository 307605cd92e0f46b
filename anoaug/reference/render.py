"""The render op in torch: the whole batch at once, static in shape, on any device."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from ..parts import reference_function
from ..recipe import ACTIVE, KIND, MIN_AREA, TOLERANCE, LayerProgram, Layout
from .masks import f, i, level_of
from .sources import round_clip

Rendered = tuple[Tensor, Tensor, Tensor, Tensor, Tensor]


class Wanted(NamedTuple):
    """What a render is to give, besides what the table says.

    Attributes:
        foreground: Slot that confines every layer, or -1.
        changed: Whether the mask keeps only pixels that differ by more than the tolerance.
        soft: Whether the mask is the weight rather than {0, 1}.
        clean: Whether the clean image is wanted in the output's dtype and normalisation.
        dtype: Output dtype.
    """

    foreground: int
    changed: bool
    soft: bool
    clean: bool
    dtype: torch.dtype


def layer_level(
    layer: LayerProgram, row: Tensor, y: Tensor, x: Tensor, b: Tensor, pix: Tensor,
    slots: Sequence[Tensor], banks: Sequence[Tensor],
) -> Tensor:  # fmt: skip
    """Signed level of one layer's mask per pixel, inside > 0; broadcasts to ``[B, N]``."""
    stack: tuple[Tensor, ...] = ()
    for step in layer.mask:
        part = reference_function("masks", step.name)
        stack = part(stack, row, y, x, b, pix, slots, banks, step.offset, step.option)
    return stack[0]


def layer_weight(
    layer: LayerProgram, row: Tensor, y: Tensor, x: Tensor, b: Tensor, pix: Tensor,
    slots: Sequence[Tensor], banks: Sequence[Tensor], foreground: int,
) -> Tensor:  # fmt: skip
    """Weight of one layer per pixel, ``[B, N]``: 0 outside its mask, gate and foreground."""
    level = layer_level(layer, row, y, x, b, pix, slots, banks)
    weigh = reference_function("blends", layer.weight.name)
    weight = weigh(level, row, layer.weight.offset, layer.weight.option)
    weight = weight * f(row, layer.gate)
    if foreground >= 0:
        inside = level_of(slots[foreground].flatten(1)[b, pix]) > 0.0
        weight = torch.where(inside, weight, 0.0)
    return weight


def fold_layer(
    layer: LayerProgram, values: Tensor, weight: Tensor, image: Tensor, banks: Sequence[Tensor],
    row: Tensor, y: Tensor, x: Tensor, b: Tensor, pix: Tensor, peak: float,
    part: Callable[..., Tensor],
) -> Tensor:  # fmt: skip
    """Lay one layer's source, the function ``part``, over ``values`` (float32 ``[C, B, N]``)."""
    step = layer.source
    source = part(image, banks, row, y, x, b, pix, step.offset, step.option, peak)
    mix = reference_function("blends", layer.mix)
    mixed = mix(values, source, weight, peak).clamp(0.0, peak)
    return torch.where(weight > 0.0, mixed, values)


def indexable(image: Tensor) -> Tensor:
    """The image in a dtype torch can index: uint16 goes to int32, others stay."""
    return image.to(torch.int32) if image.dtype == torch.uint16 else image


def grid(
    batch: int, height: int, width: int, device: torch.device
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Image numbers ``[B, 1]``, pixel numbers and float32 coordinates (y, x) ``[1, H * W]``."""
    pix = torch.arange(height * width, device=device)[None]
    y, x = (pix // width).to(torch.float32), (pix % width).to(torch.float32)
    return torch.arange(batch, device=device)[:, None], pix, y, x


def field(
    table: Tensor, banks: Sequence[Tensor], layout: Layout, height: int, width: int
) -> Tensor:
    """Signed level of the first layer's mask, float32 ``[B, 1, H, W]``."""
    b, pix, y, x = grid(len(table), height, width, table.device)
    level = layer_level(layout.layers[0], table, y, x, b, pix, (), banks)
    return level.expand(len(table), height * width).reshape(len(table), 1, height, width)


def store(values: Tensor, norm: Tensor | None, dtype: torch.dtype) -> Tensor:
    """Convert float32 ``[C, ...]`` to the output's dtype, normalised where asked."""
    if norm is not None:
        shape = (-1, *(1,) * (values.dim() - 1))
        values = values * norm[0].view(shape) + norm[1].view(shape)
    return values.to(dtype)


def render(
    image: Tensor,
    table: Tensor,
    slots: Sequence[Tensor],
    banks: Sequence[Tensor],
    norm: Tensor | None,
    layout: Layout,
    wanted: Wanted,
) -> Rendered:
    """Render a batch.

    Args:
        image: ``[B, C, H, W]`` uint8, uint16 or float.
        table: float32 ``[B, P]``.
        slots: Per-pixel tensors ``[B, 1, H, W]``.
        banks: uint8 ``[N, C, h, w]``, then pictures ``[B, C, H, W]`` of the images' dtype.
        norm: float32 ``[2, C]``: scale and bias from image units to the output, or None.
        layout: How to read the table.
        wanted: What to give.

    Returns:
        image and clean ``[B, C, H, W]`` (clean empty if not wanted), mask float32 ``[B, 1, H, W]``,
        label and kind int64 ``[B]``; all contiguous.
    """
    batch, _, height, width = image.shape
    device = image.device
    b, pix, y, x = grid(batch, height, width, device)
    before = image.to(torch.float32).flatten(2).transpose(0, 1)
    values, cover = before, torch.zeros(batch, height * width, dtype=torch.float32, device=device)
    integer = not image.dtype.is_floating_point
    readable = indexable(image)
    for layer in layout.layers:
        weight = layer_weight(layer, table, y, x, b, pix, slots, banks, wanted.foreground)
        weight = torch.where(f(table, ACTIVE) > 0.0, weight, 0.0)
        cover = torch.maximum(cover, weight)
        values = fold_layer(
            layer, values, weight, readable, banks, table, y, x, b, pix, layout.peak,
            reference_function("sources", layer.source.name),
        )  # fmt: skip
    if integer:
        values = round_clip(values, layout.peak)
    if wanted.changed:
        moved = (values - before).abs().amax(0) > f(table, TOLERANCE)
        cover = torch.where(moved, cover, 0.0)
    area = (cover > 0.0).sum(1, keepdim=True)
    counts = area.to(torch.float32) >= f(table, MIN_AREA)
    values = torch.where(counts, values, before)
    cover = torch.where(counts, cover, 0.0)
    label = counts[:, 0].to(torch.int64)
    kind = label * i(table, KIND)[:, 0]
    mask = cover if wanted.soft else (cover > 0.0).to(torch.float32)

    def planes(v: Tensor) -> Tensor:
        return store(v, norm, wanted.dtype).transpose(0, 1).reshape(image.shape).contiguous()

    empty = torch.empty(0, dtype=wanted.dtype, device=device)
    return (
        planes(values),
        planes(before) if wanted.clean else empty,
        mask.reshape(batch, 1, height, width),
        label,
        kind,
    )
