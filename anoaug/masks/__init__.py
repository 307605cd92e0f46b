"""Masks: where an anomaly is. Compose them with ``&`` (both), ``|`` (either) and ``~`` (outside).

A mask is a signed level per pixel, inside > 0. The functions are in ``kernels/masks.py`` and
``anoaug/reference/masks.py``; here are the laws of their columns.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from .. import checks
from ..banks import fractals
from ..checks import one_of
from ..lattices import CELL_MAP, cell_map, checked_cells, checked_octaves, drawn_cells
from ..parts import Context, Floats, Values, part
from ..placing import Range, between, bound, placed, sided, turned
from ..wanted import instead
from .content import Objects
from .ellipses import Ellipses
from .expressions import Mask, MaskPart, joined
from .grids import Cells, Patch
from .patches import CutPatch, ObjectPatch
from .planes import Foreground, FromScore, Given, Superpixels
from .salient import ObjectShape
from .shapes import Shape

__all__ = [
    "Cells",
    "CutPatch",
    "Ellipses",
    "Everywhere",
    "Foreground",
    "Fractal",
    "FromScore",
    "Given",
    "Mask",
    "MaskPart",
    "Patch",
    "ObjectPatch",
    "ObjectShape",
    "Objects",
    "Perlin",
    "Rectangle",
    "Shape",
    "Simplex",
    "Superpixels",
    "joined",
]


@part
@dataclass(frozen=True)
class Perlin(MaskPart):
    """Single- or multi-octave Perlin noise above a threshold (Perlin 2002, as used by DRAEM).

    The field of DRAEM, MemSeg, RealNet, GLASS, DSR and DeSTSeg: pixel ``(i, j)`` lies at cell
    coordinates ``(i * cells_y / H, j * cells_x / W)``, gradients are of unit length, the fade is
    quintic and the gain sqrt(2), nothing is normalised. Any image size works; cells need not
    divide it. The level is ``noise - threshold``.

    Args:
        log2_cells: Inclusive range of k per axis; each axis gets ``2**k`` cells across the image.
        threshold: Noise above this is inside; a number or a range. 0.5 marks about 5 % of pixels.
        rotation: Range of the field's rotation in degrees about the image centre.
        rotation_fill: ``"zero"`` (the literature: what turns in from outside the image is noise 0)
            or ``"continue"`` (the field goes on).
        octaves: Number of octaves, each twice as fine; 1 to 8.
        persistence: Amplitude of an octave relative to the one before.
        cells: Cells per axis as floats, instead of ``log2_cells``: a number, a range from which
            both axes draw, or a pair of ranges (rows, columns).
    """

    log2_cells: tuple[int, int] = (0, 5)
    threshold: float | Range = 0.5
    rotation: float | Range = (-90.0, 90.0)
    rotation_fill: str = "zero"
    octaves: int = 1
    persistence: float = 0.5
    cells: float | Range | tuple[Range, Range] | None = None

    function: ClassVar[str] = "perlin"
    shifts: ClassVar[tuple[str, int] | None] = ("threshold", -1)

    @property
    def controls(self) -> tuple[str, ...]:
        """The turn of the field; its size goes by the threshold."""
        return ("rotation",)

    def __post_init__(self) -> None:
        low, high = checks.interval("log2_cells", self.log2_cells, 0, 12)
        if low != int(low) or high != int(high):
            raise ValueError(
                f"log2_cells: expected integers, got {self.log2_cells}; use cells= for any float"
            )
        object.__setattr__(self, "log2_cells", (int(low), int(high)))
        object.__setattr__(self, "threshold", checks.interval("threshold", self.threshold))
        object.__setattr__(self, "rotation", checks.interval("rotation", self.rotation))
        one_of("rotation_fill", self.rotation_fill, ("zero", "continue"))
        checked_octaves(self.octaves, self.persistence)
        if self.cells is not None:
            object.__setattr__(self, "cells", checked_cells(self.cells))

    @property
    def words(self) -> int:
        """Cells (rows, columns), rotation, threshold, lattice key."""
        return 5

    def option(self) -> int:
        """The number of octaves."""
        return self.octaves

    def columns(self, channels: int) -> dict[str, int]:
        """Affine map to cell coordinates, lattice key, threshold, bounds, persistence."""
        names = (*CELL_MAP, "key", "threshold")
        bounds = ("y_min", "y_max", "x_min", "x_max", "persistence")
        return dict.fromkeys(names + bounds, 1)

    def sample(self, context: Context) -> Values:
        """Draw cells, rotation, threshold and key."""
        u = context.uniform(4)
        key = context.words(1, 4)[0]
        if self.cells is None:
            low, high = self.log2_cells
            exponents = low + np.floor(u[:2] * (high - low + 1))
            cells = np.exp2(exponents)
        else:
            cells = drawn_cells(u[:2], self.cells)
        angle = turned(context, between(u[2], self.rotation))  # type: ignore[arg-type]
        scale_y, scale_x = cells[0] / context.height, cells[1] / context.width
        infinite = np.full(context.batch, np.inf)
        ends = (-0.5 * scale_y, (context.height - 0.5) * scale_y, -0.5 * scale_x,
                (context.width - 0.5) * scale_x)  # fmt: skip
        if self.rotation_fill != "zero":
            ends = (-infinite, infinite, -infinite, infinite)
        elif context.wanted is not None:
            # Corners of one level would all be inside or none: the field goes on.
            sized = ~np.isnan(context.wanted.level)
            ends = tuple(np.where(sized, np.copysign(np.inf, end), end) for end in ends)
        bounds = dict(zip(("y_min", "y_max", "x_min", "x_max"), ends, strict=True))
        return {
            **cell_map(context, cells, angle),
            "key": key,
            "threshold": between(u[3], self.threshold),  # type: ignore[arg-type]
            **bounds,
            "persistence": np.full(context.batch, self.persistence),
        }


@part
@dataclass(frozen=True)
class Simplex(MaskPart):
    """Simplex noise above a threshold (Perlin 2001; the noise of RD++).

    A lattice of triangles where Perlin's is one of squares: no axis stands out. Gradients are of
    unit length; one octave spans [-1, 1] and has a standard deviation of 0.54. The field goes on
    beyond the image. The level is ``noise - threshold``.

    Args:
        cells: Cells across the image as floats: a number, a range from which both axes draw, or a
            pair of ranges (rows, columns). The triangles' sides are 0.82 cells long.
        threshold: Noise above this is inside; a number or a range. 0.8 marks about 7 % of pixels.
        rotation: Range of the field's rotation in degrees about the image centre.
        octaves: Number of octaves, each twice as fine; 1 to 8.
        persistence: Amplitude of an octave relative to the one before.
    """

    cells: float | Range | tuple[Range, Range] = (2.0, 16.0)
    threshold: float | Range = 0.8
    rotation: float | Range = (-90.0, 90.0)
    octaves: int = 1
    persistence: float = 0.5

    function: ClassVar[str] = "simplex"
    shifts: ClassVar[tuple[str, int] | None] = ("threshold", -1)

    @property
    def controls(self) -> tuple[str, ...]:
        """The turn of the field; its size goes by the threshold."""
        return ("rotation",)

    def __post_init__(self) -> None:
        object.__setattr__(self, "cells", checked_cells(self.cells))
        object.__setattr__(self, "threshold", checks.interval("threshold", self.threshold))
        object.__setattr__(self, "rotation", checks.interval("rotation", self.rotation))
        checked_octaves(self.octaves, self.persistence)

    @property
    def words(self) -> int:
        """Cells (rows, columns), rotation, threshold, lattice key."""
        return 5

    def option(self) -> int:
        """The number of octaves."""
        return self.octaves

    def columns(self, channels: int) -> dict[str, int]:
        """Affine map to cell coordinates, lattice key, threshold, persistence."""
        return dict.fromkeys((*CELL_MAP, "key", "threshold", "persistence"), 1)

    def sample(self, context: Context) -> Values:
        """Draw cells, rotation, threshold and key."""
        u = context.uniform(4)
        angle = turned(context, between(u[2], self.rotation))  # type: ignore[arg-type]
        return {
            **cell_map(context, drawn_cells(u[:2], self.cells), angle),
            "key": context.words(1, 4)[0],
            "threshold": between(u[3], self.threshold),  # type: ignore[arg-type]
            "persistence": np.full(context.batch, self.persistence),
        }


@part
@dataclass(frozen=True)
class Rectangle(MaskPart):
    """A rectangle of random size, place and rotation. The level is the distance to its edge in px.

    Sides are whole pixels, at least 1, at most the image's. Give ``area`` and ``aspect``
    (CutPaste), ``height`` and ``width`` (CutPaste-Scar) or ``side``, for squares (Cutout).

    Args:
        area: Range of the share of the image, in (0, 1].
        aspect: Range of width / height.
        aspect_law: ``"log"`` (log-uniform) or ``"split"`` (a fair coin between the part below 1 and
            the part above 1, each linear: the CutPaste paper's two intervals).
        height: Range of the height, truncated to whole pixels; with ``width`` it replaces area and
            aspect.
        width: Range of the width, likewise.
        rotation: Range of the rotation in degrees.
        side: Range of a square's side, instead of all of the above but ``rotation``.
        unit: Of ``height``, ``width`` and ``side``: ``"pixels"``, or ``"share"`` of the image's
            height and width, for ``side`` of the shorter one.
        place: ``"inside"``: the rotated rectangle lies inside the image where it fits;
            ``"anywhere"``: its centre is any pixel, and the image's edge cuts it; ``"middle"``: its
            centre is the image's.
    """

    area: float | Range = (0.02, 0.15)
    aspect: float | Range = (0.3, 1 / 0.3)
    aspect_law: str = "log"
    height: float | Range | None = None
    width: float | Range | None = None
    rotation: float | Range = 0.0
    side: float | Range | None = None
    unit: str = "pixels"
    place: str = "inside"

    function: ClassVar[str] = "rectangle"
    frames: ClassVar[bool] = True

    @property
    def controls(self) -> tuple[str, ...]:
        """Sides, place, aspect and rotation."""
        return ("size", "location", "aspect", "rotation")

    def __post_init__(self) -> None:
        object.__setattr__(self, "area", checks.interval("area", self.area, 0.0, 1.0))
        object.__setattr__(self, "aspect", checks.interval("aspect", self.aspect, 1e-3, 1e3))
        object.__setattr__(self, "rotation", checks.interval("rotation", self.rotation))
        one_of("aspect_law", self.aspect_law, ("log", "split"))
        one_of("unit", self.unit, ("pixels", "share"))
        one_of("place", self.place, ("inside", "anywhere", "middle"))
        if (self.height is None) != (self.width is None):
            raise ValueError("Rectangle: expected height and width together, got one; give both")
        if self.height is not None and self.side is not None:
            raise ValueError("Rectangle: expected height and width, or side, got all; drop one")
        bounds = (1.0, math.inf) if self.unit == "pixels" else (0.0, 1.0)
        for name in ("height", "width", "side"):
            if getattr(self, name) is not None:
                object.__setattr__(self, name, checks.interval(name, getattr(self, name), *bounds))

    @property
    def words(self) -> int:
        """Size (two), row, column, rotation, coin."""
        return 6

    def columns(self, channels: int) -> dict[str, int]:
        """Centre, rotation and half sides in pixels."""
        return dict.fromkeys(("cy", "cx", "cos", "sin", "half_h", "half_w"), 1)

    def _sides(self, context: Context, u: Floats) -> tuple[Floats, Floats]:
        share = self.unit == "share"
        unit_h, unit_w = (context.height, context.width) if share else (1, 1)
        if self.side is not None:
            height = np.floor(between(u[0], self.side) * min(unit_h, unit_w))  # type: ignore[arg-type]
            width = height
        elif self.height is not None and self.width is not None:
            height = np.floor(between(u[0], self.height) * unit_h)  # type: ignore[arg-type]
            width = np.floor(between(u[1], self.width) * unit_w)  # type: ignore[arg-type]
        else:
            pixels = between(u[0], self.area) * (context.height * context.width)  # type: ignore[arg-type]
            low, high = self.aspect  # type: ignore[misc]
            if self.aspect_law == "log":
                aspect = np.exp(between(u[1], (np.log(low), np.log(high))))
            else:
                below = between(u[1], (low, min(high, 1.0)))
                above = between(u[1], (max(low, 1.0), high))
                aspect = np.where((u[5] < 0.5) & (low < 1.0) | (high <= 1.0), below, above)
            height = np.floor(np.sqrt(pixels / aspect) + 0.5)
            width = np.floor(np.sqrt(pixels * aspect) + 0.5)
        return np.clip(height, 1, context.height), np.clip(width, 1, context.width)

    def sample(self, context: Context) -> Values:
        """Draw sides, rotation and place; sets the layer's frame."""
        u = context.uniform(self.words)
        height, width = sided(context, *self._sides(context, u))
        angle = turned(context, between(u[4], self.rotation))  # type: ignore[arg-type]
        frame = placed(context, u[2:4], height, width, angle)
        if self.place == "anywhere":
            # Even sides have no middle pixel: the one after the middle stands for it.
            cy = np.floor(u[2] * context.height) - (height % 2 == 0) / 2
            cx = np.floor(u[3] * context.width) - (width % 2 == 0) / 2
            inside = bound(context)
            cy, cx = np.where(inside, frame.cy, cy), np.where(inside, frame.cx, cx)
            frame = frame._replace(cy=cy, cx=cx)
        elif self.place == "middle":
            middle = ((side - 1) / 2 for side in (context.height, context.width))
            cy, cx = (np.full(context.batch, at) for at in middle)
            frame = frame._replace(cy=cy, cx=cx)
        context.frame = frame
        return {
            "cy": frame.cy, "cx": frame.cx, "cos": np.cos(angle), "sin": np.sin(angle),
            "half_h": frame.half_h, "half_w": frame.half_w,
        }  # fmt: skip


@part
@dataclass(frozen=True)
class Fractal(MaskPart):
    """The attractor of two random affine maps, stretched over a square that is turned (FractalAD).

    Shapes run from dust and ferns to solid blobs, see ``banks.fractals``. They have 64 x 64
    bits; between these the level is bilinear, from -0.5 outside to 0.5 inside.

    Args:
        side: Range of the square's side, a share of the image's shorter one, in whole pixels.
        rotation: Range of the rotation in degrees.
        margin: Share of the image's sides that the turned square leaves free at every edge, where
            it fits.
    """

    side: float | Range = (0.1, 0.5)
    rotation: float | Range = (15.0, 75.0)
    margin: float = 0.1

    function: ClassVar[str] = "bitmap"
    frames: ClassVar[bool] = True

    @property
    def controls(self) -> tuple[str, ...]:
        """Side, place and rotation; the square stays one."""
        return ("size", "location", "rotation")

    def __post_init__(self) -> None:
        object.__setattr__(self, "side", checks.interval("side", self.side, 0.0, 1.0))
        object.__setattr__(self, "rotation", checks.interval("rotation", self.rotation))
        checks.interval("margin", self.margin, 0.0, 0.5)

    @property
    def words(self) -> int:
        """Side, row, column, rotation, those of the maps, and bits."""
        return 5 + fractals.NUMBERS

    def option(self) -> int:
        """Bits along a side."""
        return fractals.SIDE

    def columns(self, channels: int) -> dict[str, int]:
        """Affine map to bits, the bits."""
        return {**dict.fromkeys(CELL_MAP, 1), "bits": fractals.SIDE**2 // 32}

    def sample(self, context: Context) -> Values:
        """Draw the square and the shape; sets the layer's frame."""
        u = context.uniform(4 + fractals.NUMBERS)
        bits = context.words(1, 4 + fractals.NUMBERS)[0]
        side = between(u[0], self.side) * min(context.height, context.width)  # type: ignore[arg-type]
        side = np.maximum(np.floor(side), 1.0)
        shape = fractals.bitmaps(fractals.draw_maps(u[4:], bits), bits)
        if context.wanted is not None:
            filled = fractals.area(shape) / fractals.SIDE**2
            pixels = context.wanted.size * (context.height * context.width)
            whole = float(min(context.height, context.width))
            wanted = np.clip(np.sqrt(pixels / filled), 1.0, whole)
            side = instead(side, wanted)
        angle = turned(context, between(u[3], self.rotation))  # type: ignore[arg-type]
        frame = placed(context, u[1:3], side, side, angle, self.margin)
        context.frame = frame
        cos, sin = np.cos(angle) * (fractals.SIDE / side), np.sin(angle) * (fractals.SIDE / side)
        middle = (fractals.SIDE - 1) / 2
        return {
            "yy": cos,
            "yx": -sin,
            "y0": middle - (cos * frame.cy - sin * frame.cx),
            "xy": sin,
            "xx": cos,
            "x0": middle - (sin * frame.cy + cos * frame.cx),
            "bits": shape,
        }


@part
@dataclass(frozen=True)
class Everywhere(MaskPart):
    """The whole image."""

    function: ClassVar[str] = "everywhere"
