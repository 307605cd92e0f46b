"""CDO: up to four boxes of white noise (Cao et al., IEEE TII 2023)."""

from __future__ import annotations

from typing import Any

from .. import blends, masks, sources
from ..binding import Layer
from ..synthesizer import Synthesizer
from . import method


@method(
    "cdo",
    family="inpainting",
    paper="Cao, Xu, Liu, Shen: CDO, IEEE TII 2023 (arXiv 2302.08769)",
    matches="the official code: 0 to 4 boxes with sides of 5 to 20 % of the image's, noise in them",
    deviations=(
        "sides may be odd; the code's are twice a whole number",
        "every grey level from 0 to 254 is drawn, the outermost two half as often",
        "the code keeps centres off the background of some objects: pass foreground= at the call",
        "the mask has no grey edges: the original resizes it bilinearly",
    ),
    defects=("contamination", "foreign object", "corrupted region"),
    surfaces=("texture", "object"),
)
def cdo(
    *,
    p: float = 1.0,
    count: int | tuple[int, int] = (0, 4),
    height: float | tuple[float, float] = (0.05, 0.2),
    width: float | tuple[float, float] = (0.05, 0.2),
    low: float = 0.0,
    high: float = 254 / 255,
    **common: Any,
) -> Synthesizer:
    """Boxes of white noise anywhere in the image; they may overlap.

    Args:
        p: P(anomalous) before samples without a box are counted as normal (one in five).
        count: Boxes, at most 4.
        height: Share of the image's height.
        width: Share of the image's width.
        low: Lower end of the noise in [0, 1].
        high: Upper end.
        common: Keywords of :class:`anoaug.Synthesizer`.
    """
    mask = masks.Rectangle(height=height, width=width, unit="share")
    layer = Layer(mask, sources.Noise(low, high), blends.Hard(), count=count)
    return Synthesizer(layer, p=p, **common)
