"""Blend parts in torch: a weight of the level and a mix of image and source.

- ``weight(level, row, offset, option) -> weight`` in [0, 1], 0 outside the mask
- ``mix(value, source, weight, peak) -> value`` in image units, before clipping to [0, ``peak``]
"""

from __future__ import annotations

import torch
from torch import Tensor

from .masks import f


def opaque(level: Tensor, row: Tensor, offset: int, option: int) -> Tensor:
    """Weight 1 inside."""
    return (level > 0.0).to(torch.float32)


def opacity(level: Tensor, row: Tensor, offset: int, option: int) -> Tensor:
    """One weight per sample inside. Columns: opacity."""
    return opaque(level, row, offset, option) * f(row, offset)


def feather(level: Tensor, row: Tensor, offset: int, option: int) -> Tensor:
    """A ramp of the level from 0 at the edge to the opacity. Columns: opacity, 1 / width."""
    return (level * f(row, offset + 1)).clamp(0.0, 1.0) * f(row, offset)


def over(value: Tensor, source: Tensor, weight: Tensor, peak: float) -> Tensor:
    """The source over the image; weight 1 gives the source exactly."""
    return weight * source + (1.0 - weight) * value


def replace(value: Tensor, source: Tensor, weight: Tensor, peak: float) -> Tensor:
    """The source itself wherever it has weight: one that was mixed with the image before."""
    return source


def add(value: Tensor, source: Tensor, weight: Tensor, peak: float) -> Tensor:
    """The source, centred on mid-grey, added to the image."""
    return value + weight * (source - 0.5 * peak)


def multiply(value: Tensor, source: Tensor, weight: Tensor, peak: float) -> Tensor:
    """The image attenuated by the source: at weight 1, value * source / peak."""
    return value - weight * (value - value * (source * (1.0 / peak)))
