"""RIAD: the image hidden by thirds, to be filled in (Zavrtanik et al., 2021)."""

from __future__ import annotations

from typing import Any

from .. import blends, masks, sources
from ..binding import Layer
from ..synthesizer import Synthesizer
from . import method


@method(
    "riad",
    family="inpainting",
    mask="corruption",
    paper=(
        "Zavrtanik, Kristan, Skocaj: RIAD (Reconstruction by inpainting for visual anomaly "
        "detection), Pattern Recognition 112, 2021 (doi 10.1016/j.patcog.2020.107706)"
    ),
    matches=(
        "the common ports: cells of 2, 4, 8 or 16 pixels dealt out to three disjoint sets of equal "
        "size, three copies of each image with a third of its cells set to 0; the images come as "
        "3 B rows, copy by copy, and extras['source_row'] says which image a row shows"
    ),
    deviations=(
        "side and cells are drawn for each image; the ports draw them once for a batch",
        "0 is black in the image; where it is to be 0 after mean= and std=, pass value=mean",
        "sides that the cells do not divide are allowed: the last cells are cut",
    ),
    defects=("hidden region",),
    surfaces=("texture", "object"),
)
def riad(
    *,
    p: float = 1.0,
    k: int | tuple[int, ...] = (2, 4, 8, 16),
    n: int = 3,
    views: bool = True,
    value: float | tuple[float, ...] = 0.0,
    **common: Any,
) -> Synthesizer:
    """Each image ``n`` times, each time with another ``n``-th of its cells hidden.

    A network that fills in every row has filled in the whole image: with ``made`` its answers to
    ``batch.image``, ``(made * batch.mask).unflatten(0, (n, -1)).sum(0)`` is the image restored.

    Args:
        p: P(hidden) of an image; all its views are, or none.
        k: Side of a cell in pixels; of several each image draws one.
        n: Number of sets.
        views: Return ``n B`` rows, view by view; with False ``B`` rows, each with one of the sets.
        value: Colour in [0, 1]: a grey, a range from which channels draw, or one per channel.
        common: Keywords of :class:`anoaug.Synthesizer`.
    """
    layer = Layer(masks.Cells(k=k, n=n), sources.Constant(value), blends.Hard())
    return Synthesizer(layer, p=p, views=n if views else False, **common)
