"""GLASS's image branch (local anomaly synthesis): two Perlin fields, textures, normal opacity."""

from __future__ import annotations

from typing import Any

from .. import blends, masks, sources
from ..binding import Layer
from ..photometric import RandomOps
from ..synthesizer import Synthesizer
from . import method
from .inputs import TextureLike, as_textures

GLASS_OPS = RandomOps.glass()


@method(
    "glass_las",
    family="external",
    paper="Chen, Luo, Lv, Zhang: GLASS, ECCV 2024 (arXiv 2407.09359)",
    matches=(
        "the official code: either of two Perlin masks, both, or the first, a third each; 3 of 9 "
        "texture ops; weight of the image N(0.5, 0.1) clipped to [0.2, 0.8], on every sample"
    ),
    deviations=(
        "an empty mask makes the sample normal, about one in eleven; the code draws again until "
        "there is one",
        "the foreground is yours to choose: foreground= takes the code's masks through "
        "anoaug.prepare.Cached.from_folder",
        "the mask has the image's size; the code trains on its 8 x 8 maximum "
        "(torch.nn.functional.max_pool2d(mask, 8))",
        "textures are stretched over the image, or cropped as the bank was made (resize='crop' is "
        "the code's), and turned bilinearly instead of to the nearest pixel",
        "the noise is turned exactly; geometry comes before the pointwise ops",
        "any image size: the code needs a multiple of the lattice",
    ),
    defects=("contamination", "stain", "texture change", "foreign material"),
    surfaces=("texture", "object"),
    needs=("textures",),
)
def glass_las(
    *,
    textures: TextureLike = None,
    p: float = 1.0,
    log2_cells: tuple[int, int] = (0, 5),
    threshold: float | tuple[float, float] = 0.5,
    rotation: float | tuple[float, float] = (-90.0, 90.0),
    rotation_fill: str = "zero",
    odds: tuple[float, float, float] = (1.0, 1.0, 1.0),
    opacity: float | tuple[float, float] = (0.2, 0.8),
    std: float | None = 0.1,
    ops: RandomOps | None = GLASS_OPS,
    detail: blends.Detailed | None = None,
    **common: Any,
) -> Synthesizer:
    """Two Perlin masks joined as drawn, texture with 3 of 9 ops, one opacity per sample.

    Args:
        textures: A TextureBank, a folder, a tensor, or None for procedural textures.
        p: P(anomalous) before empty masks are counted as normal.
        log2_cells: See :class:`anoaug.masks.Perlin`, likewise the next three; for both fields.
        threshold: Noise above it is anomalous.
        rotation: Degrees.
        rotation_fill: ``"zero"`` or ``"continue"``.
        odds: Of inside either field, inside both, and the first alone.
        opacity: Bounds of the texture's weight.
        std: Standard deviation of the weight about the middle of its bounds; None: uniform.
        ops: Texture ops, or None.
        detail: Coarse to fine, see :class:`anoaug.blends.Detail`; None: off.
        common: Keywords of :class:`anoaug.Synthesizer`.
    """
    field = masks.Perlin(log2_cells, threshold, rotation, rotation_fill)
    source = sources.Texture(as_textures(textures), ops)
    blend = blends.Opacity(opacity, std=std, detail=detail)
    return Synthesizer(Layer(masks.joined(field, field, odds), source, blend), p=p, **common)
