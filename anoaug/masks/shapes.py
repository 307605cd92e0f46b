"""A mask that puts a shape of a bank somewhere: scaled, turned, mirrored and bent.

The function is in ``kernels/masks.py`` and ``anoaug/reference/masks.py``.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from .. import checks
from ..banks import Bank, ShapeBank, distances
from ..checks import one_of
from ..lattices import CELL_MAP
from ..parts import BankInfo, Context, Floats, Values, part
from ..placing import Range, between, bound, placed, sided, turned
from ..reference.masks import BEND_OCTAVES, SHAPE_BANK
from .expressions import MaskPart

# Cells of the noise that bends a shape along the bank's longer side.
BEND_CELLS = 4.0
# The most that its octaves add up to: 1 + 1 / 2.
BEND_MOST = 1.5


@part
@dataclass(frozen=True)
class Shape(MaskPart):
    """A shape of a bank, scaled, turned, mirrored and bent; the level is in pixels of the image.

    Levels say how far inside its edge a pixel is, as long as the shape is neither bent nor
    stretched; they saturate where the bank's do, 16 of its pixels from the edge. A shape whose
    turned box does not fit into the image is shrunk until it does.

    Args:
        bank: A :class:`anoaug.ShapeBank` (its number once bound to a recipe).
        size: Range of the share of the image that is covered, in (0, 1].
        of: What covers it: ``"mask"``, the shape's pixels, or ``"box"``, the box about them.
        aspect: Range, log-uniform: of ``"mask"`` how much a shape is stretched in width against
            height; of ``"box"`` the box's width / height, to which the shape is stretched.
        rotation: Range in degrees.
        elastic: Range of the greatest displacement by smooth noise, a share of the bank's side;
            0 bends nothing. At most 0.2.
        mirror: Whether shapes are mirrored, along each axis half of the time.
        height: Range of the box's height in whole pixels; with ``width`` it replaces size and
            aspect.
        width: Range of the box's width, likewise.
        unit: Of ``height`` and ``width``: ``"pixels"``, or ``"share"`` of the image's.
        place: ``"inside"``: the box lies inside the image; ``"anywhere"``: its centre is any pixel,
            and the image's edge cuts it.
    """

    bank: Bank | int
    size: float | Range = (0.005, 0.05)
    of: str = "mask"
    aspect: float | Range = (0.5, 2.0)
    rotation: float | Range = (-180.0, 180.0)
    elastic: float | Range = (0.0, 0.04)
    mirror: bool = True
    height: float | Range | None = None
    width: float | Range | None = None
    unit: str = "pixels"
    place: str = "inside"

    function: ClassVar[str] = "shape"
    frames: ClassVar[bool] = True

    @property
    def controls(self) -> tuple[str, ...]:
        """Size, place, aspect and rotation, and which kind of shape."""
        return ("size", "location", "aspect", "rotation", "shape")

    def __post_init__(self) -> None:
        if not isinstance(self.bank, (ShapeBank, int)):
            raise TypeError(
                f"bank: expected a ShapeBank, got {type(self.bank).__name__}; "
                "ShapeBank.procedural() draws one"
            )
        low, high = checks.interval("size", self.size, 0.0, 1.0)
        if low <= 0.0:
            raise ValueError(f"size: expected shares above 0, got {self.size!r}")
        object.__setattr__(self, "size", (low, high))
        object.__setattr__(self, "aspect", checks.interval("aspect", self.aspect, 1e-3, 1e3))
        object.__setattr__(self, "rotation", checks.interval("rotation", self.rotation))
        object.__setattr__(self, "elastic", checks.interval("elastic", self.elastic, 0.0, 0.2))
        one_of("of", self.of, ("mask", "box"))
        one_of("unit", self.unit, ("pixels", "share"))
        one_of("place", self.place, ("inside", "anywhere"))
        if (self.height is None) != (self.width is None):
            raise ValueError("Shape: expected height and width together, got one; give both")
        bounds = (1.0, math.inf) if self.unit == "pixels" else (0.0, 1.0)
        for name in ("height", "width"):
            if getattr(self, name) is not None:
                object.__setattr__(self, name, checks.interval(name, getattr(self, name), *bounds))

    @property
    def words(self) -> int:
        """Shape, size (two), row, column, rotation, mirror, displacement, its key."""
        return 9

    def option(self) -> int:
        """The number of octaves that bend, 0 for none, and the bank's number."""
        bends = self.elastic[1] > 0.0  # type: ignore[index]
        return BEND_OCTAVES * bends + int(self.bank) * SHAPE_BANK  # type: ignore[arg-type]

    def columns(self, channels: int) -> dict[str, int]:
        """Affine map to the level, place in the bank, pixels per step, displacement."""
        names = ("image", "h", "w", "unit", "key", "bend", "frequency")
        return dict.fromkeys((*CELL_MAP, *names), 1)

    def sample(self, context: Context) -> Values:
        """Draw shape, size, place, rotation and displacement; sets the layer's frame."""
        info = context.banks[self.bank]  # type: ignore[index]
        if info.outlines is None:
            raise ValueError("bank: expected a ShapeBank, got a bank of images")
        u = context.uniform(8)
        image = self._picked(context, u[0], info)
        area, top, bottom, left, right, cover = info.outlines[image].T.astype(np.float64)
        tall, wide = bottom - top, right - left
        height, width = self._box(context, u[1:3], area, tall, wide)
        height, width = sided(context, height, width, cover / 16 / (tall * wide), whole=False)
        angle = turned(context, between(u[5], self.rotation))  # type: ignore[arg-type]
        cos, sin = np.cos(angle), np.sin(angle)
        reach_h = np.abs(cos) * height + np.abs(sin) * width
        reach_w = np.abs(cos) * width + np.abs(sin) * height
        shrink = np.minimum(context.height / reach_h, context.width / reach_w)
        height, width = (side * np.minimum(shrink, 1.0) for side in (height, width))
        scale_y, scale_x = tall / height, wide / width
        side = max(info.height, info.width)
        bend = between(u[7], self.elastic) * side / BEND_MOST  # type: ignore[arg-type]
        # Whole pixels, so that what a source takes from elsewhere stays inside the image.
        most = 2.0 * BEND_MOST * bend
        box_h, box_w = np.ceil(height + most / scale_y), np.ceil(width + most / scale_x)
        frame = placed(context, u[3:5], box_h, box_w, angle)
        if self.place == "anywhere":
            cy, cx = np.floor(u[3] * context.height), np.floor(u[4] * context.width)
            inside = bound(context)
            cy, cx = np.where(inside, frame.cy, cy), np.where(inside, frame.cx, cx)
            frame = frame._replace(cy=cy, cx=cx)
        context.frame = frame
        coin = np.floor(4.0 * u[6]) if self.mirror else np.zeros(context.batch)
        yy, yx = cos * scale_y, -sin * scale_y
        xy, xx = sin * scale_x, cos * scale_x
        yy, yx = (np.where(coin >= 2, -one, one) for one in (yy, yx))
        xy, xx = (np.where(coin % 2 == 1, -one, one) for one in (xy, xx))
        ones = np.ones(context.batch)
        return {
            "yy": yy, "yx": yx, "y0": (top + bottom - 1) / 2 - (yy * frame.cy + yx * frame.cx),
            "xy": xy, "xx": xx, "x0": (left + right - 1) / 2 - (xy * frame.cy + xx * frame.cx),
            "image": image,
            "h": ones.astype(np.int32) * info.height,
            "w": ones.astype(np.int32) * info.width,
            "unit": 1.0 / (distances.STEPS * np.sqrt(scale_y * scale_x)),
            "key": context.words(1, 8)[0],
            "bend": bend,
            "frequency": ones * (BEND_CELLS / side),
        }  # fmt: skip

    def _picked(self, context: Context, u: Floats, info: BankInfo) -> np.ndarray:
        """The shapes' numbers, int32 ``[B]``: any, or of the kind that a control asks for."""
        image = np.floor(u * info.images)
        if context.wanted is not None:
            kind = context.wanted.shape
            for one in np.unique(kind[~np.isnan(kind)]):
                members, rows = np.flatnonzero(info.category == one), kind == one
                image[rows] = members[np.floor(u[rows] * len(members)).astype(np.int64)]
        return image.astype(np.int32)

    def _box(
        self, context: Context, u: Floats, area: Floats, tall: Floats, wide: Floats
    ) -> tuple[Floats, Floats]:
        """Height and width in pixels of the box about shapes, which is ``tall`` x ``wide``."""
        if self.height is not None and self.width is not None:
            share = self.unit == "share"
            unit_h, unit_w = (context.height, context.width) if share else (1, 1)
            height = np.floor(between(u[0], self.height) * unit_h)  # type: ignore[arg-type]
            width = np.floor(between(u[1], self.width) * unit_w)  # type: ignore[arg-type]
            return np.maximum(height, 1.0), np.maximum(width, 1.0)
        pixels = between(u[0], self.size) * (context.height * context.width)  # type: ignore[arg-type]
        low, high = self.aspect  # type: ignore[misc]
        aspect = np.exp(between(u[1], (np.log(low), np.log(high))))
        if self.of == "box":
            area, tall, wide = (np.ones(context.batch) for _ in range(3))
        height = tall * np.sqrt(pixels / (area * aspect))
        width = wide * np.sqrt(pixels / area * aspect)
        return np.maximum(height, 1.0), np.maximum(width, 1.0)
