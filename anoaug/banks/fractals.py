"""Shapes of fractals: attractors of two random affine maps as small bitmaps.

The law is that of Anderson and Farrell, Improving Fractal Pre-training, WACV 2022, which FractalAD
takes its shapes from; written from facts. NumPy on the host, a pure function of the numbers given.
"""

from __future__ import annotations

import functools
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from ..rng import philox_numpy, uniform_numpy

Floats = npt.NDArray[np.float64]
Words = npt.NDArray[np.uint32]

SIDE = 64  # bits along each side of a bitmap
NUMBERS = 12  # uniform numbers that make a pair of maps

_CHAINS, _STEPS = 128, 128
_ROWS = 32  # bitmaps made at a time, so that their points stay in cache
_KEY = (0x66726163, 0x74616C73)  # of the random choices, which all fractals share


class Maps(NamedTuple):
    """Two contractions ``p -> matrix p + shift`` per sample."""

    matrix: Floats  # [B, 2, 2, 2]: sample, map, row, column
    shift: Floats  # [B, 2, 2]: sample, map, coordinate


def draw_maps(u: Floats, bits: Words) -> Maps:
    """Random pairs of contractions.

    Their singular values s1 >= s2 are drawn so that the sum of ``s1 + 2 s2`` over the two is
    uniform in [3.5, 4]: neither dust nor a filled square. Rotations are uniform, one in two maps
    mirrors, shifts are uniform in [-1, 1].

    Args:
        u: Uniform numbers in [0, 1), float64 ``[12, B]``.
        bits: ``[B]``; the lowest two say which maps mirror.
    """
    total = 3.5 + 0.5 * u[0]

    def between(u: Floats, low: Floats, high: Floats | float) -> Floats:
        return low + u * (high - low)

    # What the second map can take is 3 at most, and its s2 is a third of its share at most.
    first = between(u[1], np.maximum((total - 3.0) / 3.0, 0.0), 1.0)
    left = total - first
    second = between(u[2], np.maximum((left - 3.0) / 2.0, 0.0), np.minimum(first, left / 2.0))
    left = left - 2.0 * second
    other = between(u[3], np.maximum((left - 1.0) / 2.0, 0.0), left / 3.0)
    values = np.stack([np.stack([first, second]), np.stack([left - 2.0 * other, other])])
    mirror = (bits[None] >> np.arange(2, dtype=np.uint32)[:, None]) & np.uint32(1)
    values[:, 1] *= np.where(mirror > 0, -1.0, 1.0)
    angle = (2.0 * np.pi) * u[4:8].reshape(2, 2, -1)
    cos, sin = np.cos(angle), np.sin(angle)
    turn = np.array([[cos, -sin], [sin, cos]])  # [row, column, map, before or after, B]
    after, before = turn[:, :, :, 1], turn[:, :, :, 0]
    # Written out, so that the sums have one order everywhere.
    stretched = [after[:, j, None] * values[:, j] * before[None, j] for j in (0, 1)]
    matrix = np.moveaxis(stretched[0] + stretched[1], (2, 3), (1, 0))
    shift = (2.0 * u[8:12] - 1.0).reshape(2, 2, -1)
    return Maps(np.ascontiguousarray(matrix), np.moveaxis(shift, -1, 0))


def _determinant(matrix: Floats) -> Floats:
    """Determinants of 2 x 2 matrices."""
    found: Floats = matrix[..., 0, 0] * matrix[..., 1, 1] - matrix[..., 0, 1] * matrix[..., 1, 0]
    return found


