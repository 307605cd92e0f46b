"""InTra: one patch of a window of patches hidden (Pirnay and Chai, ICIAP 2022)."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from .. import blends, masks, recipe, sources
from ..batch import AnomalyBatch
from ..binding import Layer
from ..synthesizer import Synthesizer
from . import method


@method(
    "intra",
    family="inpainting",
    mask="corruption",
    paper=(
        "Pirnay, Chai: InTra (Inpainting Transformer for Anomaly Detection), ICIAP 2022 "
        "(arXiv 2104.13897)"
    ),
    matches=(
        "patches of 16 pixels, a random window of 7 x 7 of them and in it one hidden patch, as in "
        "the paper and its port, which work at 320 x 320"
    ),
    deviations=(
        "whole images come back; anoaug.methods.intra.windows says where their windows are",
        "one window a row: give an image as often as windows are wanted (the port: 600 an epoch)",
        "the patch is of one colour; a token that is learned replaces it behind the embedding, "
        "where the mask says so",
        "flips, turns, noise and the like come from normal_transform=, or before the call",
    ),
    defects=("hidden region",),
    surfaces=("texture", "object"),
)
def intra(
    *,
    p: float = 1.0,
    side: int = 16,
    window: int = 7,
    value: float | tuple[float, ...] = 0.0,
    **common: Any,
) -> Synthesizer:
    """One patch of the image's grid of patches hidden, drawn within a random window.

    Args:
        p: P(hidden).
        side: Side of a patch in pixels.
        window: Patches along a side of the window.
        value: Colour in [0, 1]: a grey, a range from which channels draw, or one per channel.
        common: Keywords of :class:`anoaug.Synthesizer`.
    """
    layer = Layer(masks.Patch(side, window), sources.Constant(value), blends.Hard())
    return Synthesizer(layer, p=p, **common)


def windows(synth: Synthesizer, batch: AnomalyBatch) -> Tensor:
    """Where the windows of a batch are, int64 ``[B, 4]``: x0, y0, x1, y1 in pixels, ends excluded.

    On the batch's device, without waiting for it. All windows are of one size.

    Args:
        synth: The synthesizer that made the batch.
        batch: What it made.

    Raises:
        ValueError: The synthesizer has no masks.Patch.
    """
    columns = recipe.recipe(synth.laws(batch.image.shape[1])).columns
    if "layer0.mask.patch.top" not in columns:
        raise ValueError("synth: expected one with masks.Patch in its first layer, such as intra")
    box = [columns[f"layer0.mask.patch.{name}"][0] for name in ("top", "left", "height", "width")]
    top, left, height, width = (batch.params.table[:, at] for at in box)
    return torch.stack([left, top, left + width, top + height], 1).to(torch.int64)
