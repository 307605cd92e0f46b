"""Laws that masks and sources share: ranges, and where a box lies in an image."""

from __future__ import annotations

import numpy as np

from .parts import Context, Floats, Frame
from .wanted import instead

Range = tuple[float, float]


def between(u: Floats, bounds: Range) -> Floats:
    """Uniform numbers in [0, 1) stretched to [low, high)."""
    return bounds[0] + u * (bounds[1] - bounds[0])


def placed(
    context: Context, u: Floats, height: Floats, width: Floats, angle: Floats, margin: float = 0.0
) -> Frame:
    """A box somewhere in the image.

    Args:
        context: Of the part.
        u: Two uniform numbers, ``[2, B]``: row and column.
        height: Sides in pixels, likewise ``width``.
        width: See above.
        angle: Rotation in radians; the turned box lies inside where it fits.
        margin: Share of the image's sides that stays free at every edge.
    """
    cos, sin = np.abs(np.cos(angle)), np.abs(np.sin(angle))
    # Bounding box of the turned box in whole pixels, so that unturned ones stay exact.
    box_h = np.ceil(cos * height + sin * width - 1e-9)
    box_w = np.ceil(cos * width + sin * height - 1e-9)
    free_h, free_w = (np.floor(margin * side) for side in (context.height, context.width))
    top = free_h + np.floor(u[0] * (np.maximum(context.height - 2 * free_h - box_h, 0) + 1))
    left = free_w + np.floor(u[1] * (np.maximum(context.width - 2 * free_w - box_w, 0) + 1))
    if context.wanted is not None:
        asked = context.wanted
        y0, x0, y1, x1 = asked.y0, asked.x0, asked.y1, asked.x1
        top = instead(top, _start(u[0], y0, y1, box_h, context.height))
        left = instead(left, _start(u[1], x0, x1, box_w, context.width))
    return Frame(top + (box_h - 1) / 2, left + (box_w - 1) / 2, height / 2, width / 2, angle)


def _start(u: Floats, low: Floats, high: Floats, side: Floats, size: int) -> Floats:
    """First pixel of sides whose centre lies between two shares of the image, moved into it."""
    first = np.floor((low + u * (high - low)) * size - side / 2 + 0.5)
    return np.clip(first, 0, np.maximum(size - side, 0))


def bound(context: Context) -> np.ndarray:
    """Bool ``[B]``: the samples whose box a control sizes or places, which lie in the image."""
    wanted = context.wanted
    if wanted is None:
        return np.zeros(context.batch, bool)
    return ~(np.isnan(wanted.size) & np.isnan(wanted.y0))


def turned(context: Context, degrees: Floats) -> Floats:
    """Rotations in radians, those that a control asks for in place of the law's."""
    if context.wanted is not None:
        degrees = instead(degrees, context.wanted.rotation)
    angle: Floats = np.deg2rad(degrees)
    return angle


def sided(
    context: Context, height: Floats, width: Floats, fill: Floats | float = 1.0, whole: bool = True
) -> tuple[Floats, Floats]:
    """Sides in pixels that have the size and the aspect a control asks for, if it does.

    The other of the two stays as the law drew it.

    Args:
        context: Of the part.
        height: Sides as drawn, likewise ``width``.
        width: See above.
        fill: Share of the box that is inside.
        whole: Whether sides are whole pixels: those that come nearest to the size are taken.
    """
    wanted = context.wanted
    if wanted is None:
        return height, width
    whole_image = context.height * context.width
    pixels = instead(height * width * fill, wanted.size * whole_image) / fill
    pixels = np.minimum(pixels, whole_image)
    aspect = instead(width / height, wanted.aspect)
    tall, wide = np.sqrt(pixels / aspect), np.sqrt(pixels * aspect)
    # A side as long as the image leaves the area to the other.
    high = np.minimum(tall, np.minimum(context.height, pixels))
    high = np.maximum(high, pixels / context.width)
    if whole:
        lower = np.clip(np.floor(high), 1, context.height)
        upper = np.clip(lower + 1, 1, context.height)
        across = [np.clip(np.floor(pixels / h + 0.5), 1, context.width) for h in (lower, upper)]
        off = [np.abs(h * w - pixels) for h, w in zip((lower, upper), across, strict=True)]
        # Of two as near, the one of the better aspect.
        nearer = off[1] + np.abs(upper - high) < off[0] + np.abs(lower - high)
        tall, wide = np.where(nearer, upper, lower), np.where(nearer, across[1], across[0])
    else:
        tall, wide = high, pixels / high
    free = np.isnan(wanted.size) & np.isnan(wanted.aspect)
    return np.where(free, height, tall), np.where(free, width, wide)
