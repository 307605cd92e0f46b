"""A source that shows the image itself in another order: the cells of a grid exchanged.

The function is in ``kernels/sources.py`` and ``anoaug/reference/sources.py``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from .. import checks
from ..parts import AFFINE, Context, Source, Values, part
from ..placing import Range, between
from ..reference.sources import COLUMNS, ROWS
from .gathers import (
    Photometric,
    affine,
    checked_photometric,
    drawn_stages,
    gather_option,
    stage_values,
    stage_widths,
)

# Of the grid; a byte holds the number of a cell.
MOST = 16


@part
@dataclass(frozen=True)
class Shuffled(Source):
    """The image itself, recoloured and turned, then cut into cells that change places (MemSeg).

    Every order of the cells is equally likely, so that now and then one keeps its place. Cells
    begin at whole pixels; where the grid does not divide the image their sides differ by a pixel,
    and the larger one shows a row or column of what lies beside the smaller one.

    Args:
        grid: Rows and columns of cells, 1 to 16 each; a number stands for both.
        photometric: :class:`anoaug.photometric.RandomOps` without ops that need the source's
            histograms or sharpness, or ``ColorJitter``, or None. It works on 8 bits: 16-bit and
            float images are rounded to 8 bits by it.
        rotation: Range in degrees about the image's centre, in addition to what ``photometric``
            draws; what turns in from outside is black.

    Raises:
        ValueError: A grid out of range, or ops that cannot be had of an image at call time.
    """

    grid: int | tuple[int, int] = 8
    photometric: Photometric | None = None
    rotation: float | Range = 0.0

    function: ClassVar[str] = "shuffled"

    def __post_init__(self) -> None:
        grid: Any = self.grid
        pair = (grid, grid) if isinstance(grid, int) else tuple(grid)
        if len(pair) != 2 or not all(isinstance(n, int) and 1 <= n <= MOST for n in pair):
            raise ValueError(
                f"grid: expected rows and columns of cells, 1 to {MOST}, got {self.grid!r}"
            )
        object.__setattr__(self, "grid", pair)
        object.__setattr__(self, "rotation", checks.interval("rotation", self.rotation))
        checked_photometric(self.photometric)
        ops = getattr(self.photometric, "ops", ())
        histograms = self.photometric is not None and self.photometric.needs_histograms
        if histograms or "sharpness" in ops:
            raise ValueError(
                "photometric: expected ops that need no histogram and no smoothed image, which the "
                f"batch does not bring, got {ops}; leave out autocontrast, equalize, stretch and "
                "sharpness"
            )

    @property
    def _cells(self) -> int:
        rows, columns = self.grid  # type: ignore[misc]
        return int(rows * columns)

    @property
    def words(self) -> int:
        """Rotation, one for each cell, then those of the photometric ops."""
        return 1 + self._cells + (0 if self.photometric is None else self.photometric.words)

    def option(self) -> int:
        """Interpolation, fill, stages, and the grid above them."""
        rows, columns = self.grid  # type: ignore[misc]
        bits = gather_option("bilinear", "zero", self.photometric)
        return int(bits + rows * ROWS + columns * COLUMNS)

    def columns(self, channels: int) -> dict[str, int]:
        """Affine map, a byte for each cell, stages."""
        columns = dict.fromkeys(AFFINE, 1) | {"cells": -(-self._cells // 4)}
        return columns if self.photometric is None else columns | stage_widths(channels)

    def sample(self, context: Context) -> Values:
        """Draw the order of the cells, the turn and the colour change."""
        u = context.uniform(self.words)
        angle = np.deg2rad(between(u[0], self.rotation))  # type: ignore[arg-type]
        signs = (np.ones(context.batch), np.ones(context.batch))
        colour: Mapping[str, npt.NDArray[Any]] = {}
        if self.photometric is not None:
            stages = drawn_stages(self.photometric, context, u[1 + self._cells :])
            angle = angle + stages.angle
            signs = (np.where(stages.flip_y, -1.0, 1.0), np.where(stages.flip_x, -1.0, 1.0))
            colour = stage_values(stages)
        centre = ((context.height - 1) / 2, (context.width - 1) / 2)
        geometry = affine(np.cos(angle), np.sin(angle), signs, centre, centre)
        return {**geometry, "cells": self._order(context), **colour}

    def _order(self, context: Context) -> npt.NDArray[np.int32]:
        """Which cell each cell shows, as bytes in int32 columns ``[B, (cells + 3) // 4]``."""
        words = context.words(self._cells, 1)
        order = np.argsort(words, axis=0, kind="stable").T.astype(np.uint8)
        packed = np.zeros((context.batch, -(-self._cells // 4) * 4), np.uint8)
        packed[:, : self._cells] = order
        bits = packed.view(np.int32)
        return bits[:, 0] if bits.shape[1] == 1 else bits
