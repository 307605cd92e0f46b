"""FractalAD: a fractal shape filled with a turned patch of the image (Xia et al., 2023)."""

from __future__ import annotations

from typing import Any

from .. import blends, masks, sources
from ..binding import Layer
from ..synthesizer import Synthesizer
from . import method
from .cutpaste import jitter_of


@method(
    "fractal",
    family="self-contained",
    paper="Xia, Lv, He et al.: FractalAD, 2023 (arXiv 2301.12739)",
    matches=(
        "ASBench's code: a square of 10 to 50 % of the image's side, jittered by 0.2, mirrored or "
        "not, turned by 15 to 75 degrees, under the attractor of two random affine maps"
    ),
    deviations=(
        "the shape turns with the patch and keeps its corners; in the code the patch is turned "
        "under an upright shape and both lose them",
        "one kind of colour jitter; the code has three, of which two are much stronger",
        "the patch may come from the image's outermost tenth",
        "no Gaussian noise is added in half of the samples",
        "the mask is what was pasted; the code's is three pixels wider all round",
        "the jitter of the whole image is left to normal_transform=",
    ),
    defects=("crack", "stain", "corrosion", "broken pattern"),
    surfaces=("texture", "object"),
)
def fractal(
    *,
    p: float = 0.5,
    side: float | tuple[float, float] = (0.1, 0.5),
    rotation: float | tuple[float, float] = (15.0, 75.0),
    margin: float = 0.1,
    jitter: float = 0.2,
    **common: Any,
) -> Synthesizer:
    """A fractal shape filled with a turned, colour-jittered patch of the image.

    Args:
        p: P(anomalous).
        side: Share of the image's shorter side.
        rotation: Degrees.
        margin: Share of the sides that the patch's new place leaves free at every edge.
        jitter: Strength of the colour jitter; 0 for none.
        common: Keywords of :class:`anoaug.Synthesizer`.
    """
    mask = masks.Fractal(side, rotation, margin)
    source = sources.Own(photometric=jitter_of(jitter), mirror=True)
    return Synthesizer(Layer(mask, source, blends.Hard()), p=p, **common)
