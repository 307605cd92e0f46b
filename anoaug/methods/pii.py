"""PII: a square of another image, its gradients mixed in at the same place (MICCAI 2021)."""

from __future__ import annotations

from typing import Any

from .. import blends, sources
from ..binding import Layer
from ..synthesizer import Synthesizer
from . import method
from .fpi import SQUARE, square
from .inputs import DonorLike, as_donors


@method(
    "pii",
    family="self-contained",
    paper="Tan, Hou, Day, Simpson, Rueckert, Kainz: Poisson Image Interpolation (PII), MICCAI 2021 "
    "(arXiv 2107.02622)",
    matches=(
        "the official code: per pair of neighbours the donor's weighted gradient, or the image's "
        "own where that is stronger; solved exactly; labels that are the donor's weight"
    ),
    deviations=(
        SQUARE,
        "solved by sine transforms on the square, where the code solves a sparse system of the "
        "whole image: the same equation",
        "integer images are rounded",
    ),
    defects=("subtle change of texture", "misplaced part", "deformation"),
    surfaces=("texture", "aligned object"),
    needs=("donors",),
)
def pii(
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
    """A square in which the image's gradients and another image's are mixed and integrated.

    Args:
        donors: Normal images: a DonorBank, a folder or a tensor.
        p: P(anomalous); the published code changes every image.
        half: Half side, a share of the image's shorter side.
        margin: Share of the image's sides that the centre keeps from every edge.
        opacity: Weight of the donor's gradients, which is the label.
        label: ``"soft"``: the mask is the weight; ``"hard"``: 1.
        label_rule: ``"changed"``: only pixels that differ; ``"footprint"``: all of the square.
        tolerance: Least difference, as a share of white.
        common: Keywords of :class:`anoaug.Synthesizer`.
    """
    source = sources.Donor(as_donors(donors), place="same")  # type: ignore[arg-type]
    blend = blends.Opacity(opacity, mix="replace")
    layer = Layer(square(half, margin), sources.PoissonInterpolation(source), blend)
    return Synthesizer(
        layer, p=p, label=label, label_rule=label_rule, tolerance=tolerance, **common
    )
