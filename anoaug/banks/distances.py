"""Levels of shapes: how far inside its edge a pixel is, in 8 bits.

A level of :data:`EDGE` is the edge, each step above or below it an eighth of a pixel farther inside
or outside; beyond :data:`REACH` pixels levels saturate. NumPy on the host, in integers and
correctly rounded operations, so that every machine gives the same bits.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

Bytes = npt.NDArray[np.uint8]
Bools = npt.NDArray[np.bool_]
Floats = npt.NDArray[np.float64]

EDGE = 128
STEPS = 8  # per pixel
REACH = 16  # pixels
FINER = 2  # a shape is drawn with this many pixels along each side of one of its level's


def levels(inside: Bools) -> Bytes:
    """Signed distances to a shape's edge, uint8 ``[h, w]``.

    Args:
        inside: The shape, ``[FINER * h, FINER * w]``. What lies beyond the array is outside.
    """
    signed = _signed(np.pad(inside, 1), REACH * FINER)[1:-1, 1:-1]
    height, width = signed.shape[0] // FINER, signed.shape[1] // FINER
    mean = signed.reshape(height, FINER, width, FINER).sum((1, 3)) / FINER**2
    steps = np.floor(mean * (STEPS / FINER) + (EDGE + 0.5))
    found: Bytes = np.clip(steps, 0, 255).astype(np.uint8)
    return found


def resampled(inside: Bools, size: int, margin: int) -> Bools:
    """A shape cut out and brought to a square of ``size`` pixels, its longer side filling it.

    Its edge is rounded where it is enlarged. A shape without a pixel gives an empty square.

    Args:
        inside: ``[h, w]``.
        size: Side of the result.
        margin: Pixels that stay free at every edge.
    """
    rows, columns = np.flatnonzero(inside.any(1)), np.flatnonzero(inside.any(0))
    if len(rows) == 0:
        return np.zeros((size, size), bool)
    cut = inside[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    scale = max(cut.shape) / (size - 2 * margin)
    # Where the square's pixels lie, counted from the centre of the first one of the padded cut.
    border = math.ceil(margin * scale) + 2
    signed = _signed(np.pad(cut, border), _NEAR)
    at = (np.arange(size) + 0.5 - size / 2) * scale - 0.5 + border
    return _joined(signed, at + cut.shape[0] / 2, at + cut.shape[1] / 2) > 0.0


_NEAR = 4  # pixels from the edge; farther ones do not say where it runs


def _signed(inside: Bools, reach: int) -> Floats:
    """Distance to the edge, half-way between pixels: positive inside, saturated at ``reach``."""
    within, without = _distance(~inside, reach) - 0.5, 0.5 - _distance(inside, reach)
    return np.where(inside, within, without)


def _distance(there: Bools, reach: int) -> Floats:
    """Distance of every pixel from the nearest of some pixels, at most ``reach + 1``."""
    height, width = there.shape
    far = reach + 1
    column = np.arange(width)
    before = np.maximum.accumulate(np.where(there, column, -far), axis=1)
    after = np.minimum.accumulate(np.where(there, column, width + far)[:, ::-1], axis=1)[:, ::-1]
    along = np.minimum(np.minimum(column - before, after - column), far).astype(np.int32)
    square = along * along
    best = square.copy()
    for step in range(1, min(reach, height - 1) + 1):
        shifted = square + step * step
        np.minimum(best[step:], shifted[:-step], out=best[step:])
        np.minimum(best[:-step], shifted[step:], out=best[:-step])
    return np.minimum(np.sqrt(best.astype(np.float64)), far)


def _joined(field: Floats, y: Floats, x: Floats) -> Floats:
    """A field at rows ``y`` and columns ``x``, joined bilinearly; its edge goes on beyond it."""
    for at in (y, x):
        last = field.shape[0] - 1
        place = np.clip(at, 0, last)
        first = np.minimum(np.floor(place).astype(np.int64), max(last - 1, 0))
        part = (place - first)[:, None]
        low, high = field[first], field[np.minimum(first + 1, last)]
        field = (low + part * (high - low)).T
    return field


# Steps along a pixel's sides in which an area is counted.
_STEPS = 4


def cover(level: npt.NDArray[np.uint8]) -> int:
    """Area in which levels ``[h, w]``, joined bilinearly, are above the edge, in 1/16 pixels."""
    height, width = level.shape
    edged = np.zeros((height + 2, width + 2), np.int64)
    edged[1:-1, 1:-1] = level
    corners = [edged[:-1, :-1], edged[:-1, 1:], edged[1:, :-1], edged[1:, 1:]]
    high = [corner > EDGE for corner in corners]
    whole = high[0] & high[1] & high[2] & high[3]
    cut = (high[0] | high[1] | high[2] | high[3]) & ~whole
    v00, v01, v10, v11 = (corner[cut] for corner in corners)
    total = int(whole.sum()) * _STEPS**2
    for row in range(_STEPS):
        for column in range(_STEPS):
            # Eighths from the corner: the middles of the steps.
            y, x = 2 * row + 1, 2 * column + 1
            top, bottom = v00 * (8 - x) + v01 * x, v10 * (8 - x) + v11 * x
            total += int((top * (8 - y) + bottom * y > 64 * EDGE).sum())
    return total
