"""NSA's ellipses, which lie in a patch and go with it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from .. import checks
from ..parts import Context, Frame, Values, part
from .boxes import Box
from .content import Follower, Site


@part
@dataclass(frozen=True)
class Ellipses(Follower):
    """Ellipses strewn over a patch, cut from the source with it: ``CutPatch() & Ellipses()`` (NSA).

    Their centres are any pixels of the box in the source, their half axes from ``least`` to a
    quarter of the box's sides, and they are resized with it. The level is ``1 - r^2`` of the
    nearest one's unit disc. A ``sources.Poisson`` with ``region="box"`` takes gradients inside them
    alone, so that ``joined(CutPatch(), Ellipses(), (0, 0, 1))``, which is the whole box, shows all
    that it changes.

    Args:
        count: Ellipses, 1 to 16.
        least: Least half axis, a share of the image's sides.
        published: The published code's formula: it lacks a minus sign, so that what it draws is no
            turned ellipse but a sheared one, a band near 45 degrees.
    """

    count: int = 5
    least: float = 0.03
    published: bool = False

    function: ClassVar[str] = "ellipses"

    def __post_init__(self) -> None:
        if not isinstance(self.count, int) or not 1 <= self.count <= 16:
            raise ValueError(f"count: expected 1 to 16, got {self.count!r}")
        checks.interval("least", self.least, 0.0, 0.5)

    def option(self) -> int:
        """How many there are."""
        return self.count

    @property
    def words(self) -> int:
        """Of each: centre (two), half axes (two), angle."""
        return 5 * self.count

    def columns(self, channels: int) -> dict[str, int]:
        """Affine maps to unit discs; then centres, half axes and angles in the source."""
        return {"maps": 6 * self.count, "drawn": 6 * self.count}

    def sample(self, context: Context) -> Values:
        """Draw them in the layer's box."""
        if context.origin is None:
            raise ValueError("Ellipses: expected a CutPatch before it in the mask, got none")
        u = context.uniform(self.words).reshape(5, self.count, context.batch)
        axes = []
        for k, (side, half) in enumerate(
            ((context.height, context.origin.half_h), (context.width, context.origin.half_w))
        ):
            low = max(round(self.least * side), 1)
            high = np.maximum(low + 1, np.floor(half / 2))
            axes.append(low + np.floor(u[2 + k] * (high - low)))
        angle = np.pi * u[4]
        drawn = np.stack([u[0], u[1], *axes, np.cos(angle), np.sin(angle)], 2)
        drawn = drawn.transpose(1, 0, 2).reshape(context.batch, -1).astype(np.float32)
        boxes = (_box(context.origin), _box(context.frame))
        return {"maps": self._maps(torch.from_numpy(drawn), *boxes).numpy(), "drawn": drawn}

    def follow(self, site: Site, own: Any) -> dict[str, Tensor]:
        """The maps for the boxes that were found."""
        seeker: Any = site.placed.part
        drawn = site.columns_of(own, "drawn", 6 * self.count)
        return {"maps": self._maps(drawn, *seeker.boxes(site))}

    def _maps(self, drawn: Tensor, origin: Box, box: Box) -> Tensor:
        """float32 ``[b, 6 count]`` of what was drawn, likewise, for boxes ``[b]``."""
        at_y, at_x, half_y, half_x, cos, sin = drawn.view(len(drawn), -1, 6).unbind(2)
        steps, firsts = [], []
        for start, side, size, place in (
            (box.top, box.tall, origin.tall, at_y), (box.left, box.wide, origin.wide, at_x),
        ):  # fmt: skip
            size, start = size[:, None].to(torch.float32), start[:, None].to(torch.float32)
            step = size / side[:, None].clamp(min=1).to(torch.float32)
            steps.append(step)
            # The distance of image pixel 0 from the centre, in pixels of the source.
            firsts.append((0.5 - start) * step - 0.5 - torch.floor(place * size))
        (step_y, step_x), (first_y, first_x) = steps, firsts
        turned = sin if self.published else -sin
        return torch.stack(
            [
                cos * step_y / half_y, sin * step_x / half_y,
                (cos * first_y + sin * first_x) / half_y,
                turned * step_y / half_x, cos * step_x / half_x,
                (turned * first_y + cos * first_x) / half_x,
            ],
            2,
        ).flatten(1)  # fmt: skip


def _box(frame: Frame) -> Box:
    """A frame as boxes of whole pixels."""
    tall, wide = 2 * frame.half_h, 2 * frame.half_w
    sides = (frame.cy - (tall - 1) / 2, frame.cx - (wide - 1) / 2, tall, wide)
    return Box(*(torch.from_numpy(np.floor(side + 0.5).astype(np.int64)) for side in sides))
