"""FPI: a square of another image, mixed in at the same place (Tan et al., 2020)."""

from __future__ import annotations

from typing import Any

from .. import blends, masks, sources
from ..binding import Layer
from ..placing import Range
from ..synthesizer import Synthesizer
from . import method
from .inputs import DonorLike, as_donors

SQUARE = (
    "grey volumes and pairs in both directions are not here: every image, of any channels, gets "
    "its patch from a donor"
)


def square(half: float | Range, margin: float) -> masks.CutPatch:
    """The square of FPI and PII: about a centre away from the edge, cut at the edge."""
    low, high = (half, half) if isinstance(half, (int, float)) else half
    return masks.CutPatch(
        bounds=((low, high), (low, high)), gamma=None, resize=None, square=True, margin=margin,
        shift=False, ring=0, least=1,
    )  # fmt: skip


@method(
    "fpi",
    family="self-contained",
    paper="Tan, Hou, Batten, Qiu, Kainz: Foreign Patch Interpolation, 2020 (arXiv 2011.04197)",
    matches="the official code: the square's law, and labels that are the donor's weight",
    deviations=(SQUARE, "integer images are rounded before pixels are compared for the label"),
    defects=("subtle change of texture", "contamination", "misplaced part"),
    surfaces=("texture", "aligned object"),
    needs=("donors",),
)
def fpi(
    *,
    donors: DonorLike | None = None,
    p: float = 1.0,
    half: float | tuple[float, float] = (0.05, 0.2),
    margin: float = 0.1,
    opacity: float | tuple[float, float] = (0.05, 0.95),
    label: str = "soft",
    label_rule: str = "changed",
    tolerance: float = 0.0,
    **common: Any,
) -> Synthesizer:
    """A square of another image over the same place, with one weight, which is the label.

    Args:
        donors: Normal images: a DonorBank, a folder or a tensor.
        p: P(anomalous); the published code changes every image.
        half: Half side, a share of the image's shorter side.
        margin: Share of the image's sides that the centre keeps from every edge.
        opacity: Weight of the donor.
        label: ``"soft"``: the mask is the weight; ``"hard"``: 1.
        label_rule: ``"changed"``: only pixels that differ; ``"footprint"``: all of the square.
        tolerance: Least difference, as a share of white.
        common: Keywords of :class:`anoaug.Synthesizer`.
    """
    source = sources.Donor(as_donors(donors), place="same")  # type: ignore[arg-type]
    layer = Layer(square(half, margin), source, blends.Opacity(opacity))
    return Synthesizer(
        layer, p=p, label=label, label_rule=label_rule, tolerance=tolerance, **common
    )
