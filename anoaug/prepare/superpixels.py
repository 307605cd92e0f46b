"""Superpixels: an image cut into small regions of one colour, on its device."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from .. import checks
from .planes import eight_bits

_WHITE = 2040  # eight times 255: colours are whole numbers, so that their sums are exact
_NEIGHBOURS = [(dy, dx) for dy in (-1, 0, 1) for dx in (-1, 0, 1)]
_OWN = _NEIGHBOURS.index((0, 0))
_SIDES = ((-1, 0), (0, -1), (0, 1), (1, 0))
_STRAND = 8  # pixels that a thin part may stand out of a solid one
_GAP = 24  # pixels up to which thin parts are filled from their sides


@dataclass(frozen=True)
class Superpixels:
    """SLIC's superpixels (Achanta et al., TPAMI 2012): called on a batch, it gives its labels.

    k-means of colour and place from a regular grid of blocks on, in which a pixel may join the
    blocks beside its own. Each image is cut by itself, on its device, without waiting for it. Sums
    are exact: an image has the same labels in any batch and on every device.

    Differs from the paper: luminance and two colour differences stand for CIELAB, whose cube roots
    differ between devices; seeds are the blocks' mean colours, not moved to the lowest gradient;
    and of a region cut in pieces only those join its neighbours that are thinner than 3 pixels.

    Attributes:
        count: Superpixels to aim at; blocks are as square as the image allows.
        compactness: How much place counts against colour: a distance of one block's side weighs as
            much as a colour difference of this, where white differs from black by 100.
        iterations: Rounds of k-means; the paper takes 10, which change little.

    Shape:
        images ``(B, C, H, W)`` uint8, uint16 or float in [0, 1] -> int32 ``(B, 1, H, W)``, labels
        from 0 on, numbered by rows of blocks.

    Example:
        ::

            labels = anoaug.prepare.Superpixels(200)(images)
            batch = synth(images, slots={"superpixels": labels})
    """

    count: int = 200
    compactness: float = 10.0
    iterations: int = 5

    def __post_init__(self) -> None:
        for name, value in (("count", self.count), ("iterations", self.iterations)):
            if not isinstance(value, int) or value < 1:
                raise ValueError(f"{name}: expected a whole number, 1 or more, got {value!r}")
        if not self.compactness > 0:
            raise ValueError(f"compactness: expected a number above 0, got {self.compactness!r}")

    @torch.no_grad()
    def __call__(self, images: Tensor) -> Tensor:
        """Labels of a batch."""
        checks.images(images)
        if not len(images):
            return images.new_zeros((0, 1, *images.shape[2:]), dtype=torch.int32)
        # One image at a time stays in a CPU's cache.
        parts = images.split(1) if images.device.type == "cpu" else (images,)
        return torch.cat([self._labels(part) for part in parts])

    def _labels(self, images: Tensor) -> Tensor:
        batch, _, height, width = images.shape
        grid = _Grid.over(height, width, self.count)
        points = _points(images, grid)
        inside = grid.blocks(torch.ones_like(points[:, :1]))[:, 0]
        features = grid.blocks(points)
        colours = features.shape[1] - 2
        side = math.sqrt(grid.rows * grid.columns)
        place = (self.compactness / 100 * _WHITE / side) ** 2
        weights = [1.0] * colours + [place, place]
        nearest = torch.full_like(inside, _OWN, dtype=torch.uint8)
        for _ in range(self.iterations):
            centres = _centres(features, nearest, inside)
            nearest = _nearest(features, centres, weights)
        return _mended(grid.labels(nearest)[:, :height, :width])[:, None]


class _Grid(NamedTuple):
    """Blocks over an image: how many, and their sides in pixels."""

    down: int
    across: int
    rows: int
    columns: int

    @classmethod
    def over(cls, height: int, width: int, count: int) -> _Grid:
        side = math.sqrt(height * width / count)
        rows, columns = (math.ceil(n / max(round(n / side), 1)) for n in (height, width))
        return cls(-(-height // rows), -(-width // columns), rows, columns)

    def blocks(self, planes: Tensor) -> Tensor:
        """``[B, F, H, W]``, padded with zeros, as ``[B, F, down, rows, across, columns]``."""
        right = self.across * self.columns - planes.shape[3]
        below = self.down * self.rows - planes.shape[2]
        padded = functional.pad(planes, (0, right, 0, below))
        return padded.unflatten(3, (self.across, self.columns)).unflatten(2, (self.down, self.rows))

    def labels(self, nearest: Tensor) -> Tensor:
        """Numbers of the chosen blocks, int32 ``[B, down * rows, across * columns]``."""
        one = torch.arange(self.down * self.across, dtype=torch.int32, device=nearest.device)
        own = one.view(1, self.down, 1, self.across, 1)
        step = nearest.to(torch.int32)
        label = own + (step // 3 - 1) * self.across + (step % 3 - 1)
        return label.flatten(3, 4).flatten(1, 2)


def _points(images: Tensor, grid: _Grid) -> Tensor:
    """Colour and place of each pixel in whole numbers, ``[B, F, H, W]``."""
    eight = eight_bits(images).to(torch.int32)
    if eight.shape[1] in (3, 4):  # the fourth is alpha
        red, green, blue = eight[:, 0:1], eight[:, 1:2], eight[:, 2:3]
        light = (1225 * red + 2404 * green + 467 * blue) >> 9
        planes = [light, (8 * red - light) * 3 >> 2, (8 * blue - light) * 9 >> 4]
    else:
        planes = [eight * 8]
    height, width = images.shape[2:]
    y, x = (torch.arange(n, dtype=torch.int32, device=images.device) for n in (height, width))
    place = [axis.expand(len(images), 1, height, width) for axis in (y[:, None], x)]
    # Below 2**24 every sum over a block is a whole number that float32 holds.
    largest = 9 * grid.rows * grid.columns * max(_WHITE, height, width)
    dtype = torch.float32 if largest < 1 << 24 else torch.float64
    return torch.cat([*planes, *place], 1).to(dtype)


def _centres(features: Tensor, nearest: Tensor, inside: Tensor) -> Tensor:
    """Mean of each block's region, ``[B, F, down, across]``; NaN where no pixel is in it."""
    batch, count, down, _, across, _ = features.shape
    total = features.new_zeros((batch, count + 1, down + 2, across + 2))
    if features.device.type == "cpu":
        # Sums of whole numbers, in any order.
        step = nearest.to(torch.int64)
        image, row, column = (torch.arange(n, device="cpu") for n in (batch, down, across))
        block = (row[:, None, None, None] + step // 3).mul_(across + 2)
        block += column[:, None] + step % 3
        block += image.view(-1, 1, 1, 1, 1) * ((down + 2) * (across + 2))
        block = block.flatten()
        sums = [features[:, n] for n in range(count)] + [inside]
        for n, values in enumerate(sums):
            one = torch.zeros_like(total[:, 0]).flatten()
            one.index_add_(0, block, values.flatten())
            total[:, n] = one.view_as(total[:, n])
    else:
        for number, (dy, dx) in enumerate(_NEIGHBOURS):
            chosen = (nearest == number) * inside
            rows, columns = slice(1 + dy, 1 + dy + down), slice(1 + dx, 1 + dx + across)
            total[:, count, rows, columns] += chosen.sum((2, 4))
            total[:, :count, rows, columns] += (features * chosen[:, None]).sum((3, 5))
    total = total[:, :, 1:-1, 1:-1]
    return total[:, :count] / total[:, count:]


def _nearest(features: Tensor, centres: Tensor, weights: list[float]) -> Tensor:
    """Which of the nine blocks about it each pixel is nearest to."""
    batch, count, down, rows, across, columns = features.shape
    around = functional.pad(centres, (1, 1, 1, 1), value=math.nan)
    # One block's columns are too short a run of pixels: whole lines of the image.
    around = around.repeat_interleave(columns, dim=3)
    lines = features.flatten(4)
    best = torch.full_like(lines[:, 0], math.inf)
    nearest = torch.full_like(best, _OWN, dtype=torch.uint8)
    apart, distance = torch.empty_like(best), torch.empty_like(best)
    for number, (dy, dx) in enumerate(_NEIGHBOURS):
        first = (1 + dx) * columns
        here = around[:, :, 1 + dy : 1 + dy + down, None, first : first + across * columns]
        for n, weight in enumerate(weights):
            torch.sub(lines[:, n], here[:, n], out=apart)
            apart.square_()
            if weight != 1.0:
                apart.mul_(weight)
            if n:
                distance.add_(apart)
            else:
                distance.copy_(apart)
        # A region that is empty, or beyond the image, is NaN and never nearer.
        nearer = distance < best
        torch.where(nearer, distance, best, out=best)
        nearest.masked_fill_(nearer, number)
    return nearest.unflatten(3, (across, columns))


def _mended(labels: Tensor) -> Tensor:
    """Labels ``[B, H, W]`` in which thin pieces, cut off, have joined the regions beside them."""
    core = torch.ones_like(labels, dtype=torch.bool)
    for step in _NEIGHBOURS:
        there = _beside(labels, step, -1)
        core &= (there == labels) | (there < 0)
    kept = core
    for step in _NEIGHBOURS:
        kept = kept | _beside(core, step, False)
    alike = [labels == _beside(labels, side, -1) for side in _SIDES]
    on_host = labels.device.type == "cpu"  # where it costs nothing to see that all is done
    for _ in range(_STRAND):
        before = kept
        for side, same in zip(_SIDES, alike, strict=True):
            kept = kept | (_beside(before, side, False) & same)
        if on_host and torch.equal(before, kept):
            break
    for _ in range(_GAP):
        if on_host and bool(kept.all()):  # host: of the host's tensor
            break
        before, known = labels, kept
        for side in _SIDES:
            new = _beside(known, side, False) & ~kept
            labels = torch.where(new, _beside(before, side, -1), labels)
            kept = kept | new
    return labels.contiguous()


def _beside(planes: Tensor, step: tuple[int, int], beyond: int | bool) -> Tensor:
    """What lies a step away from each pixel of ``[B, H, W]``, ``beyond`` where no pixel does."""
    (dy, dx), (height, width) = step, planes.shape[1:]
    wide = functional.pad(planes, (1, 1, 1, 1), value=beyond)
    return wide[:, 1 + dy : 1 + dy + height, 1 + dx : 1 + dx + width]
