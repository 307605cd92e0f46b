"""DSR, the image anomalies of its last stage: Perlin masks filled with one flat colour."""

from __future__ import annotations

from typing import Any

from .. import blends, masks, sources
from ..binding import Layer
from ..synthesizer import Synthesizer
from . import method


@method(
    "dsr_image",
    family="external",
    paper="Zavrtanik, Kristan, Skocaj: DSR, ECCV 2022 (arXiv 2208.01521)",
    matches=(
        "the official code's stage that trains the upsampling: DRAEM's mask and opacity, one "
        "random colour per image in place of a texture"
    ),
    deviations=(
        "the anomalies of the other stage are replaced codes in feature space, not images",
        "an empty mask makes the sample normal",
        "the normal image is not rotated: pass normal_transform= for the original's 30 %",
        "the noise is turned exactly instead of by resampling the finished field",
        "any image size: the original needs a multiple of the lattice",
    ),
    defects=("stain", "discolouration", "contamination"),
    surfaces=("texture", "object"),
)
def dsr_image(
    *,
    p: float = 0.5,
    log2_cells: tuple[int, int] = (0, 5),
    threshold: float | tuple[float, float] = 0.5,
    rotation: float | tuple[float, float] = (-90.0, 90.0),
    rotation_fill: str = "zero",
    opacity: float | tuple[float, float] = (0.2, 1.0),
    colour: float | tuple[float, ...] = (0.0, 1.0),
    **common: Any,
) -> Synthesizer:
    """Perlin mask, one colour, one opacity per sample.

    Args:
        p: P(anomalous) before empty masks are counted as normal (about 5 % of them).
        log2_cells: See :class:`anoaug.masks.Perlin`, likewise the next three.
        threshold: Noise above it is anomalous.
        rotation: Degrees.
        rotation_fill: ``"zero"`` or ``"continue"``.
        opacity: Weight of the colour.
        colour: In [0, 1], see :class:`anoaug.sources.Constant`: by default each channel draws.
        common: Keywords of :class:`anoaug.Synthesizer`.
    """
    mask = masks.Perlin(log2_cells, threshold, rotation, rotation_fill)
    layer = Layer(mask, sources.Constant(colour), blends.Opacity(opacity))
    return Synthesizer(layer, p=p, **common)
