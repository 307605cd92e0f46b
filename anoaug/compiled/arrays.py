"""What travels into the loops: tensors as arrays and a layout as numbers, bundled by what they say.

Numba takes named tuples as they are.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float32]
Longs = npt.NDArray[np.int64]


class Batch(NamedTuple):
    """What is read.

    Attributes:
        pixels: The batch's values in the order of memory: uint8 or float32.
        strides: Steps in ``pixels`` from one sample, channel, row and column to the next.
        shape: Samples, channels, rows and columns.
        slots: Given tensors as levels, ``[S, B, H, W]``.
        banks: Where in memory uint8 tensors begin, two per bank, and float32 pictures like the
            batch. Numba would write a tuple of arrays out in every function that it passes
            through, a fifth of the time to compile.
        sizes: int64 ``[banks, 4]``, the shapes of those of bytes; 0 for a float picture.
    """

    pixels: npt.NDArray[Any]
    strides: tuple[int, int, int, int]
    shape: tuple[int, int, int, int]
    slots: Floats
    banks: Longs
    sizes: Longs


class Columns(NamedTuple):
    """The table, or a sample's row of it, three times: as float32, as int32 and as bytes."""

    floats: Floats
    ints: npt.NDArray[np.int32]
    octets: npt.NDArray[np.uint8]


class Program(NamedTuple):
    """A layout.

    Attributes:
        steps: int64 ``[M, 3]``: number of the mask function, first column, option.
        layers: int64 ``[L, 7]``: gate; number, first column and option of the source; number and
            first column of the weight; number of the mix.
        spans: int64 ``[L + 1]``: layer ``n`` owns the steps ``spans[n] .. spans[n + 1]``.
        scales: float32 (peak, peak / 2, 1 / peak, 255 / peak, peak / 255).
    """

    steps: Longs
    layers: Longs
    spans: Longs
    scales: Floats


class Wish(NamedTuple):
    """How results are wanted: ``norm`` (scale, bias; ``[2, C]`` or empty) and as in ``Wanted``."""

    norm: Floats
    foreground: int
    changed: bool
    soft: bool


class Copies(NamedTuple):
    """The plain copy: rows in the order of memory, ``[B, R, L]``, and what scales them.

    Row ``r`` takes ``scale`` and ``bias`` ``[S, L]`` of ``r // (R / S)``; empty ones leave it.
    """

    lines: npt.NDArray[Any]
    out: npt.NDArray[Any]
    clean: npt.NDArray[Any]  # out again where no clean image is wanted
    cleaned: bool
    scale: Floats
    bias: Floats


class Results(NamedTuple):
    """What is written: ``target`` like ``Batch.pixels``, and per sample the rest."""

    target: npt.NDArray[Any]
    mask: Floats
    label: Longs
    kind: Longs
