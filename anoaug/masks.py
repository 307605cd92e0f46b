"""Masks: where an anomaly is. Compose them with ``&`` (both), ``|`` (either) and ``~`` (outside).

A mask is a signed level per pixel, inside > 0. The functions are in ``kernels/masks.py`` and
``anoaug/reference/masks.py``; here are the laws of their columns.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from . import checks
from .checks import one_of
from .parts import Context, Floats, Frame, Part, Values, part

__all__ = ["Everywhere", "Foreground", "Given", "Mask", "MaskPart", "Perlin", "Rectangle"]

Range = tuple[float, float]


class Mask:
    """Base of everything that says where: parts and their combinations."""

    def steps(self) -> tuple[MaskPart, ...]:
        """The mask as postfix parts."""
        raise TypeError(f"expected a mask, got {type(self).__name__}")

    def __and__(self, other: Mask) -> Mask:
        """Inside both."""
        return Expression((*self.steps(), *_steps(other), Intersection()))

    def __or__(self, other: Mask) -> Mask:
        """Inside either."""
        return Expression((*self.steps(), *_steps(other), Union()))

    def __bool__(self) -> bool:
        """Refused: ``and``, ``or`` and ``not`` would silently drop a mask."""
        raise TypeError("mask: expected & | ~ to combine masks, got and, or, not (or an if)")

    def __invert__(self) -> Mask:
        """Outside."""
        return Expression((*self.steps(), Complement()))


def _steps(other: object) -> tuple[MaskPart, ...]:
    if not isinstance(other, Mask):
        raise TypeError(f"mask: expected a mask to combine with, got {type(other).__name__}")
    return other.steps()


class MaskPart(Part, Mask):
    """Base of mask parts: a registered frozen dataclass with a function and a law."""

    role: ClassVar[str] = "masks"
    # Whether ``sample`` publishes the mask's box, which "elsewhere" sources need.
    frames: ClassVar[bool] = False

    def steps(self) -> tuple[MaskPart, ...]:
        """Itself."""
        return (self,)


@dataclass(frozen=True)
class Expression(Mask):
    """A combination of masks in postfix order."""

    parts: tuple[MaskPart, ...]

    def steps(self) -> tuple[MaskPart, ...]:
        """The parts in postfix order."""
        return self.parts


@part
@dataclass(frozen=True)
class Intersection(MaskPart):
    """Operator ``&``: the smaller level."""

    function: ClassVar[str] = "intersection"


@part
@dataclass(frozen=True)
class Union(MaskPart):
    """Operator ``|``: the larger level."""

    function: ClassVar[str] = "union"


@part
@dataclass(frozen=True)
class Complement(MaskPart):
    """Operator ``~``: the negated level."""

    function: ClassVar[str] = "complement"


def between(u: Floats, bounds: Range) -> Floats:
    """Uniform numbers in [0, 1) stretched to [low, high)."""
    return bounds[0] + u * (bounds[1] - bounds[0])


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
        if not isinstance(self.octaves, int) or not 1 <= self.octaves <= 8:
            raise ValueError(f"octaves: expected an integer from 1 to 8, got {self.octaves!r}")
        checks.interval("persistence", self.persistence, 0.0, 1.0)
        if self.cells is not None:
            each: Any = self.cells
            if isinstance(each, (int, float)) or all(isinstance(v, (int, float)) for v in each):
                each = (each, each)
            if len(each) != 2:
                raise ValueError(
                    f"cells: expected a number, a range or a pair of ranges, got {self.cells!r}"
                )
            pair = tuple(checks.interval("cells", axis, 2**-8, 4096) for axis in each)
            object.__setattr__(self, "cells", pair)

    @property
    def words(self) -> int:
        """Cells (rows, columns), rotation, threshold, lattice key."""
        return 5

    def option(self) -> int:
        """The number of octaves."""
        return self.octaves

    def columns(self, channels: int) -> dict[str, int]:
        """Affine map to cell coordinates, lattice key, threshold, bounds, persistence."""
        names = ("yy", "yx", "y0", "xy", "xx", "x0", "key", "threshold")
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
            ranges: Any = self.cells
            cells = np.stack([between(u[axis], ranges[axis]) for axis in (0, 1)])
        angle = np.deg2rad(between(u[2], self.rotation))  # type: ignore[arg-type]
        cos, sin = np.cos(angle), np.sin(angle)
        mid_y, mid_x = (context.height - 1) / 2, (context.width - 1) / 2
        scale_y, scale_x = cells[0] / context.height, cells[1] / context.width
        if self.rotation_fill == "zero":
            bounds = {
                "y_min": -0.5 * scale_y,
                "y_max": (context.height - 0.5) * scale_y,
                "x_min": -0.5 * scale_x,
                "x_max": (context.width - 0.5) * scale_x,
            }
        else:
            infinite = np.full(context.batch, np.inf)
            bounds = {"y_min": -infinite, "y_max": infinite, "x_min": -infinite, "x_max": infinite}
        return {
            "yy": cos * scale_y,
            "yx": -sin * scale_y,
            "y0": (mid_y - cos * mid_y + sin * mid_x) * scale_y,
            "xy": sin * scale_x,
            "xx": cos * scale_x,
            "x0": (mid_x - sin * mid_y - cos * mid_x) * scale_x,
            "key": key,
            "threshold": between(u[3], self.threshold),  # type: ignore[arg-type]
            **bounds,
            "persistence": np.full(context.batch, self.persistence),
        }


@part
@dataclass(frozen=True)
class Rectangle(MaskPart):
    """A rectangle of random size, place and rotation. The level is the distance to its edge in px.

    Sides are whole pixels, at least 1, at most the image's; the rotated rectangle lies inside the
    image where it fits. Give either ``area`` and ``aspect`` (CutPaste) or ``height`` and ``width``
    in pixels (CutPaste-Scar).

    Args:
        area: Range of the share of the image, in (0, 1].
        aspect: Range of width / height.
        aspect_law: ``"log"`` (log-uniform) or ``"split"`` (a fair coin between the part below 1 and
            the part above 1, each linear: the CutPaste paper's two intervals).
        height: Range of the height in pixels, truncated to whole ones; with ``width`` it replaces
            area and aspect.
        width: Range of the width in pixels, likewise.
        rotation: Range of the rotation in degrees.
    """

    area: float | Range = (0.02, 0.15)
    aspect: float | Range = (0.3, 1 / 0.3)
    aspect_law: str = "log"
    height: float | Range | None = None
    width: float | Range | None = None
    rotation: float | Range = 0.0

    function: ClassVar[str] = "rectangle"
    frames: ClassVar[bool] = True

    def __post_init__(self) -> None:
        object.__setattr__(self, "area", checks.interval("area", self.area, 0.0, 1.0))
        object.__setattr__(self, "aspect", checks.interval("aspect", self.aspect, 1e-3, 1e3))
        object.__setattr__(self, "rotation", checks.interval("rotation", self.rotation))
        one_of("aspect_law", self.aspect_law, ("log", "split"))
        if (self.height is None) != (self.width is None):
            raise ValueError("Rectangle: expected height and width together, got one; give both")
        if self.height is not None and self.width is not None:
            object.__setattr__(self, "height", checks.interval("height", self.height, 1))
            object.__setattr__(self, "width", checks.interval("width", self.width, 1))

    @property
    def words(self) -> int:
        """Size (two), row, column, rotation, coin."""
        return 6

    def columns(self, channels: int) -> dict[str, int]:
        """Centre, rotation and half sides in pixels."""
        return dict.fromkeys(("cy", "cx", "cos", "sin", "half_h", "half_w"), 1)

    def _sides(self, context: Context, u: Floats) -> tuple[Floats, Floats]:
        if self.height is not None and self.width is not None:
            height = np.floor(between(u[0], self.height))  # type: ignore[arg-type]
            width = np.floor(between(u[1], self.width))  # type: ignore[arg-type]
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
        height, width = self._sides(context, u)
        angle = np.deg2rad(between(u[4], self.rotation))  # type: ignore[arg-type]
        cos, sin = np.cos(angle), np.sin(angle)
        # Bounding box of the turned rectangle in whole pixels, so that unturned ones stay exact.
        box_h = np.ceil(np.abs(cos) * height + np.abs(sin) * width - 1e-9)
        box_w = np.ceil(np.abs(cos) * width + np.abs(sin) * height - 1e-9)
        top = np.floor(u[2] * (np.maximum(context.height - box_h, 0) + 1))
        left = np.floor(u[3] * (np.maximum(context.width - box_w, 0) + 1))
        cy, cx = top + (box_h - 1) / 2, left + (box_w - 1) / 2
        context.frame = Frame(cy, cx, height / 2, width / 2, angle)
        return {
            "cy": cy, "cx": cx, "cos": cos, "sin": sin, "half_h": height / 2, "half_w": width / 2,
        }  # fmt: skip


@part
@dataclass(frozen=True)
class Given(MaskPart):
    """A mask handed in at call time, ``synth(images, slots={name: tensor})``.

    uint8 and bool tensors are inside where not 0; float tensors have the level ``value - 0.5``.

    Args:
        name: Name under which the tensor ``[B, 1, H, W]`` is passed.
        slot: Number of the tensor in the op's list; set by the synthesizer.
    """

    name: str = "where"
    slot: int = -1

    function: ClassVar[str] = "given"

    def option(self) -> int:
        """The slot's number."""
        return self.slot


@part
@dataclass(frozen=True)
class Foreground(Given):
    """The object, ``synth(images, foreground=tensor)``, at one place of a mask expression.

    Without this part, ``foreground=`` confines every layer.
    """

    name: str = "foreground"


@part
@dataclass(frozen=True)
class Everywhere(MaskPart):
    """The whole image."""

    function: ClassVar[str] = "everywhere"
