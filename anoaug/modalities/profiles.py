"""Masks made of a finished mask: a ramp from its edge inwards, and its spread beyond the edge.

For modalities in which an anomaly has a profile: a dent is deepest in the middle, heat reaches
beyond its spot. Both count pixels in integers, so that every device gives the same bits, and both
are 1 where they are greatest, however small the mask.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from .. import checks
from ..masks.expressions import MaskPart
from ..parts import Context, Values, part
from ..placing import Range, between

# Six sums of (2 * 500 + 1) pixels stay below 2**63, and distances are looked for pixel by pixel.
MOST = {"spread": 500.0, "width": 128.0}

_library = torch.library.Library("anoaug", "FRAGMENT")
_library.define("ramp(Tensor mask, Tensor width, int most) -> Tensor")
_library.define("spread(Tensor mask, Tensor radius) -> Tensor")


class Profile(MaskPart):
    """Base of masks whose level, in (0, 1], is computed from a finished mask."""

    function: ClassVar[str] = "given"

    @property
    def words(self) -> int:
        """One: the length in pixels."""
        return 1

    def columns(self, channels: int) -> dict[str, int]:
        """The length in pixels."""
        return {"pixels": 1}

    def level(self, mask: Tensor, column: Tensor) -> Tensor:
        """The level plus a half, as ``masks.Given`` takes it.

        Args:
            mask: uint8 ``[B, 1, H, W]``, inside where not 0.
            column: float32 ``[B]``, the table's column.

        Returns:
            float32 ``[B, 1, H, W]`` in [0.5, 1.5]; 0.5 is outside.
        """
        raise NotImplementedError(f"{type(self).__name__}: expected a method level, got none")


@part
@dataclass(frozen=True)
class Ramp(Profile):
    """From 0 at the mask's edge to 1 at ``width`` pixels inside, smoothly (3 t^2 - 2 t^3).

    The distance is Euclid's, to the nearest pixel outside; the image's border is no edge. Where the
    mask is too thin for the whole ramp, the ramp is stretched to 1 at the deepest pixel.

    Args:
        width: Pixels, a number or a range in [1, 128]; 1 is the mask itself.
    """

    width: float | Range = (3.0, 10.0)

    def __post_init__(self) -> None:
        object.__setattr__(self, "width", checks.interval("width", self.width, 1, MOST["width"]))

    def sample(self, context: Context) -> Values:
        """Uniform in [low, high)."""
        return {"pixels": between(context.uniform(1)[0], self.width)}  # type: ignore[arg-type]

    def level(self, mask: Tensor, column: Tensor) -> Tensor:
        """The ramp plus a half."""
        return _ramp(mask, column, int(np.ceil(self.width[1])))  # type: ignore[index]


@part
@dataclass(frozen=True)
class Spread(Profile):
    """The mask diffused, as heat is, by three box means along each axis; 1 at its hottest.

    A spot becomes a Gaussian to within a tenth of its height, and ends three box radii, about
    ``3 * spread`` pixels, beyond the mask. No heat leaves through the image's border.

    Args:
        spread: Standard deviation in pixels, a number or a range in [0, 500]; rounded to what whole
            boxes give, ``sqrt(r * (r + 1))``.
    """

    spread: float | Range = (4.0, 12.0)

    def __post_init__(self) -> None:
        spread = checks.interval("spread", self.spread, 0.0, MOST["spread"])
        object.__setattr__(self, "spread", spread)

    def sample(self, context: Context) -> Values:
        """Uniform spread in [low, high), as the radius of the boxes."""
        spread = between(context.uniform(1)[0], self.spread)  # type: ignore[arg-type]
        return {"pixels": np.floor(np.sqrt(spread**2 + 0.25)).astype(np.int32)}

    def level(self, mask: Tensor, column: Tensor) -> Tensor:
        """The diffused mask plus a half."""
        return _spread(mask, column.contiguous().view(torch.int32))


# ---- the two planes ------------------------------------------------------------------------------


def _by_row(mask: Tensor, lengths: Tensor, field: Callable[..., Tensor], *more: int) -> Tensor:
    """``field`` of the rows with a mask on the CPU, of all elsewhere; plus a half."""
    inside = mask[:, 0] > 0
    level = torch.zeros(inside.shape, dtype=torch.float32, device=mask.device)
    if mask.device.type == "cpu":
        rows = inside.flatten(1).any(1).nonzero()[:, 0]  # host: the CPU's branch
        if len(rows):
            level[rows] = field(inside[rows], lengths[rows], *more)
    elif len(mask):
        level = field(inside, lengths, *more)
    return (level + 0.5)[:, None]


def _ramp_of(inside: Tensor, width: Tensor, most: int) -> Tensor:
    """float32 ``[B, H, W]`` in [0, 1] of bool ``[B, H, W]``."""
    far = most + 1
    down = torch.where(inside, far, 0).to(torch.int32)
    step = 1
    while step < far:  # distances along columns are sums of powers of two
        below = _shifted(down, 1, step, far), _shifted(down, 1, -step, far)
        down = torch.minimum(down, torch.minimum(*below) + step)
        step *= 2
    down = down.clamp(max=far) ** 2
    squared = down
    for step in range(1, far):
        beside = torch.minimum(_shifted(down, 2, step, far**2), _shifted(down, 2, -step, far**2))
        squared = torch.minimum(squared, beside + step * step)
    t = (squared.to(torch.float32).sqrt() / width.view(-1, 1, 1)).clamp(max=1.0)
    return _scaled(t * t * (3.0 - 2.0 * t))


def _shifted(values: Tensor, dim: int, step: int, fill: int) -> Tensor:
    """Values moved by ``step`` along an axis, ``fill`` where there are none."""
    kept = max(values.shape[dim] - abs(step), 0)
    room = torch.full_like(values, fill)
    if kept:
        start = values.narrow(dim, max(-step, 0), kept)
        room.narrow(dim, max(step, 0), kept).copy_(start)
    return room


def _spread_of(inside: Tensor, radius: Tensor) -> Tensor:
    """float32 ``[B, H, W]`` in [0, 1] of bool ``[B, H, W]``."""
    sums = inside.to(torch.int64)
    for dim in (1, 2):
        for _ in range(3):
            sums = _box(sums, radius.to(torch.int64).view(-1, 1, 1), dim)
    return _scaled(sums.to(torch.float64)).to(torch.float32)


def _box(values: Tensor, radius: Tensor, dim: int) -> Tensor:
    """Sums of ``2 * radius + 1`` values along an axis; the outermost go on beyond the border."""
    last = values.shape[dim] - 1
    total = values.cumsum(dim)
    shape = [1, 1, 1]
    shape[dim] = -1
    place = torch.arange(last + 1, device=values.device).view(shape)
    ends = values.narrow(dim, 0, 1), values.narrow(dim, last, 1)

    def up_to(end: Tensor) -> Tensor:
        held = end.clamp(0, last)
        known = total.gather(dim, held.expand(values.shape))
        return known + (end - held) * torch.where(end < 0, *ends)

    return up_to(place + radius) - up_to(place - radius - 1)


def _scaled(level: Tensor) -> Tensor:
    """Levels with 1 as the greatest of each row that has any."""
    greatest = level.flatten(1).amax(1).view(-1, 1, 1)
    return level / torch.where(greatest > 0, greatest, 1)


def _ramp_op(mask: Tensor, width: Tensor, most: int) -> Tensor:
    return _by_row(mask, width, _ramp_of, most)


def _spread_op(mask: Tensor, radius: Tensor) -> Tensor:
    return _by_row(mask, radius, _spread_of)


def _fake(mask: Tensor, lengths: Tensor, most: int = 0) -> Tensor:
    return mask.new_empty(mask.shape, dtype=torch.float32)


# Opaque to torch.compile, which would contract products and sums and round them otherwise.
for _name, _function in (("ramp", _ramp_op), ("spread", _spread_op)):
    _library.impl(_name, _function, "CompositeExplicitAutograd")
    torch.library.register_fake(f"anoaug::{_name}", _fake)

_ramp = torch.ops.anoaug.ramp.default
_spread = torch.ops.anoaug.spread.default
