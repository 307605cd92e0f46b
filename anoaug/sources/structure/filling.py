"""Regions filled from their surroundings, as if what is there had never been.

The texture comes from the same image, all of a region from one place: the shift under which a ring
around the region fits best what lies there (found for all shifts at once by correlation). Then the
colours are corrected by Poisson's equation, so that they meet the surroundings: a membrane carries
the difference on the edge inwards, and the details are the texture's own.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ... import poisson
from ...prepare import dilation
from .working import around, constants, reduction, share, shifted, shrunk

# Pixels of the shrunk image that count as the surroundings.
_RING = 4
# A shift across the whole image must fit better by this share of the image's variance.
_FAR = 0.05
# What the colours of the texture differ from those of the ring counts as much as the misfit times
# this: a pattern's next repeat would fit the ring best and bring the same thing back.
_PLAIN = 3.0
# The solver erodes its mask by 3 pixels on every side; one more, because the difference between the
# outermost pixel of a region and its neighbour must not be what it was.
_WIDER = 9


def fill(images: Tensor, region: Tensor, backend: str = "auto") -> Tensor:
    """Images whose regions are filled from their surroundings.

    Args:
        images: float32 ``[R, C, H, W]`` in [0, 1].
        region: uint8 ``[R, 1, H, W]`` of 0 and 1.
        backend: Who solves, see :func:`anoaug.poisson.solve`.

    Returns:
        float32 ``[R, C, H, W]``, equal to the images outside of the regions.
    """
    shift, found = best_shift(images, region)
    texture = shifted(images, shift)
    # Where no place of the image can take the whole region, a bare membrane.
    texture = torch.where(found[:, None, None, None], texture, 0.5)
    weight = dilation(region, _WIDER) * 255
    smooth = poisson.solve(images, texture, weight, backend=backend)
    return torch.where(region > 0, smooth, images)


def best_shift(
    images: Tensor, region: Tensor, barred: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Where the texture of regions is taken from.

    Args:
        images: float32 ``[R, C, H, W]`` in [0, 1].
        region: uint8 ``[R, 1, H, W]`` of 0 and 1.
        barred: Where texture is not taken from, and what is no part of the surroundings, likewise;
            by default the regions themselves.

    Returns:
        The shifts in pixels, int64 ``[R, 2]``, and bool ``[R]``: whether there is one by which the
        whole region lies in the image and free of itself.
    """
    barred = region if barred is None else torch.maximum(region, barred)
    factor = reduction(images)
    small = shrunk(images, factor)
    hidden, closed = (
        (shrunk(plane.to(torch.float32), factor) > 0).to(torch.uint8) for plane in (region, barred)
    )
    cost, found = _costs(small, hidden, closed)
    shift = _unwrapped(cost.flatten(1).argmin(1), cost.shape[1:], small.shape[2:]) * factor
    known = 1.0 - barred.to(torch.float32)
    ring = dilation(region, 2 * _RING * factor + 1).to(torch.float32) * known
    step = factor
    while step > 1:
        step = -(-step // 2)
        shift = _refined(images, ring, known, shift, step)
    return shift, found


def _refined(images: Tensor, ring: Tensor, known: Tensor, shift: Tensor, step: int) -> Tensor:
    """The best of a shift and its eight neighbours ``step`` pixels away."""
    near = [(down, right) for down in (0, -step, step) for right in (0, -step, step)]
    tries, costs = [], []
    window = around(ring)
    here = (..., *window)
    ring, itself = ring[here], images[here]
    for move in constants(near, shift.device).to(shift.dtype):
        moved = shift + move
        weight = ring * shifted(known, moved, window)
        cost = (weight * (shifted(images, moved, window) - itself) ** 2).sum((1, 2, 3))
        tries.append(moved)
        costs.append(cost / weight.sum((1, 2, 3)).clamp(min=1.0))
    best = torch.stack(costs).argmin(0)
    return torch.stack(tries)[best, torch.arange(len(best), device=best.device)]


def _costs(images: Tensor, region: Tensor, barred: Tensor) -> tuple[Tensor, Tensor]:
    """Of every shift, wrapped: its cost ``[R, h, w]``, infinite if it cannot be; if any can."""
    height, width = images.shape[2:]
    size = (2 * height, 2 * width)
    known = 1.0 - barred.to(torch.float32)
    ring = dilation(region, 2 * _RING + 1).to(torch.float32) * known
    middle = images.mean((2, 3), keepdim=True)  # smaller numbers, smaller errors
    values = images - middle

    def spectrum(planes: Tensor) -> Tensor:
        return torch.fft.rfft2(planes, s=size)

    def correlation(product: Tensor) -> Tensor:
        return torch.fft.irfft2(product, s=size)[:, 0]

    squares = values.square().sum(1, keepdim=True)
    rim, free = spectrum(ring).conj(), spectrum(known)
    shown = correlation(rim * free)
    crossed = (spectrum(ring * values).conj() * spectrum(known * values)).sum(1, keepdim=True)
    total = correlation(
        spectrum(ring * squares).conj() * free + rim * spectrum(known * squares) - 2.0 * crossed
    )
    # The differences at the edge are the texture's too: its neighbours have to be fit as well.
    body = dilation(region, 5).to(torch.float32)
    area = body.sum((1, 2, 3))[:, None, None]
    bulk = spectrum(body).conj()
    whole = correlation(bulk * free) > area - 0.5
    ground = (values - share(ring, values)).square().sum(1, keepdim=True)
    plain = correlation(bulk * spectrum(known * ground)).clamp(min=0.0) / area.clamp(min=1.0)
    enough = shown > 0.5 * ring.sum((1, 2, 3))[:, None, None]
    fine = whole & enough
    far = _distance(size, images)
    cost = total.clamp(min=0.0) / shown.clamp(min=1.0) + _PLAIN * plain
    cost = cost + _FAR * far * squares.mean((2, 3))[:, :, None]
    return torch.where(fine, cost, torch.inf), fine.flatten(1).any(1)


def _distance(size: tuple[int, int], like: Tensor) -> Tensor:
    """Squared length of wrapped shifts, a share of the image's sides, ``[1, h, w]``."""
    lengths = []
    for side in size:
        step = torch.arange(side, device=like.device, dtype=torch.float32)
        lengths.append((torch.minimum(step, side - step) / (side / 2)).square())
    return lengths[0][None, :, None] + lengths[1][None, None, :]


def _unwrapped(place: Tensor, size: torch.Size, within: torch.Size) -> Tensor:
    """Numbers of wrapped shifts as signed ones, int64 ``[R, 2]``."""
    down, right = place // size[1], place % size[1]
    return torch.stack(
        [torch.where(s < n, s, s - m) for s, n, m in zip((down, right), within, size, strict=True)],
        1,
    )
