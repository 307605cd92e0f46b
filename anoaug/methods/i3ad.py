"""I3AD: random boxes hidden, then what an anomaly score says (Nakanishi et al., 2020)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from .. import blends, masks, sources
from ..batch import AnomalyBatch
from ..binding import Layer
from ..synthesizer import Synthesizer
from . import method


@method(
    "i3ad",
    family="inpainting",
    mask="corruption",
    paper=(
        "Nakanishi, Suzuki, Matsuo: I3AD (Iterative image inpainting with structural similarity "
        "mask for anomaly detection), submitted to ICLR 2021 "
        "(https://openreview.net/forum?id=b4ach0lGuYO)"
    ),
    matches=(
        "the paper's two kinds of mask: random boxes on normal images in training, and at test "
        "what its anomaly score says, again and again (adaptive=True, anoaug.methods.i3ad.refined)"
    ),
    deviations=(
        "number and sides of the boxes are ours: no code is known, the paper's were not at hand",
        "the score is yours to give: the paper's is a structural dissimilarity of image and "
        "restoration; the rule that thresholds it is ours",
    ),
    defects=("hidden region",),
    surfaces=("texture", "object"),
)
def i3ad(
    *,
    p: float = 1.0,
    count: int | tuple[int, int] = (1, 4),
    height: float | tuple[float, float] = (0.05, 0.3),
    width: float | tuple[float, float] = (0.05, 0.3),
    value: float | tuple[float, ...] = 0.0,
    adaptive: bool = False,
    rule: str = "mean_sigma",
    amount: float | None = 1.0,
    **common: Any,
) -> Synthesizer:
    """Random boxes hidden; with ``adaptive`` what a score given at the call says.

    Args:
        p: P(hidden).
        count: Number of boxes, at most 4.
        height: Share of the image's height.
        width: Share of the image's width.
        value: Colour in [0, 1]: a grey, a range from which channels draw, or one per channel.
        adaptive: Hide what ``slots={"score": tensor}`` says; see :class:`anoaug.masks.FromScore`,
            likewise the next two. The boxes are not used.
        rule: How the score is thresholded.
        amount: Of the rule.
        common: Keywords of :class:`anoaug.Synthesizer`.
    """
    where: masks.Mask = masks.Rectangle(height=height, width=width, unit="share")
    if adaptive:
        where, count = masks.FromScore(rule=rule, amount=amount), 1
    layer = Layer(where, sources.Constant(value), blends.Hard(), count=count)
    return Synthesizer(layer, p=p, **common)


def refined(
    synth: Synthesizer,
    images: Tensor,
    restored: Tensor,
    inpaint: Callable[[Tensor, Tensor], Tensor],
    score: Callable[[Tensor, Tensor], Tensor],
    passes: int = 5,
) -> tuple[AnomalyBatch, Tensor]:
    """Hide what scores high, fill it in, score again: I3AD's iteration.

    Args:
        synth: A synthesizer whose mask is a :class:`anoaug.masks.FromScore` called ``"score"``,
            such as ``create("i3ad", adaptive=True, active="always")``.
        images: ``(B, C, H, W)`` as for its call.
        restored: A first restoration of the images, like them; what ``inpaint`` made of the views
            of ``riad``, for example.
        inpaint: From images with hidden pixels and the mask ``(B, 1, H, W)`` to images without.
        score: From images and restoration to scores ``(B, 1, H, W)``, high where they differ.
        passes: How often, 1 or more.

    Returns:
        The last batch, whose mask is the last one, and the last restoration: the images where
        nothing was hidden.

    Raises:
        ValueError: No pass.
    """
    if passes < 1:
        raise ValueError(f"passes: expected 1 or more, got {passes!r}")
    for turn in range(passes):
        scores = score(images, restored)
        batch = synth(images, index=range(len(images)), epoch=turn, slots={"score": scores})
        made = inpaint(batch.image, batch.mask)
        restored = torch.where(batch.mask > 0, made.to(images.dtype), images)
    return batch, restored