@functools.lru_cache(maxsize=1)
def _choices() -> Floats:
    """Uniform numbers ``[steps, chains]`` that choose the map of every step, the same for all."""
    counter = np.arange(_STEPS * _CHAINS // 4, dtype=np.uint32)
    words = np.stack(philox_numpy(_KEY, (counter, 0, 0, 0)))
    return uniform_numpy(words).reshape(_STEPS, _CHAINS)


def points(maps: Maps) -> Floats:
    """Points of attractors by random iteration, float64 ``[2, B, N]``.

    A map is chosen in proportion to its determinant. Chains begin at the fixed point of the first
    map, which belongs to the attractor.
    """
    matrix, shift = maps
    area = np.abs(_determinant(matrix))
    both = area[:, 0] + area[:, 1]
    # Two maps onto lines have no area: a fair coin then.
    odds = np.where(both > 0.0, area[:, 0] / np.maximum(both, 1e-300), 0.5)
    rest = np.eye(2) - matrix[:, 0]
    start_y = rest[:, 1, 1] * shift[:, 0, 0] - rest[:, 0, 1] * shift[:, 0, 1]
    start_x = rest[:, 0, 0] * shift[:, 0, 1] - rest[:, 1, 0] * shift[:, 0, 0]
    fixed = np.stack([start_y, start_x]) / _determinant(rest)
    y, x = (np.repeat(one[:, None], _CHAINS, axis=1) for one in fixed)
    found = np.empty((2, len(matrix), _STEPS, _CHAINS))
    for step, choice in enumerate(_choices()):
        second = choice >= odds[:, None]
        a, b, c, d = (
            np.where(second, matrix[:, 1, k, j, None], matrix[:, 0, k, j, None])
            for k in (0, 1)
            for j in (0, 1)
        )
        e, g = (np.where(second, shift[:, 1, k, None], shift[:, 0, k, None]) for k in (0, 1))
        y, x = (a * y + b * x) + e, (c * y + d * x) + g
        found[0, :, step], found[1, :, step] = y, x
    return found.reshape(2, len(matrix), -1)


def bitmaps(maps: Maps, bits: Words) -> npt.NDArray[np.int32]:
    """Bitmaps of attractors, stretched over the square.

    Args:
        maps: Of B samples.
        bits: ``[B]``; the nine bits from the third say which of the 3 x 3 pixels about each point
            are set, at least the middle one.

    Returns:
        int32 ``[B, 128]``: rows of ``SIDE`` bits, the first in the lowest bit.
    """
    packed = np.empty((len(bits), SIDE * SIDE // 32), np.int32)
    for first in range(0, len(bits), _ROWS):
        rows = slice(first, first + _ROWS)
        packed[rows] = _bitmaps(Maps(maps.matrix[rows], maps.shift[rows]), bits[rows])
    return packed


# Of a cell between four bits, by how many are set: where the bilinear surface is above a half.
_CORNER = (1.0 - np.log(2.0)) / 2.0
_COVER = np.array([0.0, _CORNER, 0.5, 1.0 - _CORNER, 1.0])


def area(packed: npt.NDArray[np.int32]) -> Floats:
    """Area of bitmaps joined bilinearly, in bits, float64 ``[B]``."""
    flat = np.ascontiguousarray(packed).view(np.uint8)
    bits = np.unpackbits(flat, axis=1, bitorder="little").reshape(-1, SIDE, SIDE)
    edged = np.pad(bits, ((0, 0), (1, 1), (1, 1)))
    corners = edged[:, :-1, :-1] + edged[:, :-1, 1:] + edged[:, 1:, :-1] + edged[:, 1:, 1:]
    counts = np.stack([(corners == n).sum((1, 2)) for n in range(5)], 1)
    found: Floats = counts @ _COVER
    return found


def _bitmaps(maps: Maps, bits: Words) -> npt.NDArray[np.int32]:
    where = points(maps)
    low, high = where.min(-1, keepdims=True), where.max(-1, keepdims=True)
    span = np.where(high > low, high - low, 1.0)
    where -= low
    where /= span
    where *= SIDE - 1
    cell = where.astype(np.int64)
    samples, wide = len(bits), SIDE + 2
    dots = np.zeros((samples, wide, wide), bool)
    corner = wide * wide * np.arange(samples)[:, None] + (wide + 1)
    dots.reshape(-1)[cell[0] * wide + cell[1] + corner] = True
    stamp = (bits[:, None] >> (np.arange(9, dtype=np.uint32) + np.uint32(2))) & np.uint32(1) > 0
    shape = dots[:, 1:-1, 1:-1].copy()
    for k in range(9):
        moved = dots[:, 2 - k // 3 : 2 - k // 3 + SIDE, 2 - k % 3 : 2 - k % 3 + SIDE]
        shape |= moved & stamp[:, k, None, None]
    packed = np.packbits(shape, axis=2, bitorder="little").reshape(samples, -1)
    return packed.view("<i4").astype(np.int32)
