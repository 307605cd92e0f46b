"""Laws that masks and sources share: ranges, and where a box lies in an image."""

from __future__ import annotations

import numpy as np

from .parts import Context, Floats, Frame

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
    return Frame(top + (box_h - 1) / 2, left + (box_w - 1) / 2, height / 2, width / 2, angle)
