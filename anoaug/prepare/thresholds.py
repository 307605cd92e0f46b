"""Levels that part an image in two, found per image on its device, and the masks they give."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from .. import checks
from .morphology import median as median_filter
from .planes import border, distance, grey, residual_map

POLARITIES = ("auto", "bright", "dark")
NO_LEVEL = -1  # of an image of one grey level: nothing in it is foreground
_EXACT = 2**27  # pixels up to which Otsu's products fit into int64


def histogram(levels: Tensor) -> Tensor:
    """Pixels of each grey level: uint8 ``(B, 1, H, W)`` to int64 ``[B, 256]``."""
    flat = levels.flatten(1)
    if flat.device.type == "cpu":
        first = 256 * torch.arange(len(flat), device="cpu")[:, None]
        counts = torch.bincount((flat + first).flatten(), minlength=256 * len(flat))
        return counts.view(len(flat), 256)
    return scattered_histogram(flat)


def scattered_histogram(flat: Tensor) -> Tensor:
    """The same of ``[B, N]`` where ``bincount`` would ask the device for its largest value."""
    counts = torch.zeros(len(flat), 256, dtype=torch.int64, device=flat.device)
    return counts.scatter_add_(1, flat.long(), torch.ones_like(flat, dtype=torch.int64))


def _value(counts: Tensor) -> Tensor:
    return torch.arange(256, device=counts.device)


def otsu_level(levels: Tensor) -> Tensor:
    """Otsu's level of each plane: int64 ``[B]``; above it is bright.

    The lowest level with the greatest variance between the two classes, in exact integers up to one
    last division. ``cv2.threshold`` parts the pixels alike but where two levels are equally good,
    which it leaves to rounding. -1 for a plane of one level (OpenCV says 0 there).

    Source: Otsu, A Threshold Selection Method from Gray-Level Histograms, IEEE Trans. SMC, 1979.

    Args:
        levels: uint8 ``(B, 1, H, W)``, as from :func:`grey`.
    """
    counts = histogram(levels)
    below, weight = counts.cumsum(1), (counts * _value(counts)).cumsum(1)
    if levels.shape[2] * levels.shape[3] > _EXACT:
        below, weight = below.double(), weight.double()
    pixels, total = below[:, -1:], weight[:, -1:]
    above = pixels - below
    # (N S_k - n_k S)^2 / (n_k (N - n_k)) is the variance between the classes, times N^2.
    difference = (pixels * weight - below * total).double()
    between = difference.square() / (below * above).clamp_min(1).double()
    best = between.argmax(1)
    return torch.where(counts.amax(1) < pixels[:, 0], best, NO_LEVEL)


def triangle_level(levels: Tensor) -> Tensor:
    """The triangle method's level of each plane: int64 ``[B]``; above it is bright.

    On the longer side of the histogram's peak, the level farthest from the line between peak and
    end, as ``cv2.threshold`` computes it. -1 for a plane of one level.

    Source: Zack, Rogers, Latt, Automatic Measurement of Sister Chromatid Exchange Frequency, 1977.

    Args:
        levels: uint8 ``(B, 1, H, W)``, as from :func:`grey`.
    """
    counts = histogram(levels)
    value = _value(counts)
    there = counts > 0
    left = torch.where(there, value, 256).amin(1, keepdim=True)
    right = torch.where(there, value, 0).amax(1, keepdim=True)
    left, right = (left - 1).clamp_min(0), (right + 1).clamp_max(255)
    peak = counts.argmax(1, keepdim=True)
    turned = peak - left < right - peak
    counts = torch.where(turned, counts.flip(1), counts)
    left, peak = torch.where(turned, 255 - right, left), torch.where(turned, 255 - peak, peak)
    height = counts.amax(1, keepdim=True)
    score = height * value + (left - peak) * counts
    score = torch.where((value > left) & (value <= peak), score, 0)
    found = torch.where(score.amax(1) > 0, score.argmax(1), left[:, 0]) - 1
    found = torch.where(turned[:, 0], 255 - found, found)
    single = there.sum(1) == 1
    return torch.where(single, NO_LEVEL, found)


def split(plane: Tensor, level: Tensor | float, polarity: str = "bright") -> Tensor:
    """A plane parted at a level: uint8 ``(B, 1, H, W)``, 1 is foreground.

    Args:
        plane: ``(B, 1, H, W)`` of any dtype.
        level: One for all, or ``[B]``; an image whose level is below 0 has no foreground.
        polarity: ``"bright"``: above the level; ``"dark"``: the level and below; ``"auto"``: of
            these two, per image, the one that holds at most half of the border (bright if both).
    """
    checks.one_of("polarity", polarity, POLARITIES)
    single = plane.shape[1] == 1 and plane.dtype != torch.bfloat16
    if single and plane.device.type == "cpu" and not torch.compiler.is_compiling():
        return split_on_host(plane.detach(), level, polarity)
    return split_on_device(plane, level, polarity)


def split_on_device(plane: Tensor, level: Tensor | float, polarity: str) -> Tensor:
    """The same in torch, without a look at the level."""
    if not isinstance(level, Tensor):
        known = torch.ones((), dtype=torch.bool, device=plane.device)
    else:
        level = level.view(-1, 1, 1, 1)
        known = level >= 0
    bright = plane > level
    if polarity == "bright":
        return (bright & known).view(torch.uint8)
    if polarity == "dark":
        return (~bright & known).view(torch.uint8)
    edge = border(bright)
    turned = (2 * edge.sum((1, 2)) > edge.shape[2]).view(-1, 1, 1, 1)
    return ((bright ^ turned) & known).view(torch.uint8)


def split_on_host(plane: Tensor, level: Tensor | float, polarity: str) -> Tensor:
    """The same by NumPy, which compares many numbers at once where torch goes one by one."""
    made = torch.empty(plane.shape, dtype=torch.uint8, device="cpu")
    known = isinstance(level, Tensor)
    levels = level.tolist() if isinstance(level, Tensor) else [level] * len(plane)
    for values, inside, bar in zip(
        plane[:, 0].numpy(), made[:, 0].numpy().view(np.bool_), levels, strict=True
    ):
        if known and not bar >= 0:
            inside[:] = False
            continue
        np.greater(values, bar, out=inside)
        sides = (inside[0], inside[-1], inside[1:-1, 0], inside[1:-1, -1])
        count, length = (sum(f(side) for side in sides) for f in (np.count_nonzero, np.size))
        if polarity == "dark" or (polarity == "auto" and 2 * count > length):
            np.logical_not(inside, out=inside)
    return made


def threshold(
    images: Tensor, level: float, polarity: str = "auto", channel: int | None = None
) -> Tensor:
    """Foreground above (or below) a fixed grey level: uint8 ``(B, 1, H, W)``.

    Args:
        images: ``(B, C, H, W)`` uint8, uint16 or float in [0, 1].
        level: Grey level, 0 to 255.
        polarity: ``"bright"``, ``"dark"`` or ``"auto"``; see :func:`split`.
        channel: Take this channel instead of the grey value.
    """
    return split(grey(images, channel), level, polarity)


def otsu(images: Tensor, polarity: str = "auto", channel: int | None = None) -> Tensor:
    """Foreground by Otsu's level of each image; see :func:`otsu_level` and :func:`threshold`."""
    levels = grey(images, channel)
    return split(levels, otsu_level(levels), polarity)


