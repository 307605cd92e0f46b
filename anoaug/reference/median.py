"""The median of a disc around each pixel, in torch: all neighbours sorted."""

from __future__ import annotations

import functools

import torch
import torch.nn.functional as F
from torch import Tensor


@functools.lru_cache(maxsize=16)
def disc(radius: int) -> tuple[tuple[int, int], ...]:
    """Rows and columns of the pixels within a radius, relative to the centre."""
    reach = range(-radius, radius + 1)
    return tuple((y, x) for y in reach for x in reach if y * y + x * x <= radius * radius)


def median(values: Tensor, radius: int) -> Tensor:
    """Median of the disc around each pixel; beyond the image its nearest pixel counts.

    A disc holds an odd number of pixels, so that the median is one of them.

    Args:
        values: float32 ``[B, 1, H, W]``.
        radius: Of the disc in pixels.

    Returns:
        float32 ``[B, 1, H, W]``.
    """
    height, width = values.shape[2:]
    wide = F.pad(values, (radius,) * 4, mode="replicate")
    out = torch.empty_like(values)
    for sample, plane in zip(wide[:, 0], out[:, 0], strict=True):
        near = [
            sample[radius + y : radius + y + height, radius + x : radius + x + width]
            for y, x in disc(radius)
        ]
        plane.copy_(torch.stack(near).sort(0).values[len(near) // 2])
    return out
