"""What goes wrong in printing: marks faded, printed twice, smeared, or off in one colour."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from ... import checks
from ...parts import Context, Values, part
from ...pictures import Computed, Scene
from ...placing import Range, between
from .working import columns, edited, gathered, grid, reduction, shrunk

FAULTS = ("faded", "ghost", "smeared", "register")

_KEY = 2
_LAW = ("strength", "dy", "dx", "channel")
# Colours this far from the usual ones of a place count half as the ground's.
_MARK = 0.06
_GREY = 4 / 255  # greatest distance of a pixel's channels in an image without colours
_ROUNDS = 5
_TAIL = 8  # copies that a smear is made of


@dataclass(frozen=True)
class _Fault:
    """What one fault is by default: strength, and distance as a share of the shorter side."""

    strength: Range
    distance: Range


_DEFAULTS = {
    "faded": _Fault((0.5, 0.95), (0.0, 0.0)),
    "ghost": _Fault((0.35, 0.7), (0.015, 0.05)),
    "smeared": _Fault((0.8, 1.6), (0.04, 0.12)),
    "register": _Fault((1.0, 1.0), (0.01, 0.03)),
}


@part
@dataclass(frozen=True)
class Misprint(Computed):
    """The image as a fault of printing shows it; the mask says where.

    Marks are what differs from the ground, and the ground is the colour that is most common around
    a place. A faded mark goes towards the ground; a ghost is a second, weaker print beside the
    first; a smear is a tail that fades out; out of register, one channel lies beside the others (of
    an image without colours, in whatever channels: all of it).

    Args:
        fault: ``"faded"``, ``"ghost"``, ``"smeared"`` or ``"register"``.
        strength: Range of how much of the mark goes, or is added, 0 to 2; by default 0.5 to 0.95,
            0.35 to 0.7, 0.8 to 1.6 and 1.
        distance: Range of how far the ghost or the channel lies, or the tail reaches, a share of
            the image's shorter side; by default -, 0.015 to 0.05, 0.04 to 0.12 and 0.01 to 0.03.
        direction: Range of its direction in degrees from the image's columns to its rows.
        visible: Least change that counts, in [0, 1]; lesser ones are taken back.
    """

    fault: str = "ghost"
    strength: float | Range | None = None
    distance: float | Range | None = None
    direction: float | Range = (-180.0, 180.0)
    visible: float = 0.03

    def __post_init__(self) -> None:
        checks.probability("visible", self.visible)
        usual = _DEFAULTS[checks.one_of("fault", self.fault, FAULTS)]
        strength = usual.strength if self.strength is None else self.strength
        distance = usual.distance if self.distance is None else self.distance
        object.__setattr__(self, "strength", checks.interval("strength", strength, 0.0, 2.0))
        object.__setattr__(self, "distance", checks.interval("distance", distance, 0.0, 1.0))
        direction = checks.interval("direction", self.direction, -360.0, 360.0)
        object.__setattr__(self, "direction", direction)

    @property
    def words(self) -> int:
        """Strength, distance, direction, channel, then the key."""
        return len(_LAW) + _KEY

    def columns(self, channels: int) -> dict[str, int]:
        """Key, strength, shift in pixels, channel."""
        return super().columns(channels) | dict.fromkeys(_LAW, 1)

    def sample(self, context: Context) -> Values:
        """Draw strength, shift and channel."""
        u = context.uniform(len(_LAW))
        ranges: Any = (self.strength, self.distance, self.direction)
        strength, distance, direction = (between(u[k], ranges[k]) for k in range(3))
        pixels, way = distance * min(context.height, context.width), np.deg2rad(direction)
        drawn = {
            "strength": strength,
            "dy": pixels * np.sin(way),
            "dx": pixels * np.cos(way),
            "channel": np.floor(u[3] * context.channels),
        }
        return {**super().sample(context), **drawn}

    def compute(self, scene: Scene) -> Tensor:
        """The images misprinted all over."""
        return edited(scene, lambda images, rows: self._edit(scene, images, rows), self.visible)

    def _edit(self, scene: Scene, images: Tensor, rows: Tensor) -> Tensor:
        law = columns(scene, rows, _KEY, len(_LAW))[:, :, None, None, None].unbind(1)
        strength, dy, dx, channel = law
        y, x = grid(images)

        def printed(planes: Tensor, part: float = 1.0) -> Tensor:
            return gathered(planes, y - part * dy + 0.0 * x, x - part * dx + 0.0 * y)

        if self.fault == "register":
            number = torch.arange(images.shape[1], device=images.device)[:, None, None]
            # Black ink has no channel of its own: fringes of colour would give a grey print away.
            apart = images.amax(1, keepdim=True) - images.amin(1, keepdim=True)
            grey = apart.amax((2, 3), keepdim=True) <= _GREY
            return torch.where((number == channel) | grey, printed(images), images)
        marks = images - ground(images)
        if self.fault == "faded":
            return images - strength * marks
        if self.fault == "ghost":
            return images + strength * printed(marks)
        tail = torch.zeros_like(marks)
        for n in range(1, _TAIL + 1):
            tail += (_TAIL + 1 - n) * printed(marks, n / _TAIL)
        return images + strength * (2.0 / (_TAIL * (_TAIL + 1))) * tail


def ground(images: Tensor) -> Tensor:
    """The colours that are most common around each place, float32 ``[R, C, H, W]``."""
    usual = _around(images)
    for _ in range(_ROUNDS):  # each from colours that were less of marks
        weight = 1.0 / (1.0 + ((images - usual) / _MARK).square().amax(1, keepdim=True))
        usual = _around(images * weight.square()) / _around(weight.square()).clamp(min=1e-9)
    return usual


def _around(planes: Tensor) -> Tensor:
    """Means of about a sixth of the image around each pixel."""
    small = shrunk(planes, reduction(planes, 64))
    reach = max(max(small.shape[2:]) // 12, 1)
    for size, pad in (((2 * reach + 1, 1), (reach, 0)), ((1, 2 * reach + 1), (0, reach))):
        small = functional.avg_pool2d(small, size, 1, pad, count_include_pad=False)
    size = (planes.shape[2], planes.shape[3])
    return functional.interpolate(small, size, mode="bilinear", align_corners=False)