def triangle(images: Tensor, polarity: str = "auto", channel: int | None = None) -> Tensor:
    """Foreground by the triangle method; see :func:`triangle_level` and :func:`threshold`."""
    levels = grey(images, channel)
    return split(levels, triangle_level(levels), polarity)


def background_distance(
    images: Tensor,
    background: float | Sequence[float] | None = None,
    level: float | None = None,
    median: int = 7,
) -> Tensor:
    """Foreground where the colour is not the background's: uint8 ``(B, 1, H, W)``.

    With a number for the background and a level it is NSA's rule: ``|mean - background| > level``,
    then a 7 x 7 median.

    Args:
        images: ``(B, C, H, W)`` uint8, uint16 or float in [0, 1].
        background: Grey level, colour, or None for each image's own; see :func:`distance`.
        level: Distance in grey levels; None takes Otsu's level of each image's distances.
        median: Odd side of the median filter; 1 filters nothing.
    """
    far = distance(images, background)
    if level is None:
        steps = far.to(torch.uint8)
        mask = split(steps, otsu_level(steps))
    else:
        mask = split(far, level)
    return median_filter(mask, median)


def saliency(images: Tensor, level: float = 3.0) -> Tensor:
    """Foreground where the image is salient: uint8 ``(B, 1, H, W)``.

    Args:
        images: ``(B, C, H, W)`` uint8, uint16 or float in [0, 1].
        level: Above this many times the map's mean (3 in the paper); see :func:`saliency_map`.
    """
    # Unscaled: what is above a multiple of the mean is the same.
    found = residual_map(images)
    return split(found, level * found.mean((1, 2, 3)))
