"""Poisson correction in torch: where the rectangles lie, the guidance field, laying it back.

``cv2.seamlessClone`` solves the Poisson equation on the bounding rectangle of the mask, with the
destination on the rectangle's edge. Written for what is *added* to the destination, the equation
has zeros on the edge and, on its right side, only the divergence of the weighted difference of the
gradients: no boundary terms, and nothing where source and destination have equal gradients.

A rectangle is ``(sample, top, left, height, width)``. Its window holds the pixels within its edge,
whose values are unknown: window pixel (0, 0) is image pixel (top + 1, left + 1). Windows of a batch
are of one size; what lies beyond a rectangle of lesser size is 0.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from .render import indexable

# The mask loses three pixels on every side: three erosions by a 3 x 3 square.
EROSION = 3
# Below this side nothing is left of the eroded mask.
LEAST_SIDE = 2 * EROSION + 1
# float32(1 / 255); times 255 it gives 1 exactly.
UNIT = 1.0 / 255.0


def rectangles(weight: Tensor) -> Tensor:
    """Bounding rectangles of masks, of fixed shape: nothing is read by the host.

    Args:
        weight: ``[B, 1, H, W]``, inside > 0. The outermost pixels of the image do not count.

    Returns:
        int32 ``[B, 5]``: sample, top, left, height, width; height and width 0 where empty.
    """
    batch, _, height, width = weight.shape
    inside = F.pad(weight[:, 0, 1:-1, 1:-1] > 0, (1, 1, 1, 1))
    spans = []
    for axis, side in ((2, height), (1, width)):
        line = inside.any(axis).to(torch.int32)
        first = line.argmax(1)
        count = torch.where(line.any(1), side - line.flip(1).argmax(1) - first, 0)
        spans.append((first, count))
    (top, rows), (left, columns) = spans
    sample = torch.arange(batch, device=weight.device)
    return torch.stack((sample, top, left, rows, columns), 1).to(torch.int32)


def erode(weight: Tensor) -> Tensor:
    """Least weight in the 7 x 7 square around each pixel, 0 beyond the edge; ``[..., h, 1, w]``."""
    for axis, pad in ((-3, (0, 0, 0, 0, EROSION, EROSION)), (-1, (EROSION, EROSION))):
        wide = F.pad(weight, pad)
        # 2, 4, then 7 neighbours.
        for step in (1, 2, 3):
            size = wide.shape[axis] - step
            wide = torch.minimum(wide.narrow(axis, 0, size), wide.narrow(axis, step, size))
        weight = wide
    return weight


def divergence(destination: Tensor, source: Tensor, weight: Tensor, mixed: bool) -> Tensor:
    """Divergence of the weighted difference of the gradients of two rectangles.

    Gradients are forward differences, the divergence is one of backward differences.

    Args:
        destination: float32 ``[..., h, C, w]``: rows, channels, columns.
        source: Like ``destination``.
        weight: uint8 (255 is 1) or float32 ``[..., h, 1, w]``, before erosion.
        mixed: Keep the destination's gradient where the difference of its two components is no
            less than the source's, as OpenCV compares them.

    Returns:
        float32 ``[..., h - 2, C, w - 2]``, within the edge.
    """
    inner = erode(weight)[..., :-1, :, :-1]
    inner = inner.to(torch.float32) * UNIT if weight.dtype == torch.uint8 else inner

    def gradients(image: Tensor) -> tuple[Tensor, Tensor]:
        here = image[..., :-1, :, :-1]
        return image[..., :-1, :, 1:] - here, image[..., 1:, :, :-1] - here

    (sx, sy), (dx, dy) = gradients(source), gradients(destination)
    if mixed:
        inner = torch.where((sx - sy).abs() > (dx - dy).abs(), inner, 0.0)
    gx, gy = inner * (sx - dx), inner * (sy - dy)
    along = gx[..., 1:, :, 1:] - gx[..., 1:, :, :-1]
    return along + (gy[..., 1:, :, 1:] - gy[..., :-1, :, 1:])


def guidance(
    destination: Tensor,
    source: Tensor,
    weight: Tensor,
    rects: Tensor,
    rows: int,
    columns: int,
    mixed: bool,
) -> Tensor:
    """The right side of the Poisson equation in the windows of some rectangles.

    Args:
        destination: ``[B, C, H, W]`` of any image dtype.
        source: Like ``destination``.
        weight: uint8 or float32 ``[B, 1, H, W]``.
        rects: int32 ``[b, 5]``, inside their images.
        rows: Height of the windows, at least every rectangle's height less 2.
        columns: Width of the windows.
        mixed: As for ``divergence``.

    Returns:
        float32 ``[b, rows, C, columns]``.
    """
    height, width = destination.shape[2:]
    sample, top, left, tall, wide = rects.to(torch.int64)[:, :, None].unbind(1)
    down = torch.arange(rows + 2, device=rects.device)
    right = torch.arange(columns + 2, device=rects.device)
    y = (top + down).clamp(max=height - 1)[:, :, None]
    x = (left + right).clamp(max=width - 1)[:, None]
    within = (down < tall)[:, :, None] & (right < wide)[:, None]

    def window(image: Tensor) -> Tensor:
        # Advanced indices around a slice put the channel axis last.
        return indexable(image)[sample[:, :, None], :, y, x].transpose(2, 3)

    old, new = window(destination).to(torch.float32), window(source).to(torch.float32)
    return divergence(old, new, window(weight) * within[:, :, None], mixed).contiguous()


def corrected(value: Tensor, peak: float, integer: bool) -> Tensor:
    """Clip to [0, peak]; integers are cut off, as OpenCV does, and not rounded."""
    value = value.clamp(0.0, peak)
    return torch.floor(value) if integer else value


def paste(
    out: Tensor,
    correction: Tensor,
    weight: Tensor,
    rects: Tensor,
    peak: float,
    confine: bool,
) -> None:
    """Add the corrections of some rectangles to their images, in place.

    Args:
        out: ``[B, C, H, W]``, the destination.
        correction: float32 ``[b, rows, C, columns]``.
        weight: uint8 or float32 ``[B, 1, H, W]``.
        rects: int32 ``[b, 5]``, each of another sample.
        peak: White.
        confine: Whether pixels of weight 0 keep their value.
    """
    height, width = out.shape[2:]
    sample, top, left, tall, wide = rects.to(torch.int64)[:, :, None].unbind(1)
    down = torch.arange(height, device=rects.device) - top - 1
    right = torch.arange(width, device=rects.device) - left - 1
    within = ((down >= 0) & (down < tall - 2))[:, :, None]
    within = within & ((right >= 0) & (right < wide - 2))[:, None]
    window = torch.arange(len(rects), device=rects.device)[:, None, None]
    y = down.clamp(0, correction.shape[1] - 1)[:, :, None]
    x = right.clamp(0, correction.shape[3] - 1)[:, None]
    added = correction[window, y, :, x].permute(0, 3, 1, 2)
    sample = sample[:, 0]
    before = indexable(out)[sample]
    value = corrected(before.to(torch.float32) + added, peak, not out.dtype.is_floating_point)
    keep = within[:, None] & (weight[sample] > 0) if confine else within[:, None]
    # torch cannot write uint16 by index: through the same bits as int16.
    target = out.view(torch.int16) if out.dtype == torch.uint16 else out
    now = torch.where(keep, value.to(before.dtype), before).to(out.dtype)
    target[sample] = now.view(torch.int16) if out.dtype == torch.uint16 else now
