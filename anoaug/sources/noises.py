"""Sources made of smooth noise. White noise is in :mod:`anoaug.sources`, with the rest of them.

The functions are in ``kernels/sources.py`` and ``anoaug/reference/sources.py``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from .. import checks
from ..lattices import CELL_MAP, cell_map, checked_cells, checked_octaves, drawn_cells
from ..parts import Context, Source, Values, part
from ..placing import Range, between
from ..reference.sources import CHANNELWISE


@part
@dataclass(frozen=True)
class Simplex(Source):
    """Simplex noise about a mean grey: ``mean + amplitude * noise`` (Perlin 2001; used by RD++).

    One octave of noise spans [-1, 1] and has a standard deviation of 0.54; with ``mix="add"`` of a
    blend and the mean at mid-grey, ``amplitude * noise`` is what is added.

    Args:
        amplitude: A number or a range in [0, 1].
        mean: A number or a range in [0, 1].
        cells: Cells across the image: a number, a range from which both axes draw, or a pair of
            ranges (rows, columns). The triangles' sides are 0.82 cells long.
        octaves: Number of octaves, each twice as fine; 1 to 8.
        persistence: Amplitude of an octave relative to the one before.
        rotation: Range of the field's rotation in degrees about the image centre.
        channelwise: Whether each channel has noise of its own; else the noise is grey.
    """

    amplitude: float | Range = 0.5
    mean: float | Range = 0.5
    cells: float | Range | tuple[Range, Range] = 8.0
    octaves: int = 1
    persistence: float = 0.5
    rotation: float | Range = (-90.0, 90.0)
    channelwise: bool = False

    function: ClassVar[str] = "simplex"

    def __post_init__(self) -> None:
        for name in ("amplitude", "mean"):
            object.__setattr__(self, name, checks.interval(name, getattr(self, name), 0.0, 1.0))
        object.__setattr__(self, "cells", checked_cells(self.cells))
        checked_octaves(self.octaves, self.persistence)
        object.__setattr__(self, "rotation", checks.interval("rotation", self.rotation))
        if not isinstance(self.channelwise, bool):
            raise TypeError(f"channelwise: expected True or False, got {self.channelwise!r}")

    @property
    def words(self) -> int:
        """Cells (rows, columns), rotation, amplitude, mean, lattice key."""
        return 6

    def option(self) -> int:
        """The number of octaves, and whether channels differ."""
        return self.octaves | (CHANNELWISE if self.channelwise else 0)

    def columns(self, channels: int) -> dict[str, int]:
        """Affine map to cell coordinates, lattice key, persistence, mean, amplitude."""
        return dict.fromkeys((*CELL_MAP, "key", "persistence", "mean", "amplitude"), 1)

    def sample(self, context: Context) -> Values:
        """Draw cells, rotation, amplitude, mean and key."""
        u = context.uniform(5)
        ranges: Any = (self.rotation, self.amplitude, self.mean)
        rotation, amplitude, mean = (between(u[2 + k], ranges[k]) for k in range(3))
        return {
            **cell_map(context, drawn_cells(u[:2], self.cells), np.deg2rad(rotation)),
            "key": context.words(1, 5)[0],
            "persistence": np.full(context.batch, self.persistence),
            "mean": mean,
            "amplitude": amplitude,
        }
