"""Boxes in whole pixels: counting masks in them, stretching masks from one to another, overlap.

Integers and comparisons, the same on every device; nothing waits for one.
"""

from __future__ import annotations

from fractions import Fraction
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional


class Box(NamedTuple):
    """Boxes in whole pixels, int64 of one shape: first row, first column, height, width."""

    top: Tensor
    left: Tensor
    tall: Tensor
    wide: Tensor

    def at(self, number: Tensor) -> Box:
        """Of boxes ``[b, K]`` one per row, ``[b]``."""
        return Box(*(side.gather(1, number[:, None])[:, 0] for side in self))


def above(part: Tensor, whole: Tensor, share: float) -> Tensor:
    """Whether ``part > share * whole``, in whole numbers: alike on every device."""
    top, bottom = ratio(share)
    return part.to(torch.int64) * bottom > whole.to(torch.int64) * top


def ratio(share: float) -> tuple[int, int]:
    """A share as a ratio of whole numbers below 10001: that of up to four decimals exactly."""
    exact = Fraction(share).limit_denominator(10000)
    return exact.numerator, exact.denominator


def earliest(accepted: Tensor) -> tuple[Tensor, Tensor]:
    """Number of the first True in each row of ``[b, K]``, and whether there is one."""
    count = accepted.shape[1]
    number = torch.arange(count, device=accepted.device)
    first = torch.where(accepted, number, count).amin(1)
    return first.clamp(max=count - 1), first < count


def counted(inside: Tensor, boxes: Box) -> Tensor:
    """How many pixels are inside each box, from an integral image.

    Args:
        inside: bool ``[b, H, W]``.
        boxes: ``[b, K]``.

    Returns:
        int32 ``[b, K]``.
    """
    sums = inside.to(torch.int32).cumsum(1, dtype=torch.int32).cumsum(2, dtype=torch.int32)
    sums = functional.pad(sums, (1, 0, 1, 0))
    width = sums.shape[2]
    flat = sums.flatten(1)

    def corner(y: Tensor, x: Tensor) -> Tensor:
        return flat.gather(1, y * width + x)

    top, left, bottom, right = (
        boxes.top,
        boxes.left,
        boxes.top + boxes.tall,
        boxes.left + boxes.wide,
    )
    return corner(bottom, right) - corner(top, right) - corner(bottom, left) + corner(top, left)


def shown(inside: Tensor, origin: Box, box: Box) -> Tensor:
    """Masks stretched from one box to another, by the nearest pixel; False around it.

    Args:
        inside: bool ``[b, H, W]``.
        origin: Where from, ``[b]``.
        box: Where to, ``[b]``.

    Returns:
        bool ``[b, H, W]``.
    """
    height, width = inside.shape[1:]
    places, covers = [], []
    for side, start, size, first, length in (
        (height, box.top, box.tall, origin.top, origin.tall),
        (width, box.left, box.wide, origin.left, origin.wide),
    ):
        step = torch.arange(side, device=inside.device) - start[:, None]
        size, length = size[:, None].clamp(min=1), length[:, None].clamp(min=1)
        covers.append((step >= 0) & (step < size))
        # The pixel that a pixel's centre falls on.
        near = ((2 * step.clamp(min=0) + 1) * length) // (2 * size)
        places.append((first[:, None] + torch.minimum(near, length - 1)).clamp(max=side - 1))
    sample = torch.arange(len(inside), device=inside.device)[:, None, None]
    moved = inside[sample, places[0][:, :, None], places[1][:, None, :]]
    return moved & covers[0][:, :, None] & covers[1][:, None, :]


def overlaps(here: Tensor, moved: Tensor, laid: Box) -> Tensor:
    """How much of a patch's object lies on the image's, for every place.

    One correlation by FFT a sample, rounded: exact, for counts stay far below the resolution.

    Args:
        here: bool ``[b, H, W]``, the object in the image.
        moved: bool ``[b, H, W]``, the object in the patch, which begins at pixel (0, 0).
        laid: Places ``[b, K]`` within the image.

    Returns:
        int64 ``[b, K]``.
    """
    size = here.shape[1:]
    dtype = torch.float32 if size[0] * size[1] <= 1 << 18 else torch.float64
    first, second = (torch.fft.rfft2(each.to(dtype)) for each in (here, moved))
    field = torch.fft.irfft2(first * second.conj(), s=size)
    found = field.flatten(1).gather(1, laid.top * size[1] + laid.left)
    return found.round().to(torch.int64)


def first_overlap(
    here: Tensor, moved: Tensor, laid: Box, total: Tensor, share: float
) -> tuple[Tensor, Tensor]:
    """As ``earliest(above(overlaps(...), total, share))``, one place after another, on the host."""
    rows = len(here)
    number = torch.zeros(rows, dtype=torch.int64, device=here.device)
    found = torch.zeros(rows, dtype=torch.bool, device=here.device)
    top_share, bottom = ratio(share)
    least = total * top_share
    places = torch.stack((laid.top, laid.left), 2).tolist()  # host: the CPU's way
    for n, (tall, wide) in enumerate(torch.stack((laid.tall, laid.wide), 2)[:, 0].tolist()):
        patch = moved[n, :tall, :wide]
        bar = int(least[n])
        for k, (top, left) in enumerate(places[n]):
            common = patch & here[n, top : top + tall, left : left + wide]
            if int(common.sum()) * bottom > bar:
                number[n], found[n] = k, True
                break
    return number, found
