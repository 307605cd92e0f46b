"""A pattern broken: one thread or line of it missing, extra, thinner or thicker.

How the pattern repeats is read off the image's autocorrelation: the nearest of its high peaks. The
threads are taken to lie across the repeat.
"""

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
from .components import foreground_of
from .working import columns, constants, edited, gathered, grid, reduction, shrunk, span

FAULTS = ("missing", "thinned", "thickened")

_KEY = 2
# The autocorrelation of a repeat, how far it is above that of half the shift, and how much higher a
# peak as far away as any must be than one at once.
_PEAK = 0.25
_FALL = 0.25
_FAR = 0.25
_AS_GOOD = 0.06
# How much wider or narrower a thread is looked up at its middle: nothing is folded over.
_THIN, _THICK = 1.1, -0.45


@part
@dataclass(frozen=True)
class Thread(Computed):
    """The image with one thread of its pattern broken.

    A missing thread shows the ground half a repeat beside it; where that is a thread and the place
    is ground, there is one too many. Lay it with ``masks.Everywhere()`` and
    ``label_rule="changed"``; an image without a repeat does not change.

    Args:
        fault: ``"missing"`` (or extra), ``"thinned"`` or ``"thickened"``.
        length: Range of the broken piece, a share of the image's shorter side.
        repeat: The pattern's repeat in pixels, (rows, columns), across the threads; None to
            estimate it in every image.
        tries: Places to choose from, 1 to 32: the one where most changes.
        visible: Least change that counts, in [0, 1]; lesser ones are taken back.
    """

    fault: str = "missing"
    length: float | Range = (0.15, 0.6)
    repeat: tuple[float, float] | None = None
    tries: int = 8
    visible: float = 0.04

    def __post_init__(self) -> None:
        checks.one_of("fault", self.fault, FAULTS)
        checks.probability("visible", self.visible)
        object.__setattr__(self, "length", checks.interval("length", self.length, 0.0, 4.0))
        if self.repeat is not None:
            repeat: Any = tuple(float(value) for value in self.repeat)
            if len(repeat) != 2 or not 2.0 <= float(np.hypot(*repeat)) < 1e4:
                raise ValueError(
                    f"repeat: expected (rows, columns) at least 2 pixels long, got {self.repeat!r}"
                )
            object.__setattr__(self, "repeat", repeat)
        if not isinstance(self.tries, int) or not 1 <= self.tries <= 32:
            raise ValueError(f"tries: expected an integer from 1 to 32, got {self.tries!r}")

    @property
    def words(self) -> int:
        """Length, two per place, then the key."""
        return 1 + 2 * self.tries + _KEY

    def columns(self, channels: int) -> dict[str, int]:
        """Key, half length and places in pixels."""
        places = {"half": 1, "cy": self.tries, "cx": self.tries}
        return super().columns(channels) | places

    def sample(self, context: Context) -> Values:
        """Draw the length and the places."""
        u = context.uniform(1 + 2 * self.tries)
        length: Any = self.length
        half = between(u[0], length) * min(context.height, context.width) / 2
        cy = u[1 : 1 + self.tries].T * (context.height - 1)
        cx = u[1 + self.tries :].T * (context.width - 1)
        if self.tries == 1:
            cy, cx = cy[:, 0], cx[:, 0]
        return {**super().sample(context), "half": half, "cy": cy, "cx": cx}

    def compute(self, scene: Scene) -> Tensor:
        """The images with a thread broken."""
        return edited(scene, lambda images, rows: self._edit(scene, images, rows), self.visible)

    def _edit(self, scene: Scene, images: Tensor, rows: Tensor) -> Tensor:
        law = columns(scene, rows, _KEY, 1 + 2 * self.tries)
        half, places = law[:, :1], law[:, 1:].view(-1, 2, self.tries)
        if self.repeat is None:
            repeat, found = repeats(images)
        else:
            repeat = constants([self.repeat], images.device).expand(len(images), 2)
            found = torch.ones_like(repeat[:, 0], dtype=torch.bool)
        foreground = foreground_of(scene, rows)
        best, most = images, torch.full_like(half[:, 0], -1.0)
        for n in range(self.tries):
            tried, here = self._broken(images, repeat, half, places[:, :, n])
            moved = (tried[here] - images[here]).abs().amax(1, keepdim=True)
            # Strong where it changes: long pieces win by no more than they are longer.
            score = (moved if foreground is None else moved * foreground[here]).sum((1, 2, 3))
            better = (score > most) & found
            best = torch.where(better[:, None, None, None], tried, best)
            most = torch.where(better, score, most)
        return best

    def _broken(
        self, images: Tensor, repeat: Tensor, half: Tensor, centre: Tensor
    ) -> tuple[Tensor, tuple[Any, ...]]:
        """One place broken, and the pixels outside of which nothing changes."""
        length = repeat.norm(dim=1)[:, None, None, None]
        way = repeat[:, :, None, None, None] / length[:, None]
        sides = way.abs()[:, :, 0, 0, 0] * length[:, :, 0, 0] * 0.5
        sides = sides + way.abs().flip(1)[:, :, 0, 0, 0] * half
        window = span(torch.cat([sides, centre], 1)[:, :, None])
        here = (..., *window)
        y, x = grid(images, window)
        dy, dx = y - centre[:, :1, None, None], x - centre[:, 1:, None, None]
        across, along = way[:, 0] * dy + way[:, 1] * dx, way[:, 0] * dx - way[:, 1] * dy
        inside = along.abs() <= half[:, :, None, None]
        if self.fault == "missing":
            # Whole pixels, so that what is shown is as sharp as the rest.
            step, inside = 0.5 * length, inside & (across.abs() <= 0.3 * length)
            sy = (torch.floor(step * way[:, 0] + 0.5) + y).expand_as(across)
            sx = (torch.floor(step * way[:, 1] + 0.5) + x).expand_as(across)
        else:
            taper = (1.0 - (2.0 * across / length).square()).clamp(min=0.0).square()
            step = across * taper * (_THIN if self.fault == "thinned" else _THICK)
            sy, sx = y + step * way[:, 0], x + step * way[:, 1]
        out = images.clone()
        out[here] = torch.where(inside, gathered(images, sy, sx), images[here])
        return out, here


