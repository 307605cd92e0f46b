"""SMAI: random superpixels hidden (Li et al., BMVC 2020)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor

from .. import blends, masks, prepare, sources
from ..binding import Layer
from ..synthesizer import Synthesizer
from . import method


@method(
    "smai",
    family="inpainting",
    mask="corruption",
    paper=(
        "Li, Li, Jiang et al.: SMAI (Superpixel Masking and Inpainting for Self-Supervised Anomaly "
        "Detection), BMVC 2020 (https://www.bmvc2020-conference.com/assets/papers/0275.pdf)"
    ),
    matches="the paper's idea: superpixels of the image, of which random ones are hidden",
    deviations=(
        "how many there are and what share of them is hidden is ours: no code is known, and the "
        "paper's numbers were not at hand",
        "superpixels are SLIC's, on luminance and colour differences in place of CIELAB; see "
        "anoaug.prepare.Superpixels",
        "each is hidden by a chance of its own, so that their number varies; where none is the "
        "image stays as it is",
    ),
    defects=("hidden region",),
    surfaces=("texture", "object"),
)
def smai(
    *,
    p: float = 1.0,
    count: int = 200,
    share: float | tuple[float, float] = (0.1, 0.3),
    superpixels: Callable[..., Tensor] | None = None,
    value: float | tuple[float, ...] = 0.0,
    **common: Any,
) -> Synthesizer:
    """Random superpixels of the image hidden.

    They are found on the images' device in every call that does not bring them as
    ``slots={"superpixels": labels}``. An :class:`anoaug.prepare.CachedLabels` finds them once.

    Args:
        p: P(hidden).
        count: Superpixels to aim at.
        share: Chance of a superpixel to be hidden; of a range each image draws one.
        superpixels: Finds the labels: a callable on images, or on images and ``index``. None takes
            :class:`anoaug.prepare.Superpixels` with ``count``.
        value: Colour in [0, 1]: a grey, a range from which channels draw, or one per channel.
        common: Keywords of :class:`anoaug.Synthesizer`.
    """
    found = prepare.Superpixels(count) if superpixels is None else superpixels
    mask = masks.Superpixels(share=share, of=found)
    return Synthesizer(Layer(mask, sources.Constant(value), blends.Hard()), p=p, **common)
