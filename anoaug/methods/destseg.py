"""DeSTSeg: DRAEM's masks with untouched textures on every sample (Zhang et al., CVPR 2023)."""

from __future__ import annotations

from typing import Any

from .. import blends
from ..synthesizer import Synthesizer
from ..turning import turned
from . import method
from .draem import draem
from .inputs import TextureLike

# The grey that the published loader fills with.
_FILL = 114 / 255
_TURNED: dict[str, dict[str, Any]] = {
    category: {"normal_transform": transform} if transform else {}
    for transform, categories in (
        (
            turned((-5.0, 5.0), quarters=True, fill=_FILL),
            ("bottle", "carpet", "grid", "hazelnut", "leather", "screw", "tile"),
        ),
        (turned((-5.0, 5.0), fill=_FILL), ("cable", "wood", "zipper")),
        (None, ("capsule", "metal_nut", "pill", "toothbrush", "transistor")),
    )
    for category in categories
}


@method(
    "destseg",
    family="external",
    paper="Zhang, Li, Li et al.: DeSTSeg, CVPR 2023 (arXiv 2211.11317)",
    matches="the official code: every sample anomalous, no texture ops, DRAEM's opacity",
    deviations=(
        "an empty mask makes the sample normal; the original keeps its label",
        "the exact Perlin field at any size; the original resizes gradient tiles",
        "the normal image is turned by category in anoaug.ByCategory('destseg') alone; else give "
        "normal_transform=",
    ),
    defects=("contamination", "stain", "texture change", "foreign material"),
    surfaces=("texture", "object"),
    needs=("textures",),
    categories=_TURNED,
)
def destseg(
    *,
    textures: TextureLike = None,
    p: float = 1.0,
    log2_cells: tuple[int, int] = (0, 5),
    threshold: float | tuple[float, float] = 0.5,
    rotation: float | tuple[float, float] = (-90.0, 90.0),
    rotation_fill: str = "zero",
    opacity: float | tuple[float, float] = (0.2, 1.0),
    detail: blends.Detailed | None = None,
    **common: Any,
) -> Synthesizer:
    """Perlin mask, plain texture, one opacity per sample; arguments as in ``draem``."""
    return draem(
        textures=textures, p=p, log2_cells=log2_cells, threshold=threshold, rotation=rotation,
        rotation_fill=rotation_fill, opacity=opacity, ops=None, detail=detail,
        **common,
    )  # fmt: skip