def repeats(images: Tensor) -> tuple[Tensor, Tensor]:
    """How the patterns of images repeat.

    Args:
        images: float32 ``[R, C, H, W]`` in [0, 1].

    Returns:
        The shortest repeat of each in pixels (rows, columns), float32 ``[R, 2]``, and bool ``[R]``:
        whether there is one, of 3 pixels to a third of the image's shorter side.
    """
    factor = reduction(images, 256)
    small = shrunk(images, factor)
    height, width = small.shape[2:]
    size = (2 * height, 2 * width)
    values = small - small.mean((2, 3), keepdim=True)
    power = torch.fft.rfft2(values, s=size).abs().square().sum(1)
    likeness = torch.fft.irfft2(power, s=size)
    likeness = likeness / likeness[:, :1, :1].clamp(min=1e-6)
    # Fewer pixels meet under a longer shift.
    down, right = (torch.fft.fftfreq(2 * n, 0.5 / n, device=images.device) for n in (height, width))
    meeting = (1.0 - down.abs() / height).clamp(min=0.2)[:, None]
    likeness = likeness / (meeting * (1.0 - right.abs() / width).clamp(min=0.2))
    likeness = torch.fft.fftshift(likeness, dim=(1, 2))
    down, right = torch.fft.fftshift(down), torch.fft.fftshift(right)
    # Half a repeat away the pattern is another: a smooth image, or the way along a line, is not.
    halves = [torch.floor(d * 0.5).to(torch.int64) + len(d) // 2 for d in (down, right)]
    fall = likeness - likeness[:, halves[0]][:, :, halves[1]]
    down = down[:, None]
    distance = (down.square() + right.square()).sqrt()
    longest = min(height, width) / 3.0
    # A ridge has its crest across; on a lattice's peak that is one of the two.
    crest = [
        functional.max_pool2d(likeness[:, None], window, 1, (window[0] // 2, window[1] // 2))[:, 0]
        for window in ((1, 5), (5, 1))
    ]
    peak = likeness >= torch.where(right.abs() >= down.abs(), *crest)
    # One of each pair of opposite shifts.
    fine = (distance >= 3.0) & (distance <= longest) & ((right > 0) | ((right == 0) & (down > 0)))
    fine = fine & peak & (likeness > _PEAK) & (fall > _FALL)
    value = torch.where(fine, likeness - _FAR * distance / longest, -torch.inf).flatten(1)
    most = value.amax(1, keepdim=True)
    # The shortest of those as good as the best: straight across where lines are all alike.
    short = torch.where(value >= most - _AS_GOOD, distance.flatten(), torch.inf)
    best = short.argmin(1)
    repeat = torch.stack([down[best // size[1], 0], right[best % size[1]]], 1) * factor
    found = torch.isfinite(most[:, 0])
    return torch.where(found[:, None], repeat, 3.0), found
