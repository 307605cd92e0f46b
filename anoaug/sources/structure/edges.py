"""Chips: bites out of an object's edge, through which the background shows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from ... import checks
from ...parts import Context, Values, part
from ...pictures import Computed, Scene
from ...placing import Range, between
from ...prepare import closing, dilation, erosion, opening
from ...rng import lattice_hash, uniform
from .components import foreground_of
from .filling import best_shift
from .working import columns, edited, grid, share, shifted

_KEY = 2
_DISCS = 4
# Specks and holes up to so wide, as a share of the shorter side, have no outline that breaks.
_GRAIN = 0.03


@part
@dataclass(frozen=True)
class Chip(Computed):
    """The image with a bite taken out of its object's edge.

    The bite is the union of four discs about a point of the outline, as far as it lies in the
    object. It shows background from another place of the image, in the colour of the background
    next to it. Needs ``foreground`` at the call; where that is empty, or all of the image, nothing
    changes. Lay it with ``masks.Everywhere()`` and ``label_rule="changed"``.

    Args:
        side: Range of the bite's diameter, a share of the image's shorter side.
        visible: Least change that counts, in [0, 1]; lesser ones are taken back.
    """

    # What confines it is the object that it bites.
    confined: ClassVar[bool] = False

    side: float | Range = (0.06, 0.18)
    visible: float = 0.04

    def __post_init__(self) -> None:
        object.__setattr__(self, "side", checks.interval("side", self.side, 0.0, 1.0))
        checks.probability("visible", self.visible)

    @property
    def words(self) -> int:
        """Diameter, three per disc, then the key."""
        return 1 + 3 * _DISCS + _KEY

    def columns(self, channels: int) -> dict[str, int]:
        """Key, and the discs' radii and places about the point, in pixels."""
        return super().columns(channels) | dict.fromkeys(("radius", "dy", "dx"), _DISCS)

    def sample(self, context: Context) -> Values:
        """Draw the discs."""
        u = context.uniform(1 + 3 * _DISCS)
        side: Any = self.side
        half = between(u[0], side) * min(context.height, context.width) / 2
        share, far, way = u[1:].reshape(3, _DISCS, -1)
        radius = half * (0.35 + 0.4 * share)
        angle = 2.0 * np.pi * way
        offset = (half - radius) * np.sqrt(far)
        discs = {"radius": radius, "dy": offset * np.sin(angle), "dx": offset * np.cos(angle)}
        return {**super().sample(context), **{name: value.T for name, value in discs.items()}}

    def compute(self, scene: Scene) -> Tensor:
        """The chipped images.

        Raises:
            ValueError: The call brought no foreground.
        """
        return edited(scene, lambda images, rows: self._edit(scene, images, rows), self.visible)

    def _edit(self, scene: Scene, images: Tensor, rows: Tensor) -> Tensor:
        thing = foreground_of(scene, rows)
        if thing is None:
            raise ValueError(
                "foreground: a chip needs it; pass foreground= (B, 1, H, W) at the call"
            )
        inside = thing.to(torch.uint8)
        solid = _solid(inside)
        centre, found = _on_outline(inside, solid, self._keys(scene, rows))
        # What a threshold has left out within the object breaks off with it.
        inside = torch.maximum(inside, solid)
        law = columns(scene, rows, _KEY, 3 * _DISCS).view(-1, 3, _DISCS, 1, 1).unbind(1)
        radius, dy, dx = law
        y, x = grid(images)
        away_y, away_x = y - centre[:, :1, None, None] - dy, x - centre[:, 1:, None, None] - dx
        bite = (away_y.square() + away_x.square() <= radius.square()).any(1, keepdim=True)
        region = bite.to(torch.uint8) * inside * found[:, None, None, None]
        beside = (dilation(region, 13) * (1 - inside)).to(torch.float32)
        shift, fits = best_shift(images, region, barred=inside)
        texture, colour = shifted(images, shift), share(beside, images)
        back = torch.where(
            fits[:, None, None, None], texture + (colour - share(beside, texture)), colour
        )
        # The camera's blur, on the object's side alone.
        weight = functional.avg_pool2d(region.float(), 3, 1, 1) * thing
        weight = torch.maximum(weight, region.float())
        weight = weight * (beside.sum((2, 3), keepdim=True) > 0)
        return torch.where(weight > 0, weight * back + (1.0 - weight) * images, images)

    def _keys(self, scene: Scene, rows: Tensor) -> Tensor:
        return columns(scene, rows, 0, 1).contiguous().view(torch.int32).to(torch.int64)


def _solid(inside: Tensor) -> Tensor:
    """Objects without holes and specks, uint8 ``[R, 1, H, W]``; those at the edge go on beyond."""
    size = 2 * round(_GRAIN * min(inside.shape[2:]) / 2) + 1
    grown = functional.pad(inside.float(), (size,) * 4, mode="replicate").to(inside.dtype)
    filled = opening(closing(grown, size, "disc"), size, "disc")
    return filled[..., size:-size, size:-size]


def _on_outline(inside: Tensor, solid: Tensor, key: Tensor) -> tuple[Tensor, Tensor]:
    """A point of each outline, by random numbers of the pixels: float32 ``[R, 2]``; if any is.

    The outline is the object's own where it runs along that of what is solid.
    """
    outline = inside * (1 - erosion(inside, 3)) * (dilation(solid, 3) - erosion(solid, 3))
    # The image's own edge is no edge of the object.
    outline = functional.pad(outline[..., 1:-1, 1:-1], (1, 1, 1, 1))
    height, width = inside.shape[2:]
    iy = torch.arange(height, device=inside.device)[:, None]
    ix = torch.arange(width, device=inside.device)
    drawn = uniform(lattice_hash((key & 0xFFFFFFFF)[:, :, None], iy, ix))
    chance = torch.where(outline[:, 0] > 0, drawn + 1.0, 0.0).flatten(1)
    best = chance.argmax(1)
    place = torch.stack([best // width, best % width], 1).to(torch.float32)
    return place, chance.amax(1) > 0.0
