"""Foreground: a rule, its settings and the morphology after it, as one callable that prints."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from .. import checks
from ..banks import imagefolder
from . import morphology, thresholds

RULES = ("all", "threshold", "otsu", "triangle", "background", "saliency")
_READS = {  # the settings each rule knows
    "all": (),
    "threshold": ("level", "polarity", "channel"),
    "otsu": ("polarity", "channel"),
    "triangle": ("polarity", "channel"),
    "background": ("level", "background", "median"),
    "saliency": ("level",),
}
_CHOICES = ("level", "polarity", "channel", "background", "median")


@dataclass(frozen=True)
class Foreground:
    """Where the object is, by one rule for all images: called on a batch, it gives its masks.

    Each image is judged by itself, on its device, without waiting for it: the same image has the
    same mask in any batch. An image in which nothing is found has an empty mask, and a synthesizer
    leaves it clean.

    Attributes:
        rule: ``"threshold"`` (a fixed grey level), ``"otsu"``, ``"triangle"``, ``"background"``
            (distance from its colour), ``"saliency"`` (spectral residual) or ``"all"`` (textures:
            everything is foreground).
        level: Of ``"threshold"``: grey level, 0 to 255. Of ``"background"``: distance in grey
            levels; None takes Otsu's level of the distances. Of ``"saliency"``: multiples of the
            map's mean; None is the paper's 3.
        polarity: ``"bright"``, ``"dark"``, or per image ``"auto"``: whichever holds at most half of
            the border. ``"auto"`` when None.
        channel: Threshold this channel instead of the grey value.
        background: Grey level (0 to 255), colour, or None for each image's own; see
            :func:`anoaug.prepare.distance`.
        median: Odd side of the median filter of ``"background"``; 7 when None.
        close: Side of the closing that comes first; 0 for none.
        open: Side of the opening that comes next; 0 for none.
        shape: Element of both: ``"square"`` or ``"disc"``.
        fill_holes: Fill holes last; see :func:`anoaug.prepare.fill_holes`.

    Raises:
        ValueError: Settings that do not exist, or that the rule does not read.

    Shape:
        images ``(B, C, H, W)`` uint8, uint16 or float in [0, 1] -> uint8 ``(B, 1, H, W)``, 0 or 1.

    Example:
        ::

            fg = anoaug.prepare.Foreground("otsu", close=3, open=3, fill_holes=True)
            batch = synth(images, foreground=fg(images))
    """

    rule: str = "otsu"
    level: float | None = None
    polarity: str | None = None
    channel: int | None = None
    background: float | tuple[float, ...] | None = None
    median: int | None = None
    close: int = 0
    open: int = 0
    shape: str = "square"
    fill_holes: bool = False

    def __post_init__(self) -> None:
        checks.one_of("rule", self.rule, RULES)
        for name in _CHOICES:
            if getattr(self, name) is not None and name not in _READS[self.rule]:
                raise ValueError(
                    f"{name}: expected none with rule {self.rule!r}, which reads "
                    f"{', '.join(_READS[self.rule]) or 'no setting'}, got {getattr(self, name)!r}"
                )
        if self.rule == "threshold" and self.level is None:
            raise ValueError("level: expected a grey level, 0 to 255, with rule 'threshold'")
        if self.level is not None:
            checks.interval("level", self.level, 0.0, 255.0)
        if self.polarity is not None:
            checks.one_of("polarity", self.polarity, thresholds.POLARITIES)
        if isinstance(self.background, (int, float)):
            checks.interval("background", self.background, 0.0, 255.0)
        elif self.background is not None:
            colour = checks.numbers("background", self.background) or ()
            for value in colour:
                checks.interval("background", value, 0.0, 255.0)
            object.__setattr__(self, "background", colour)
        if self.median is not None:
            morphology.odd("median", self.median)
        morphology.check(self.close, self.shape)
        morphology.check(self.open, self.shape)

    @torch.no_grad()
    def __call__(self, images: Tensor) -> Tensor:
        """Masks of a batch."""
        mask = self._raw(checks.images(images))
        mask = morphology.closing(mask, self.close, self.shape)
        mask = morphology.opening(mask, self.open, self.shape)
        return morphology.fill_holes(mask) if self.fill_holes else mask

    def _raw(self, images: Tensor) -> Tensor:
        polarity = self.polarity or "auto"
        if self.rule == "threshold":
            assert self.level is not None
            return thresholds.threshold(images, self.level, polarity, self.channel)
        if self.rule == "otsu":
            return thresholds.otsu(images, polarity, self.channel)
        if self.rule == "triangle":
            return thresholds.triangle(images, polarity, self.channel)
        if self.rule == "background":
            median = 7 if self.median is None else self.median
            return thresholds.background_distance(images, self.background, self.level, median)
        if self.rule == "saliency":
            return thresholds.saliency(images, 3.0 if self.level is None else self.level)
        shape = (len(images), 1, *images.shape[2:])
        return torch.ones(shape, dtype=torch.uint8, device=images.device)

    def __repr__(self) -> str:
        """The call that makes it, without the settings left alone."""
        told = [repr(self.rule)]
        for field in fields(self)[1:]:
            value: Any = getattr(self, field.name)
            if value != field.default:
                told.append(f"{field.name}={value!r}")
        return f"Foreground({', '.join(told)})"


def given(masks: Tensor, size: int | tuple[int, int]) -> Tensor:
    """Masks made elsewhere, brought to the images' size: any pixel they touch is foreground.

    Bilinear with anti-aliasing, then everything above 0, as GLASS does.

    Args:
        masks: ``(B, 1, h, w)`` or ``(B, h, w)``: bool, uint8 or float; above 0 is foreground.
        size: Side, or height and width.

    Returns:
        uint8 ``(B, 1, H, W)``.

    Raises:
        TypeError, ValueError: Not such masks.
    """
    height, width = imagefolder.pair(size)
    alone = isinstance(masks, Tensor) and masks.dim() == 3
    masks = checks.plane("masks", masks, masks.unsqueeze(1) if alone else masks)
    inside = (masks > 0).float()
    if len(masks) and masks.shape[2:] != (height, width):
        inside = functional.interpolate(inside, (height, width), mode="bilinear", antialias=True)
    return (inside > 0).to(torch.uint8)
