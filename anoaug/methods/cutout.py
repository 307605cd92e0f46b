"""Cutout: a square of one colour (DeVries and Taylor, 2017), as an anomaly."""

from __future__ import annotations

from typing import Any

from .. import blends, masks, sources
from ..binding import Layer
from ..synthesizer import Synthesizer
from . import method


@method(
    "cutout",
    family="inpainting",
    mask="corruption",
    paper="DeVries, Taylor: Cutout, 2017 (arXiv 1708.04552)",
    matches=(
        "ASBench's use of it as an anomaly: one black square of 20 to 50 pixels at 256, its centre "
        "any pixel, cut by the image's edge as in the paper, whose side for CIFAR-10 is 0.5"
    ),
    deviations=(
        "the paper masks after normalisation, so that its 0 is the mean colour: pass value=",
        "sides grow with the image and may be odd; the code works at 256 and on even ones",
    ),
    defects=("missing part", "hole", "burn mark", "occlusion"),
    surfaces=("texture", "object"),
)
def cutout(
    *,
    p: float = 0.5,
    side: float | tuple[float, float] = (20 / 256, 51 / 256),
    value: float | tuple[float, ...] = 0.0,
    place: str = "anywhere",
    **common: Any,
) -> Synthesizer:
    """A square of one colour.

    Args:
        p: P(anomalous).
        side: Share of the image's shorter side.
        value: Colour in [0, 1]: a grey, a range from which channels draw, or one per channel.
        place: ``"anywhere"`` or ``"inside"`` the image as a whole.
        common: Keywords of :class:`anoaug.Synthesizer`.
    """
    mask = masks.Rectangle(side=side, unit="share", place=place)
    return Synthesizer(Layer(mask, sources.Constant(value), blends.Hard()), p=p, **common)
