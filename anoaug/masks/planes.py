"""Masks that are read from tensors, one plane per sample, which a call is given."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import torch
from torch import Tensor

from .. import checks
from ..parts import Context, Values, part
from ..placing import Range, between
from .expressions import MaskPart


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

    @property
    def reading(self) -> tuple[Any, ...]:
        """What is made of the tensor; parts with the same share a slot."""
        return (self.name,)

    def plain(self) -> Given:
        """The part as laws hold it: without what is no plain data."""
        return self

    def read(self, value: Any, images: Tensor) -> Tensor:
        """The tensor as the render gets it, ``[B, 1, H, W]``.

        Raises:
            TypeError, ValueError: It does not fit the images.
        """
        return checks.plane(self.name, value, images)


@part
@dataclass(frozen=True)
class Foreground(Given):
    """The object, ``synth(images, foreground=tensor)``, at one place of a mask expression.

    Without this part, ``foreground=`` confines every layer.
    """

    name: str = "foreground"


RULES = {"mean_sigma": 0.5, "quantile": 0.9, "threshold": 0.5}


@part
@dataclass(frozen=True)
class FromScore(Given):
    """Where a score is high: a mask that follows a detector, ``slots={"score": scores}``.

    For masks that adapt: those of an anomaly score (AMI-Net's mean + sigma), of a restoration's
    error from pass to pass (I3AD), or of a network's uncertainty. The threshold is found for each
    sample by itself, in float64, on the scores' device, and nothing waits for it. To draw
    *somewhere* in the region take its intersection with a random mask, ``Perlin() & FromScore()``.

    The mask is where the score is greater than the threshold: equal scores give an empty one, and
    the sample stays as it is. NaN is outside; with ``"mean_sigma"`` one NaN empties the mask.

    Args:
        name: Name under which the scores are passed: ``[B, 1, H, W]``, float or uint8.
        rule: ``"mean_sigma"`` (above the sample's mean by ``amount`` of its standard deviations),
            ``"quantile"`` (above the quantile ``amount`` in [0, 1]: of distinct scores the upper
            ``1 - amount``) or ``"threshold"`` (above ``amount``).
        amount: See there; None takes 0.5 (as AMI-Net, which counts each cluster of tokens by itself
            and equal scores in), then 0.9, then 0.5.
    """

    name: str = "score"
    rule: str = "mean_sigma"
    amount: float | None = None

    def __post_init__(self) -> None:
        checks.one_of("rule", self.rule, tuple(RULES))
        amount = RULES[self.rule] if self.amount is None else self.amount
        bounds = (0.0, 1.0) if self.rule == "quantile" else (-math.inf, math.inf)
        low, high = checks.interval("amount", amount, *bounds)
        if low != high:
            raise ValueError(f"amount: expected one number, got {self.amount!r}")
        object.__setattr__(self, "amount", low)

    @property
    def reading(self) -> tuple[Any, ...]:
        """The tensor above a threshold."""
        return self.name, self.rule, self.amount

    def read(self, value: Any, images: Tensor) -> Tensor:
        """The mask, uint8."""
        score = checks.plane(self.name, value, images)
        return (score > self.bound(score)).to(torch.uint8)

    def bound(self, score: Tensor) -> Tensor:
        """The threshold of each sample, float64 ``[B, 1, 1, 1]``."""
        flat = score.flatten(1).to(torch.float64)
        amount: float = self.amount  # type: ignore[assignment]
        if self.rule == "threshold":
            bound = torch.full_like(flat[:, :1], amount)
        elif self.rule == "mean_sigma":
            mean = flat.mean(1, keepdim=True)
            bound = mean + amount * (flat - mean).square().mean(1, keepdim=True).sqrt()
        else:
            left = math.ceil(amount * flat.shape[1] - 1e-9)  # so many stay outside
            bound = flat.sort(1).values[:, max(left, 1) - 1 : max(left, 1)]
            bound = bound if left else torch.full_like(bound, -math.inf)
        return bound[:, :, None, None]


@part
@dataclass(frozen=True)
class Superpixels(Given):
    """Random regions of a label map, ``slots={"superpixels": labels}`` (SMAI).

    Each label is inside by a chance of its own, and all its pixels with it. Pixels labelled below 0
    are outside, always.

    Args:
        name: Name under which the labels are passed: whole numbers ``[B, 1, H, W]`` below 2**22 of
            any dtype, such as :class:`anoaug.prepare.Superpixels` finds.
        share: Chance of a label to be inside: a number, or a range of which each sample draws one.
        of: Finds the labels of calls that bring none: called with the images, or with images and
            index if it has a parameter ``index``, as :class:`anoaug.prepare.CachedLabels` has.
    """

    name: str = "superpixels"
    share: float | Range = (0.1, 0.3)
    of: Callable[..., Tensor] | None = None

    function: ClassVar[str] = "regions"
    shifts: ClassVar[tuple[str, int] | None] = ("share", 1)

    def __post_init__(self) -> None:
        object.__setattr__(self, "share", checks.interval("share", self.share, 0.0, 1.0))
        if self.of is not None and (not callable(self.of) or isinstance(self.of, type)):
            raise TypeError(
                f"of: expected a callable on images such as anoaug.prepare.Superpixels(), got "
                f"{self.of!r}; labels go to the call, slots={{{self.name!r}: labels}}"
            )

    @property
    def words(self) -> int:
        """Share, key."""
        return 2

    @property
    def reading(self) -> tuple[Any, ...]:
        """The tensor as labels, and who finds it."""
        return self.name, "labels", self.of

    def plain(self) -> Superpixels:
        """The part without what finds its labels."""
        return replace(self, of=None)

    def columns(self, channels: int) -> dict[str, int]:
        """Key and chance of labels."""
        return dict.fromkeys(("key", "share"), 1)

    def sample(self, context: Context) -> Values:
        """Draw the chance and the key."""
        share = between(context.uniform(1)[0], self.share)  # type: ignore[arg-type]
        return {"key": context.words(1, 1)[0], "share": share}

    def read(self, value: Any, images: Tensor) -> Tensor:
        """The labels, float32."""
        if isinstance(value, Tensor) and not value.dtype.is_floating_point:
            value = value.to(torch.float32)
        labels = checks.plane(self.name, value, images).to(torch.float32)
        return torch.nan_to_num(labels, nan=-1.0).round()
