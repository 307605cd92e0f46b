"""Noise fill: a rectangle of white noise, as in Random Erasing (Zhong et al., AAAI 2020)."""

from __future__ import annotations

from typing import Any

from .. import blends, masks, sources
from ..binding import Layer
from ..synthesizer import Synthesizer
from . import method


@method(
    "noise_fill",
    family="inpainting",
    paper="Zhong, Zheng, Kang, Li, Yang: Random Erasing, AAAI 2020 (arXiv 1708.04896)",
    matches=(
        "the paper's ranges, with random values per pixel; as an anomaly it is the plain case of "
        "noise in an occluded region that surveys of anomaly synthesis name"
    ),
    deviations=(
        "the aspect is log-uniform, the paper's linear, which favours boxes on one of the sides",
        "a box that does not fit is cut to the image's sides; the paper draws again",
        "a mask is returned: the filled box",
    ),
    defects=("contamination", "occlusion", "corrupted region"),
    surfaces=("texture", "object"),
)
def noise_fill(
    *,
    p: float = 0.5,
    area: float | tuple[float, float] = (0.02, 0.4),
    aspect: float | tuple[float, float] = (0.3, 1 / 0.3),
    rotation: float | tuple[float, float] = 0.0,
    low: float = 0.0,
    high: float = 1.0,
    law: str = "uniform",
    **common: Any,
) -> Synthesizer:
    """A rectangle of white noise.

    Args:
        p: P(anomalous).
        area: Share of the image.
        aspect: Width / height.
        rotation: Degrees.
        low: Lower end of the noise in [0, 1]; for ``law="gaussian"`` its mean.
        high: Upper end; for ``law="gaussian"`` its standard deviation.
        law: ``"uniform"`` or ``"gaussian"``.
        common: Keywords of :class:`anoaug.Synthesizer`.
    """
    mask = masks.Rectangle(area=area, aspect=aspect, rotation=rotation)
    source = sources.Noise(low, high, law)
    return Synthesizer(Layer(mask, source, blends.Hard()), p=p, **common)
