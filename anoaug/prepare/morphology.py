"""Morphology of binary masks, batched, on their device, in a fixed number of steps.

Masks are ``(B, 1, H, W)`` of 0 and 1 in uint8. What lies outside the image is ignored: it neither
grows nor wears away a mask. An opening is made of an erosion and the dilation that belongs to it
(the same square mirrored), so it never adds a pixel, a closing never takes one, and neither does
anything the second time, for even sides too.
"""

from __future__ import annotations

import functools
import math

import torch
from torch import Tensor
from torch.nn import functional

from .. import checks

SHAPES = ("square", "disc")
_ROUNDS = 8  # of four sweeps each: how many turns a way around foreground may take


def dilation(mask: Tensor, size: int, shape: str = "square") -> Tensor:
    """1 where the element, laid on the pixel, meets the mask.

    Args:
        mask: uint8 ``(B, 1, H, W)`` of 0 and 1.
        size: Side of the element in pixels; 1 or less changes nothing.
        shape: ``"square"``, or ``"disc"`` (odd sizes; OpenCV's ``MORPH_ELLIPSE``).
    """
    return _swept(mask, size, shape, erode=False)


def erosion(mask: Tensor, size: int, shape: str = "square") -> Tensor:
    """1 where the element, laid on the pixel, lies in the mask; arguments as :func:`dilation`."""
    return _swept(mask, size, shape, erode=True)


def opening(mask: Tensor, size: int, shape: str = "square") -> Tensor:
    """Without what the element does not fit into; arguments as :func:`dilation`."""
    return _swept(erosion(mask, size, shape), size, shape, erode=False, mirrored=True)


def closing(mask: Tensor, size: int, shape: str = "square") -> Tensor:
    """With the gaps that the element does not fit into; arguments as :func:`dilation`."""
    return _swept(dilation(mask, size, shape), size, shape, erode=True, mirrored=True)


def median(mask: Tensor, size: int) -> Tensor:
    """The majority of a square of odd side; beyond the image its nearest pixels count."""
    odd("median", size)
    if size == 1 or len(mask) == 0:
        return mask
    reach = size // 2
    # Replication needs floats; these sums stay below 2**24.
    wide = functional.pad(mask.float(), (reach,) * 4, mode="replicate").to(torch.int16)
    height, width = mask.shape[2:]
    lines = wide[..., :width].clone()
    for place in range(1, size):
        lines += wide[..., place : place + width]
    total = lines[..., :height, :].clone()
    for place in range(1, size):
        total += lines[..., place : place + height, :]
    return (total > size * size // 2).to(torch.uint8)


def fill_holes(mask: Tensor) -> Tensor:
    """With the background that the image's border does not reach (4-connected).

    The border's background spreads along rows and columns, in all four directions, eight times
    over: a way to the border with more turns than that (a spiral) is not found and is filled.

    Args:
        mask: uint8 ``(B, 1, H, W)`` of 0 and 1.
    """
    if len(mask) == 0:
        return mask
    free = _stacked(1 - mask)
    reached = free.clone()
    reached[..., 1:-1, 1:-1] = 0
    for _ in range(_ROUNDS):
        before = reached
        for dim, backwards in ((3, False), (3, True), (2, False), (2, True)):
            reached = _spread(reached, free, dim, backwards)
        # The host may look at its own memory; the rounds left would change nothing.
        if reached.device.type == "cpu" and torch.equal(before, reached):
            break
    places = torch.arange(8, dtype=torch.uint8, device=mask.device)
    images = (reached[:, None] >> places.view(1, 8, 1, 1, 1) & 1).flatten(0, 1)
    return 1 - images[: len(mask)]


def odd(name: str, size: int) -> int:
    """Refuse a side that is not odd and positive."""
    if not isinstance(size, int) or size < 1 or size % 2 == 0:
        raise ValueError(f"{name}: expected an odd number of pixels, got {size!r}; add one")
    return size


def check(size: int, shape: str) -> None:
    """Refuse an element that does not exist."""
    checks.one_of("shape", shape, SHAPES)
    if not isinstance(size, int) or isinstance(size, bool) or size < 0:
        raise ValueError(f"size: expected a side in pixels, 0 or more, got {size!r}")
    if shape == "disc" and size > 1:
        odd("size", size)


def _rows(size: int, shape: str) -> list[tuple[int, int]]:
    """The element as lines: (row, length), each line centred."""
    check(size, shape)
    if size <= 1:
        return []
    if shape == "square":
        return [(0, size)]
    reach = size // 2
    across = (reach * math.sqrt(1.0 - (row / reach) ** 2) for row in range(-reach, reach + 1))
    return [(row - reach, 2 * round(half) + 1) for row, half in enumerate(across)]


def _swept(mask: Tensor, size: int, shape: str, erode: bool, mirrored: bool = False) -> Tensor:
    """Erosion or dilation by the element or its mirror image, which only even squares show."""
    rows = _rows(size, shape)
    if not rows:
        return mask
    if len(rows) == 1:
        return _line(_line(mask, size, 3, erode, mirrored), size, 2, erode, mirrored)
    height, reach = mask.shape[2], size // 2
    wide = functional.pad(mask, (0, 0, reach, reach), value=int(erode))
    lines = {length: _line(wide, length, 3, erode) for _, length in rows}
    moved = (lines[length].narrow(2, reach + row, height) for row, length in rows)
    return functools.reduce(torch.bitwise_and if erode else torch.bitwise_or, moved)


def _line(mask: Tensor, length: int, dim: int, erode: bool, mirrored: bool = False) -> Tensor:
    """Erosion or dilation by a line: windows of 2, 4, 8 ... pixels, then one overlap to fit."""
    before = (length - (not mirrored)) // 2
    ends = (before, length - 1 - before)
    wide = functional.pad(mask, ends if dim == 3 else (0, 0, *ends), value=int(erode))
    covered = 1
    while covered < length:
        step = min(covered, length - covered)
        kept = wide.shape[dim] - step
        first, second = wide.narrow(dim, 0, kept), wide.narrow(dim, step, kept)
        wide = first & second if erode else first | second
        covered += step
    return wide


def _stacked(mask: Tensor) -> Tensor:
    """Eight images to a byte, a bit each: what is bitwise runs on all at once."""
    groups = functional.pad(mask, (0, 0, 0, 0, 0, 0, 0, -len(mask) % 8))
    groups = groups.view(-1, 8, *mask.shape[1:])
    stack = groups[:, 0].clone()
    for place in range(1, 8):
        stack |= groups[:, place] << place
    return stack


def _spread(reached: Tensor, free: Tensor, dim: int, backwards: bool) -> Tensor:
    """What runs of free pixels carry along one direction, in steps of 1, 2, 4 ... pixels."""
    side, step = free.shape[dim], 1
    reached, way = reached.clone(), free
    while step < side:
        near, far = (step, 0) if backwards else (0, step)
        came = reached.narrow(dim, near, side - step) & way.narrow(dim, far, side - step)
        longer = way.narrow(dim, near, side - step) & way.narrow(dim, far, side - step)
        reached.narrow(dim, far, side - step).bitwise_or_(came)
        # The pixels at the end from which we come have no way that long.
        blank = torch.zeros_like(way.narrow(dim, 0, step))
        way = torch.cat([longer, blank] if backwards else [blank, longer], dim)
        step *= 2
    return reached
