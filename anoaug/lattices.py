"""Laws of noise on a lattice, which masks and sources share: cells across the image, octaves."""

from __future__ import annotations

from typing import Any

import numpy as np

from . import checks
from .parts import Context, Floats

Ranges = tuple[tuple[float, float], tuple[float, float]]

# Columns of the map from a pixel to cell coordinates.
CELL_MAP = ("yy", "yx", "y0", "xy", "xx", "x0")


def checked_octaves(octaves: int, persistence: float) -> None:
    """Refuse octaves outside 1 to 8 and a persistence outside [0, 1]."""
    if not isinstance(octaves, int) or not 1 <= octaves <= 8:
        raise ValueError(f"octaves: expected an integer from 1 to 8, got {octaves!r}")
    checks.interval("persistence", persistence, 0.0, 1.0)


def checked_cells(cells: Any) -> Ranges:
    """Ranges of the cells across the image, rows and columns.

    Args:
        cells: A number, a range for both axes, or a pair of ranges.
    """
    each: Any = cells
    if isinstance(each, (int, float)) or all(isinstance(v, (int, float)) for v in each):
        each = (each, each)
    if len(each) != 2:
        raise ValueError(f"cells: expected a number, a range or a pair of ranges, got {cells!r}")
    rows, columns = (checks.interval("cells", axis, 2**-8, 4096) for axis in each)
    return rows, columns


def drawn_cells(u: Floats, cells: Any) -> Floats:
    """Cells across the image, float64 ``[2, B]``, from two uniform numbers each."""
    low, high = np.asarray(cells).T[..., None]
    drawn: Floats = low + u * (high - low)
    return drawn


def cell_map(context: Context, cells: Floats, angle: Floats) -> dict[str, Floats]:
    """Columns of the map from a pixel to cell coordinates.

    Args:
        context: Of the part.
        cells: float64 ``[2, B]``, cells across the image's height and width.
        angle: Radians by which the field is turned about the image's centre.
    """
    cos, sin = np.cos(angle), np.sin(angle)
    mid_y, mid_x = (context.height - 1) / 2, (context.width - 1) / 2
    scale_y, scale_x = cells[0] / context.height, cells[1] / context.width
    return {
        "yy": cos * scale_y,
        "yx": -sin * scale_y,
        "y0": (mid_y - cos * mid_y + sin * mid_x) * scale_y,
        "xy": sin * scale_x,
        "xx": cos * scale_x,
        "x0": (mid_x - sin * mid_y - cos * mid_x) * scale_x,
    }
