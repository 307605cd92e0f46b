"""Masks on a grid: what methods hide so that a network learns to fill it in."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from .. import checks
from ..parts import Context, Frame, Values, part
from ..placing import Range, between
from ..wanted import instead
from .expressions import MaskPart


@part
@dataclass(frozen=True)
class Cells(MaskPart):
    """Some of the square cells of a grid over the image, chosen anew for each sample.

    The cells are dealt out to ``n`` disjoint sets of equal size (one more or less where they do not
    divide), every way of dealing as likely as any other; one set is the mask. In a
    ``Synthesizer(..., views=n)`` view v hides set v, so that the n masks of an image are disjoint
    and cover it (RIAD); else one set is drawn. With ``share`` there are no sets: that share of the
    cells is the mask, to the cell (AMI-Net's and other tokens: ``share=(0, 1)``).

    The image's last cells are cut where sides do not divide. Levels are 1 and -1.

    Args:
        k: Side of a cell in pixels, or several of which each sample draws one.
        n: Number of sets, 2 or more.
        share: Share of the cells instead, a number or a range in [0, 1].
    """

    k: int | tuple[int, ...] = (2, 4, 8, 16)
    n: int = 3
    share: float | Range | None = None

    function: ClassVar[str] = "cells"

    @property
    def controls(self) -> tuple[str, ...]:
        """The share, to the cell; sets have a size of their own."""
        return () if self.share is None else ("size",)

    def __post_init__(self) -> None:
        sides = (self.k,) if isinstance(self.k, int) else tuple(self.k)
        if not sides or not all(isinstance(k, int) and 1 <= k <= 4096 for k in sides):
            raise ValueError(
                f"k: expected whole pixels from 1 to 4096, one or several, got {self.k!r}"
            )
        object.__setattr__(self, "k", sides)
        if not isinstance(self.n, int) or self.n < 2:
            raise ValueError(f"n: expected 2 sets or more, got {self.n!r}; share= needs no sets")
        if self.share is not None:
            object.__setattr__(self, "share", checks.interval("share", self.share, 0.0, 1.0))

    @property
    def words(self) -> int:
        """Side, set or share, two keys."""
        return 4

    def columns(self, channels: int) -> dict[str, int]:
        """1 / side, cells in a row of the grid, cells, first place, last (excluded), two keys."""
        return dict.fromkeys(("scale", "across", "count", "first", "last", "key", "coin"), 1)

    def sample(self, context: Context) -> Values:
        """Draw side, set and keys."""
        u = context.uniform(2)
        key, coin = context.words(2, 2)
        sides = np.asarray(self.k, np.int64)
        side = sides[np.floor(u[0] * len(sides)).astype(np.int64)]
        across = -(-context.width // side)
        count = across * -(-context.height // side)
        if self.share is not None:
            first = np.zeros_like(count)
            share = between(u[1], self.share)  # type: ignore[arg-type]
            cells = np.floor(share * count)
            if context.wanted is not None:
                cells = instead(cells, np.floor(context.wanted.size * count + 0.5))
            last = cells.astype(np.int64)
        else:
            chosen = self._set(context, np.floor(u[1] * self.n).astype(np.int64))
            first, last = count * chosen // self.n, count * (chosen + 1) // self.n
        return {
            "scale": 1.0 / side, "across": across, "count": count, "first": first, "last": last,
            "key": key, "coin": coin,
        }  # fmt: skip

    def _set(self, context: Context, drawn: np.ndarray) -> np.ndarray:
        if context.view is None:
            return drawn
        if context.views != self.n:
            raise ValueError(
                f"views: expected {self.n}, one for each set of Cells, got {context.views}; make "
                "them the same"
            )
        return context.view


@part
@dataclass(frozen=True)
class Patch(MaskPart):
    """One square patch of a random window of patches (InTra).

    The image is a grid of patches from its upper left corner on; what is left over at the other
    edges belongs to none. A window of ``window`` x ``window`` patches, or as many as there are,
    lies anywhere on the grid, and any of its patches is the mask. The level is the distance to the
    patch's edge in pixels.

    Args:
        side: Side of a patch in pixels; at most the image's shorter one is taken.
        window: Patches along a side of the window, 1 or more.
    """

    side: int = 16
    window: int = 7

    function: ClassVar[str] = "rectangle"
    frames: ClassVar[bool] = True

    def __post_init__(self) -> None:
        for name, value in (("side", self.side), ("window", self.window)):
            if not isinstance(value, int) or value < 1:
                raise ValueError(f"{name}: expected a whole number, 1 or more, got {value!r}")

    @property
    def words(self) -> int:
        """Row and column of the window, of the patch in it."""
        return 4

    def columns(self, channels: int) -> dict[str, int]:
        """Those of a rectangle; then, for who cuts it out, the window in pixels."""
        box = ("cy", "cx", "cos", "sin", "half_h", "half_w")
        return dict.fromkeys((*box, "top", "left", "height", "width"), 1)

    def sample(self, context: Context) -> Values:
        """Draw window and patch; sets the layer's frame."""
        u = context.uniform(4)
        side = min(self.side, context.height, context.width)
        first, sides, centre = [], [], []
        for axis, size in enumerate((context.height, context.width)):
            patches = size // side
            window = min(self.window, patches)
            start = np.floor(u[axis] * (patches - window + 1))
            first.append(start * side)
            sides.append(np.full(context.batch, float(window * side)))
            centre.append((start + np.floor(u[2 + axis] * window) + 0.5) * side - 0.5)
        half, none = np.full(context.batch, side / 2), np.zeros(context.batch)
        context.frame = Frame(centre[0], centre[1], half, half, none)
        return {
            "cy": centre[0], "cx": centre[1], "cos": np.ones(context.batch), "sin": none,
            "half_h": half, "half_w": half,
            "top": first[0], "left": first[1], "height": sides[0], "width": sides[1],
        }  # fmt: skip
