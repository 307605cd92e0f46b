"""NSA's patches: boxes of a size drawn where the source is, resized, and laid elsewhere.

Sides and places are whole pixels, in integer arithmetic that is the same on the host, where laws
draw, and on the device, where a patch seeks its place.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from .. import checks
from ..parts import Context, Floats, Frame, Values, part
from ..placing import Range
from ..wanted import instead
from .boxes import Box, above, counted, earliest, first_overlap, overlaps, shown
from .content import Choice, Seeker, Site, below, candidates
from .expressions import MaskPart

Bounds = tuple[Range, Range]

# The published code tries so often before it gives up.
TRIES = 200
_WORDS = 4  # of a candidate: centre in the source, centre in the image


@part
@dataclass(frozen=True)
class CutPatch(MaskPart):
    """A box around a random centre, cut at the image's edge, resized, and laid elsewhere (NSA).

    For sources from elsewhere (``sources.Own``, ``sources.Donor`` of images of the batch's size),
    which take what is in the box and stretch it to its new size. The level is the distance to the
    edge in pixels.

    Args:
        bounds: Least and greatest *half* side as shares of the image's height, then of its width.
        gamma: Shape (a whole number), scale and least value of the half sides' distribution, as
            shares of the image's sides: ``least + Gamma(shape, scale)``, within the bounds. None:
            uniform in the bounds.
        resize: Bounds of the factor N(1, 0.5) by which the box is resized, or None. Its sides then
            stay within ``bounds`` too: the published code holds the whole side to what it calls
            the bounds of half of it.
        square: Whether both half sides are that of the rows, of the image's shorter side.
        margin: Share of the image's sides that the centre in the source keeps from every edge;
            None: the least half side.
        shift: Whether the box is laid elsewhere; else it stays where it was cut.
        ring: Pixels that are left out at each edge of the box, as the published code does.
        least: Pixels that a box has to have without its ring; OpenCV's clone fails on fewer than
            50, and the published code gives up.

    Source: Schlueter et al., Natural Synthetic Anomalies, ECCV 2022.
    """

    bounds: Bounds = ((0.03, 0.4), (0.03, 0.4))
    gamma: tuple[int, float, float] | None = (2, 0.05, 0.03)
    resize: Range | None = (0.7, 1.3)
    square: bool = False
    margin: float | None = None
    shift: bool = True
    ring: int = 1
    least: int = 50

    function: ClassVar[str] = "rectangle"
    frames: ClassVar[bool] = True

    @property
    def controls(self) -> tuple[str, ...]:
        """The size that it is resized to, and where it is laid."""
        return ("size", "location")

    def __post_init__(self) -> None:
        if not isinstance(self.bounds, (tuple, list)) or len(self.bounds) != 2:
            raise TypeError(f"bounds: expected ranges for rows and columns, got {self.bounds!r}")
        pairs = tuple(checks.interval("bounds", one) for one in self.bounds)
        if not all(low >= 0.0 and high <= 0.5 for low, high in pairs):
            raise ValueError(
                f"bounds: expected half sides as shares of the image's, within [0, 0.5], got "
                f"{self.bounds!r}; half of a patch as large as the image is 0.5"
            )
        object.__setattr__(self, "bounds", pairs)
        if self.gamma is not None:
            shape, scale, least = checks.numbers("gamma", self.gamma) or ()
            if shape != int(shape) or not 1 <= shape <= 16 or scale < 0 or least < 0:
                raise ValueError(
                    "gamma: expected a whole shape from 1 to 16, a scale and a least value >= 0, "
                    f"got {self.gamma!r}"
                )
            object.__setattr__(self, "gamma", (int(shape), scale, least))
        if self.resize is not None:
            object.__setattr__(self, "resize", checks.interval("resize", self.resize, 0.05, 20.0))
        if self.margin is not None:
            checks.interval("margin", self.margin, 0.0, 0.5)
        if self.ring < 0 or self.least < 1:
            raise ValueError(
                "ring, least: expected numbers of pixels >= 0 and >= 1, got "
                f"{self.ring!r} and {self.least!r}"
            )

    @property
    def words(self) -> int:
        """Those of the half sides, two of the factor, the key."""
        return 2 * self._each + 3

    @property
    def _each(self) -> int:
        return 1 if self.gamma is None else self.gamma[0]

    def columns(self, channels: int) -> dict[str, int]:
        """Those of a rectangle."""
        return dict.fromkeys(("cy", "cx", "cos", "sin", "half_h", "half_w"), 1)

    def sample(self, context: Context) -> Values:
        """Draw the box at its first candidate; sets the layer's frame and its origin."""
        return self._drawn(context)[0]

    def _drawn(self, context: Context) -> tuple[dict[str, Any], dict[str, Any]]:
        """The columns, and what a patch that seeks its place begins with."""
        size = (context.height, context.width)
        reach = self._reach(context.uniform(2 * self._each), size)
        scale = self._scale(context.uniform(2, 2 * self._each))
        key = context.words(1, 2 * self._each + 2)[0]
        wanted, within = context.wanted, None
        if wanted is not None:
            reach, scale = _as_wanted(reach, scale, wanted.size * (size[0] * size[1]), size)
            sides = np.stack([wanted.y0, wanted.x0, wanted.y1, wanted.x1], 1)
            if not np.isnan(sides).all():
                within = centres(torch.from_numpy(sides), size)
        words = candidates(torch.from_numpy(key.astype(np.int64)), 1, _WORDS)[:, 0]
        whole = [torch.from_numpy(each.astype(np.int64)) for each in reach]
        origin = self.cut(words, (whole[0], whole[1]), size, within)
        box = self.laid(words, origin, torch.from_numpy(scale), size, within)
        context.frame, context.origin = _frame(box), _frame(origin)
        mask = {name: value.numpy() for name, value in self.levels(box).items()}
        return mask, {"reach_y": reach[0], "reach_x": reach[1], "scale": scale, "key": key}

    def _reach(self, u: Floats, size: tuple[int, int]) -> tuple[Floats, Floats]:
        """Half sides in whole pixels, float64 ``[B]`` each."""
        halves = []
        for axis, side in enumerate((min(size),) if self.square else size):
            low, high = self._pixels(axis, side)
            mine = u[axis * self._each : (axis + 1) * self._each]
            if self.gamma is None:
                half = low + np.floor(mine[0] * max(high - low, 1))
            else:
                _, scale, least = self.gamma
                # A gamma variable of whole shape is a sum of exponential ones.
                share = least - scale * np.log1p(-mine).sum(0)
                half = np.floor(np.clip(share * side, low, high))
            halves.append(np.maximum(half, 1.0))
        return halves[0], halves[-1]

    def _pixels(self, axis: int, side: int) -> tuple[int, int]:
        low, high = self.bounds[axis]
        return round(low * side), max(round(high * side), 1)

    def _scale(self, u: Floats) -> npt.NDArray[np.float32]:
        """The factor, float32 ``[B]``."""
        if self.resize is None:
            return np.ones(u.shape[1], np.float32)
        normal = np.sqrt(-2.0 * np.log1p(-u[0])) * np.cos(2.0 * np.pi * u[1])
        return np.clip(1.0 + 0.5 * normal, *self.resize).astype(np.float32)

    def cut(
        self, words: Tensor, reach: tuple[Tensor, Tensor], size: tuple[int, int],
        within: Tensor | None = None,
    ) -> Box:  # fmt: skip
        """Boxes of the source: half sides about a centre, cut at the edge.

        Args:
            words: int64 ``[..., 4]``.
            reach: Half sides, int64 that broadcast to ``[...]``.
            size: Height and width.
            within: Where the centres of boxes are that stay, see :func:`centres`.
        """
        ends = []
        for axis, side in enumerate(size):
            low = self._pixels(axis, side)[0]
            low = low if self.margin is None else int(self.margin * side)
            middle = low + below(words[..., axis], max(side - 2 * low, 1))
            if within is not None and not self.shift:
                middle = _moved(middle, words[..., axis], within[axis])
            start = (middle - reach[axis]).clamp(min=0)
            ends.append((start, (middle + reach[axis]).clamp(max=side) - start))
        (top, tall), (left, wide) = ends
        return Box(top, left, tall, wide)

    def laid(
        self, words: Tensor, origin: Box, scale: Tensor, size: tuple[int, int],
        within: Tensor | None = None,
    ) -> Box:  # fmt: skip
        """Boxes in the image, resized, the ring included.

        Args:
            words: int64 ``[..., 4]``.
            origin: Boxes of the source that broadcast to ``[...]``.
            scale: float32, likewise; below 0 how many pixels the box is to have without its ring.
            size: Height and width.
            within: Where the boxes' centres are to be, see :func:`centres`.
        """
        tall, wide = self.resized(origin, scale, size)
        if not self.shift:
            asked, sides = scale < 0, (size[0] - tall, size[1] - wide)
            top, left = (
                torch.where(asked, torch.minimum(first, free).clamp(min=0), first)
                for first, free in zip((origin.top, origin.left), sides, strict=True)
            )
            return Box(top, left, tall, wide)
        starts = []
        for axis, side in enumerate((tall, wide)):
            half = side // 2
            # The centre keeps half a side and a pixel from either end.
            free = (size[axis] - 2 * half - 2).clamp(min=1)
            start = 1 + below(words[..., 2 + axis], free)
            if within is not None:
                start = _moved(start + half, words[..., 2 + axis], within[axis]) - half
                start = start.clamp(min=0)
            starts.append(torch.minimum(start, (size[axis] - side).clamp(min=0)))
        shape = torch.broadcast_shapes(starts[0].shape, tall.shape)
        return Box(starts[0], starts[1], tall.expand(shape), wide.expand(shape))

    def resized(self, origin: Box, scale: Tensor, size: tuple[int, int]) -> tuple[Tensor, Tensor]:
        """Height and width of a resized box; its aspect stays unless a bound is in the way."""
        tall, wide = self._resized(origin, scale, size)
        pixels = -scale.to(torch.float64)
        # An area that is asked for, of the aspect that the box has.
        aspect = origin.tall.to(torch.float64) / origin.wide.to(torch.float64)
        edge = 2 * self.ring
        high = torch.floor((pixels.clamp(min=1.0) * aspect).sqrt() + 0.5)
        high = torch.maximum(high, torch.ceil(pixels / (size[1] - edge)))
        high = high.clamp(1, max(size[0] - edge, 1))
        across = torch.floor(pixels / high + 0.5).clamp(1, max(size[1] - edge, 1))
        asked = pixels > 0
        return (
            torch.where(asked, high.to(torch.int64) + edge, tall),
            torch.where(asked, across.to(torch.int64) + edge, wide),
        )

    def _resized(self, origin: Box, scale: Tensor, size: tuple[int, int]) -> tuple[Tensor, Tensor]:
        """The same by the law's factor."""
        if self.resize is None:
            return origin.tall, origin.wide
        (low_h, high_h), (low_w, high_w) = (self._pixels(axis, size[axis]) for axis in (0, 1))
        tall, wide = origin.tall.to(torch.float32), origin.wide.to(torch.float32)
        high = (scale * tall).clamp(low_h, high_h)
        across = torch.floor(high / tall * wide).clamp(max(low_w, 1), high_w)
        high = torch.floor(across / wide * tall).clamp(max(low_h, 1), high_h)
        return high.to(torch.int64), across.to(torch.int64)

    def levels(self, box: Box) -> dict[str, Tensor]:
        """The columns of a rectangle, float32 ``[B]``, of boxes without their ring."""
        top, left, tall, wide = (side.to(torch.float32) for side in box)
        ones = torch.ones_like(top)
        half_h, half_w = tall * 0.5 - self.ring, wide * 0.5 - self.ring
        counts = self.counts(box)
        return {
            "cy": top + (tall - 1.0) * 0.5, "cx": left + (wide - 1.0) * 0.5,
            "cos": ones, "sin": ones * 0.0,
            # A box too small to count has no inside.
            "half_h": torch.where(counts, half_h, 0.0), "half_w": torch.where(counts, half_w, 0.0),
        }  # fmt: skip

    def counts(self, box: Box) -> Tensor:
        """Whether boxes without their ring are large enough."""
        tall, wide = ((side - 2 * self.ring).clamp(min=0) for side in (box.tall, box.wide))
        return tall * wide >= self.least


def _as_wanted(
    reach: tuple[Floats, Floats], scale: npt.NDArray[np.float32], pixels: Floats,
    size: tuple[int, int],
) -> tuple[tuple[Floats, Floats], npt.NDArray[np.float32]]:  # fmt: skip
    """Half sides and factors of boxes that are to have so many pixels; NaN where they are free."""
    factor = np.sqrt(pixels / (4.0 * reach[0] * reach[1]))
    sides = [
        instead(half, np.clip(np.floor(half * factor + 0.5), 1.0, max(side // 2, 1)))
        for half, side in zip(reach, size, strict=True)
    ]
    factors = np.where(np.isnan(pixels), scale, -np.maximum(pixels, 1.0))
    return (sides[0], sides[1]), factors.astype(np.float32)


def centres(sides: Tensor, size: tuple[int, int]) -> Tensor:
    """Rows and columns in which centres may be, of boxes in shares of the image.

    Args:
        sides: float64 ``[B, 4]``: y0, x0, y1, x1; NaN where any will do.
        size: Height and width.

    Returns:
        int64 ``[2, 2, B]``: rows, columns; the first one, how many (0: any).
    """
    ranges = []
    for axis, side in enumerate(size):
        first = torch.floor(sides[:, axis] * side).clamp(0, side - 1)
        last = torch.ceil(sides[:, 2 + axis] * side).clamp(max=side)
        count = (last - first).clamp(min=1)
        ranges.append(torch.stack([first, count]).nan_to_num(nan=0.0).to(torch.int64))
    return torch.stack(ranges)


def _moved(centre: Tensor, word: Tensor, within: Tensor) -> Tensor:
    """Centres, those of them that have a place drawn there."""
    first, count = (one.view(-1, *(1,) * (word.dim() - 1)) for one in within)
    return torch.where(count > 0, first + below(word, count.clamp(min=1)), centre)


def _frame(box: Box) -> Frame:
    """Boxes ``[B]`` as a frame."""
    top, left, tall, wide = (side.to(torch.float64).numpy() for side in box)
    return Frame(top + (tall - 1) / 2, left + (wide - 1) / 2, tall / 2, wide / 2, tall * 0.0)


@part
@dataclass(frozen=True)
class ObjectPatch(CutPatch, Seeker):
    """A patch that holds some of the object and lands on it; give arguments by name (NSA).

    Of up to 200 boxes of the source the first is taken in which the object's share is above
    ``min_object``; of up to 200 places in the image the first where more than ``min_overlap`` of
    the object in the resized box lies on the object. Where there is none the sample goes without
    the patch. Needs the foreground of the images, ``foreground=`` at the call or of the
    synthesizer, and with donors a synthesizer's, which finds theirs too. The foreground then
    confines no layer: ``& Objects()`` does.

    Args:
        min_object: Least share of object in the box, in [0, 1).
        min_overlap: Least share of the object laid down that lies on the object, in [0, 1).
    """

    min_object: float = 0.7
    min_overlap: float = 0.25

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("min_object", "min_overlap"):
            value = checks.probability(name, getattr(self, name))
            if value == 1.0:
                raise ValueError(f"{name}: expected less than 1, which no patch is above, got 1")

    def columns(self, channels: int) -> dict[str, int]:
        """A rectangle's, then what it seeks its place with, and the box it has in the source."""
        seeking = ("placed", "reach_y", "reach_x", "scale", "key")
        return super().columns(channels) | dict.fromkeys(seeking + _FROM, 1)

    def sample(self, context: Context) -> Values:
        """Draw the size, and a box that no content has decided on."""
        mask, seeking = self._drawn(context)
        return mask | seeking | dict.fromkeys(("placed", *_FROM), np.zeros(context.batch))

    def seek(self, site: Site) -> Choice:
        """The first boxes that the content allows."""
        size: tuple[int, int] = site.size
        here, there = site.objects(), site.origin()
        if tuple(there.shape[1:]) != size:
            raise ValueError(
                f"donors: expected images of {size} pixels, like the batch, got "
                f"{tuple(there.shape[1:])}; make the DonorBank with size={size}"
            )
        words = site.words("key", TRIES, _WORDS)
        within = None if site.where is None else centres(site.where, size)
        reach = (site.column("reach_y"), site.column("reach_x"))
        halves = [each.to(torch.int64)[:, None] for each in reach]
        boxes = self.cut(words, (halves[0], halves[1]), size, within)
        held = above(counted(there, boxes), boxes.tall * boxes.wide, self.min_object)
        number, found = earliest(held)
        origin = boxes.at(number)
        wide_origin = Box(*(side[:, None] for side in origin))
        laid = self.laid(words, wide_origin, site.column("scale")[:, None], size, within)
        if self.shift:
            number, fits = self._overlapping(here, there, origin, laid)
            found = found & fits
            box = laid.at(number)
        else:
            box = Box(*(side[:, 0] for side in laid))
        mask = self.levels(box)
        values = (side.to(torch.float32) for side in origin)
        mask |= dict(zip(_FROM, values, strict=True))
        signs = tuple(torch.where(site.mirrored(name), -1.0, 1.0) for name in ("yy", "xx"))
        return Choice(mask, _affine(box, origin, signs), found & self.counts(box))

    def _overlapping(
        self, here: Tensor, there: Tensor, origin: Box, laid: Box
    ) -> tuple[Tensor, Tensor]:
        """Number of the first place that the object allows, ``[b]``, and whether there is one."""
        sides = Box(laid.top[:, 0] * 0, laid.left[:, 0] * 0, laid.tall[:, 0], laid.wide[:, 0])
        moved = shown(there, origin, sides)
        total = moved.sum((1, 2))
        held = above(total, sides.tall * sides.wide, self.min_object)
        if moved.device.type == "cpu":
            number, fits = first_overlap(here, moved, laid, total, self.min_overlap)
        else:
            number, fits = earliest(
                above(overlaps(here, moved, laid), total[:, None], self.min_overlap)
            )
        return number, fits & held

    def region(self, site: Site) -> Tensor:
        """Where the object is, in the image or in the patch."""
        origin, box = self.boxes(site)
        return site.objects() | shown(site.origin(), origin, box)

    def boxes(self, site: Site) -> tuple[Box, Box]:
        """The boxes of placed rows in the source and in the image, ``[b]``."""
        top, left, tall, wide = (site.column(name).to(torch.int64) for name in _FROM)
        sides = (2.0 * (site.column(name) + self.ring) for name in ("half_h", "half_w"))
        high, across = (side.to(torch.int64) for side in sides)
        first, start = (
            (site.column(name) - (side - 1) * 0.5).to(torch.int64)
            for name, side in (("cy", high), ("cx", across))
        )
        return Box(top, left, tall, wide), Box(first, start, high, across)


_FROM = ("from_y", "from_x", "from_h", "from_w")


def _affine(box: Box, origin: Box, signs: Sequence[Tensor]) -> dict[str, Tensor]:
    """Columns of the map from ``box`` to ``origin``, mirrored by signs, float32 ``[b]``."""
    columns: dict[str, Tensor] = {}
    for axis, (start, side, to, size) in enumerate(
        (
            (box.top, box.tall, origin.top, origin.tall),
            (box.left, box.wide, origin.left, origin.wide),
        )
    ):
        scale = signs[axis] * (size.to(torch.float32) / side.to(torch.float32))
        middle = start.to(torch.float32) + (side - 1).to(torch.float32) * 0.5
        target = to.to(torch.float32) + (size - 1).to(torch.float32) * 0.5
        name, own, other = ("y", "yy", "yx") if axis == 0 else ("x", "xx", "xy")
        columns |= {own: scale, other: scale * 0.0, f"{name}0": target - scale * middle}
    return columns
