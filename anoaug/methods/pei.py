"""Pei 2023: a patch of the object, changed, laid on the object."""

from __future__ import annotations

import functools
from typing import Any

import torch

from .. import blends, masks, sources
from ..banks import ShapeBank
from ..binding import Layer
from ..foregrounds import ForegroundLike
from ..photometric import ColorJitter
from ..synthesizer import Synthesizer
from . import method

Range = tuple[float, float]


@functools.lru_cache(maxsize=1)
def _boxes() -> ShapeBank:
    """One square: stretched it is any rectangle."""
    square = torch.ones(1, 1, 8, 8, dtype=torch.float32, device="cpu")
    return ShapeBank.from_masks(square, size=64, kinds=["box"])


@method(
    "pei",
    family="self-contained",
    paper=(
        "Pei, Liu, Zhao, Sun: Self-supervised learning for industrial image anomaly detection by "
        "simulating anomalous samples, IJCIS 16, 2023 (doi 10.1007/s44196-023-00328-0)"
    ),
    matches=(
        "the abstract, in which a patch is cut from the object, changed in geometry and colour, "
        "and laid on the object; there is no code, and the ranges are CutPaste's, not the paper's"
    ),
    deviations=(
        "ranges and the list of changes are ours: turned, mirrored, colour-jittered",
        "what the patch shows of the background is left out, and so is what would lie beyond the "
        "object",
        "the object is found by Otsu's threshold unless foreground= says how",
    ),
    defects=("misplaced part", "broken pattern", "misprint", "contamination"),
    surfaces=("object",),
)
def pei(
    *,
    p: float = 0.5,
    foreground: ForegroundLike | None = "otsu",
    area: float | Range = (0.02, 0.15),
    aspect: float | Range = (0.3, 1 / 0.3),
    rotation: float | Range = (-45.0, 45.0),
    mirror: bool = True,
    jitter: float = 0.3,
    hue: float = 0.1,
    **common: Any,
) -> Synthesizer:
    """A rectangle about a pixel of the object, changed and laid about another pixel of it.

    Args:
        p: P(anomalous).
        foreground: Finds the object, as of :class:`anoaug.Synthesizer`; None: every call brings it.
        area: Share of the image that the rectangle covers, before it is cut to the object.
        aspect: Width / height, log-uniform.
        rotation: Of the patch against the place it comes from, in degrees.
        mirror: Whether the patch is mirrored, along each axis half of the time.
        jitter: Strength of the change of brightness, contrast and saturation; 0 for none.
        hue: Strength of the change of hue; 0 for none.
        common: Keywords of :class:`anoaug.Synthesizer`.
    """
    box = masks.ObjectShape(
        _boxes(), size=area, of="box", aspect=aspect, rotation=rotation, elastic=0.0
    )
    colour = ColorJitter(jitter, jitter, jitter, hue) if jitter or hue else None
    source = sources.Own(photometric=colour, mirror=mirror)
    layer = Layer(box & masks.Objects(), source, blends.Hard())
    return Synthesizer(layer, p=p, foreground=foreground, **common)
